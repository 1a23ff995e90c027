"""`pyd import`."""

from __future__ import annotations

import sys
from contextlib import nullcontext
from typing import Any

from pyd_cli.command import PLATFORM, Command
from pyd_cli.files import opened
from pyd_cli.flags import Flag, Options
from pyd_cli.progress import show
from pyd_cli.references import parse
from pyd_cli.session import Session

FLAGS = (
    Flag("change", "c", "list", "Apply Dockerfile instruction to the created image"),
    Flag("message", "m", "string", "Set commit message for imported image"),
    PLATFORM,
)


def execute(session: Session, options: Options, args: list[str]) -> None:
    source, name = args[0], args[1] if len(args) > 1 else ""
    if name:
        parse(name)
    remote = source.startswith(("http://", "https://", "ftp://"))
    query = {
        "fromSrc": source if remote else "-",
        "repo": name,
        "message": options["message"],
        "changes": options["change"],
        "platform": options["platform"],
    }
    body: Any = nullcontext(None) if remote else opened(source)
    with body as file:
        show(session.api.stream("POST", "/images/create", query, file), sys.stdout)


import_ = Command(
    "import",
    "[OPTIONS] file|URL|- [REPOSITORY[:TAG]]",
    "Import the contents from a tarball to create a filesystem image",
    execute,
    FLAGS,
    (1, 2),
    ("pyd image import", "pyd import"),
)
