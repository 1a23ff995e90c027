"""`pyd load`."""

from __future__ import annotations

import sys

from pyd_cli.api import json_objects
from pyd_cli.command import Command
from pyd_cli.errors import CliError
from pyd_cli.files import opened
from pyd_cli.flags import Flag, Options
from pyd_cli.progress import show
from pyd_cli.session import Session

FLAGS = (
    Flag("input", "i", "string", "Read from tar archive file, instead of STDIN"),
    Flag("quiet", "q", "bool", "Suppress the load output"),
)


def execute(session: Session, options: Options, _args: list[str]) -> None:
    if not options["input"] and sys.stdin.isatty():
        raise CliError("requested load from stdin, but stdin is empty")
    quiet = options["quiet"] or not sys.stdout.isatty()
    with opened(options["input"] or "-") as file:
        response = session.api.call("POST", "/images/load", {"quiet": "1" if quiet else "0"}, file)
        if "json" in response.headers.get("content-type", "application/json"):
            show(json_objects(response), sys.stdout)
        else:
            session.write(response.read().decode("utf-8", "replace"))
        response.close()


load = Command(
    "load",
    "[OPTIONS]",
    "Load an image from a tar archive or STDIN",
    execute,
    FLAGS,
    aliases=("pyd image load", "pyd load"),
)
