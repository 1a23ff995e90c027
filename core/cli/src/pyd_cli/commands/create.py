"""`pyd create`."""

from __future__ import annotations

from pyd_cli import creating
from pyd_cli.command import UNLIMITED, Command
from pyd_cli.errors import ApiError, CliError, Unreachable
from pyd_cli.flags import Options
from pyd_cli.run_flags import SHARED
from pyd_cli.session import Session


def execute(session: Session, options: Options, args: list[str]) -> None:
    try:
        identity, _ = creating.create(session, options, args)
    except (ApiError, Unreachable):
        raise
    except CliError as fault:
        raise CliError(f"pyd: {fault}\n\nRun 'pyd create --help' for more information", 125) from None
    session.say(identity)


create = Command(
    "create",
    "[OPTIONS] IMAGE [COMMAND] [ARG...]",
    "Create a new container",
    execute,
    SHARED,
    (1, UNLIMITED),
    ("pyd container create", "pyd create"),
    interspersed=False,
)
