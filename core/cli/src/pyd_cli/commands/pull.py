"""`pyd pull`."""

from __future__ import annotations

import os
import sys

from pyd_cli.command import PLATFORM, Command
from pyd_cli.errors import CliError
from pyd_cli.flags import Flag, Options
from pyd_cli.progress import drain, show
from pyd_cli.pulling import messages
from pyd_cli.references import parse
from pyd_cli.session import Session

FLAGS = (
    Flag("all-tags", "a", "bool", "Download all tagged images in the repository"),
    Flag("disable-content-trust", "", "bool", "Skip image verification", True, hidden=True),
    PLATFORM,
    Flag("quiet", "q", "bool", "Suppress verbose output"),
)


def execute(session: Session, options: Options, args: list[str]) -> None:
    reference = parse(args[0])
    if options["all-tags"] and (reference.tag or reference.digest):
        raise CliError("tag can't be used with --all-tags/-a")
    if not options["all-tags"] and not reference.tag and not reference.digest:
        reference.tag = "latest"
        if not options["quiet"]:
            session.say("Using default tag: latest")
    platform = options["platform"] or os.environ.get("DOCKER_DEFAULT_PLATFORM", "")
    stream = messages(session, args[0], platform, options["all-tags"])
    if options["quiet"]:
        drain(stream)
    else:
        show(stream, sys.stdout)
    complete = f"{reference.domain}/{reference.path}"
    complete += f":{reference.tag}" if reference.tag else ""
    session.say(complete + (f"@{reference.digest}" if reference.digest else ""))


pull = Command(
    "pull",
    "[OPTIONS] NAME[:TAG|@DIGEST]",
    "Download an image from a registry",
    execute,
    FLAGS,
    (1, 1),
    ("pyd image pull", "pyd pull"),
)
