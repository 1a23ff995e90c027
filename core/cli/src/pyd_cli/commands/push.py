"""`pyd push`."""

from __future__ import annotations

import sys

from pyd_cli.command import PLATFORM, Command
from pyd_cli.errors import CliError
from pyd_cli.flags import Flag, Options
from pyd_cli.progress import drain, show
from pyd_cli.pulling import push_messages
from pyd_cli.references import parse
from pyd_cli.session import Session

FLAGS = (
    Flag("all-tags", "a", "bool", "Push all tags of an image to the repository"),
    Flag("disable-content-trust", "", "bool", "Skip image signing", True, hidden=True),
    PLATFORM,
    Flag("quiet", "q", "bool", "Suppress verbose output"),
)


def execute(session: Session, options: Options, args: list[str]) -> None:
    reference = parse(args[0])
    if options["all-tags"] and reference.tag:
        raise CliError("tag can't be used with --all-tags/-a")
    if not options["all-tags"] and not reference.tag:
        reference.tag = "latest"
        if not options["quiet"]:
            session.say("Using default tag: latest")
    stream = push_messages(session, args[0], options["all-tags"], options["platform"])
    if options["quiet"]:
        drain(stream)
        tag = f":{reference.tag}" if reference.tag else ""
        session.say(f"{reference.domain}/{reference.path}{tag}")
        return
    show(stream, sys.stdout)


push = Command(
    "push",
    "[OPTIONS] NAME[:TAG]",
    "Upload an image to a registry",
    execute,
    FLAGS,
    (1, 1),
    ("pyd image push", "pyd push"),
)
