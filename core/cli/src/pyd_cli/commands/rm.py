"""`pyd rm`."""

from __future__ import annotations

from pyd_cli.command import UNLIMITED, Command
from pyd_cli.errors import ApiError, CliError, Unreachable
from pyd_cli.flags import Flag, Options
from pyd_cli.session import Session

FLAGS = (
    Flag("force", "f", "bool", "Force the removal of a running container (uses SIGKILL)"),
    Flag("link", "l", "bool", "Remove the specified link"),
    Flag("volumes", "v", "bool", "Remove anonymous volumes associated with the container"),
)


def execute(session: Session, options: Options, args: list[str]) -> int:
    query = {"v": options["volumes"], "link": options["link"], "force": options["force"]}
    status = 0
    for argument in args:
        name = argument.strip("/")
        try:
            if not name:
                raise CliError("container name cannot be empty")
            session.api.call("DELETE", f"/containers/{name}", query).close()
            session.say(argument)
        except Unreachable:
            raise
        except CliError as fault:
            session.complain(fault)
            # with --force what is not there is as good as removed: the message stays, the failure does not
            if not (options["force"] and isinstance(fault, ApiError) and fault.status == 404):
                status = 1
    return status


rm = Command(
    "rm",
    "[OPTIONS] CONTAINER [CONTAINER...]",
    "Remove one or more containers",
    execute,
    FLAGS,
    (1, UNLIMITED),
    ("pyd container rm", "pyd container remove", "pyd rm"),
)
