"""`pyd rmi`."""

from __future__ import annotations

from pyd_cli.command import UNLIMITED, Command
from pyd_cli.errors import ApiError, CliError, Unreachable
from pyd_cli.flags import Flag, Options
from pyd_cli.session import Session

FLAGS = (
    Flag("force", "f", "bool", "Force removal of the image"),
    Flag("no-prune", "", "bool", "Do not delete untagged parents"),
)


def execute(session: Session, options: Options, args: list[str]) -> int:
    query = {"force": options["force"], "noprune": options["no-prune"]}
    faults: list[str] = []
    fatal = False
    for name in args:
        try:
            removed = session.api.delete(f"/images/{name}", query)
        except Unreachable:
            raise
        except CliError as fault:
            faults.append(str(fault))
            fatal = fatal or not (isinstance(fault, ApiError) and fault.status == 404)
            continue
        for item in removed or []:
            session.say(f"Deleted: {item['Deleted']}" if item.get("Deleted") else f"Untagged: {item['Untagged']}")
    if faults:
        session.complain("\n".join(faults))
    return 1 if faults and (fatal or not options["force"]) else 0


rmi = Command(
    "rmi",
    "[OPTIONS] IMAGE [IMAGE...]",
    "Remove one or more images",
    execute,
    FLAGS,
    (1, UNLIMITED),
    ("pyd image rm", "pyd image remove", "pyd rmi"),
)
