"""`pyd wait`."""

from __future__ import annotations

from pyd_cli.attaching import exit_status, start_waiting
from pyd_cli.command import UNLIMITED, Command
from pyd_cli.each import each
from pyd_cli.flags import Options
from pyd_cli.session import Session


def execute(session: Session, _options: Options, args: list[str]) -> int:
    def one(name: str) -> str:
        return str(exit_status(session, name, start_waiting(session, name, "")))

    return each(session, args, one)


wait = Command(
    "wait",
    "CONTAINER [CONTAINER...]",
    "Block until one or more containers stop, then print their exit codes",
    execute,
    count=(1, UNLIMITED),
    aliases=("pyd container wait", "pyd wait"),
)
