"""`pyd commit`."""

from __future__ import annotations

from pyd_cli.command import Command
from pyd_cli.flags import Flag, Options
from pyd_cli.references import parse
from pyd_cli.session import Session

FLAGS = (
    Flag("author", "a", "string", 'Author (e.g., "John Hannibal Smith <hannibal@a-team.com>")'),
    Flag("change", "c", "list", "Apply Dockerfile instruction to the created image"),
    Flag("message", "m", "string", "Commit message"),
    Flag("pause", "p", "bool", "Pause container during commit", True),
)


def execute(session: Session, options: Options, args: list[str]) -> None:
    repository = tag = ""
    if len(args) > 1 and args[1]:
        reference = parse(args[1])
        repository, tag = reference.familiar, reference.tag or "latest"
    query = {
        "container": args[0],
        "repo": repository,
        "tag": tag,
        "comment": options["message"],
        "author": options["author"],
        "changes": options["change"],
        "pause": None if options["pause"] else "0",
    }
    session.say(session.api.post("/commit", query)["Id"])


commit = Command(
    "commit",
    "[OPTIONS] CONTAINER [REPOSITORY[:TAG]]",
    "Create a new image from a container's changes",
    execute,
    FLAGS,
    (1, 2),
    ("pyd container commit", "pyd commit"),
)
