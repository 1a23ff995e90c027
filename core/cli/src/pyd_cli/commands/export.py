"""`pyd export`."""

from __future__ import annotations

from pyd_cli.command import Command
from pyd_cli.files import save as save_to
from pyd_cli.flags import Flag, Options
from pyd_cli.session import Session


def execute(session: Session, options: Options, args: list[str]) -> None:
    response = session.api.call("GET", f"/containers/{args[0]}/export")
    try:
        save_to(options["output"], response.chunks(), "container")
    finally:
        response.close()


export = Command(
    "export",
    "[OPTIONS] CONTAINER",
    "Export a container's filesystem as a tar archive",
    execute,
    (Flag("output", "o", "string", "Write to a file, instead of STDOUT"),),
    (1, 1),
    ("pyd container export", "pyd export"),
)
