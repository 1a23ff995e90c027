"""`pyd save`."""

from __future__ import annotations

from pyd_cli.command import UNLIMITED, Command
from pyd_cli.files import save as save_to
from pyd_cli.flags import Flag, Options
from pyd_cli.session import Session


def execute(session: Session, options: Options, args: list[str]) -> None:
    response = session.api.call("GET", "/images/get", {"names": args})
    try:
        save_to(options["output"], response.chunks(), "image")
    finally:
        response.close()


save = Command(
    "save",
    "[OPTIONS] IMAGE [IMAGE...]",
    "Save one or more images to a tar archive (streamed to STDOUT by default)",
    execute,
    (Flag("output", "o", "string", "Write to a file, instead of STDOUT"),),
    (1, UNLIMITED),
    ("pyd image save", "pyd save"),
)
