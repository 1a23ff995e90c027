"""`pyd system check`: is everything there that is recorded, and recorded that is there. Only pydd has it.

The exit status is 1 when something is left to be done.
"""

from __future__ import annotations

from typing import Any

from pyd_cli import units
from pyd_cli.command import FORMAT_F, Command
from pyd_cli.commands.version import templated
from pyd_cli.errors import ApiError, CliError
from pyd_cli.flags import Flag, Options
from pyd_cli.session import Session
from pyd_cli.tables import escaped


def execute(session: Session, options: Options, _args: list[str]) -> int:
    try:
        found = session.api.post("/pyd/check", {"repair": options["repair"]})
    except ApiError as fault:
        if fault.status != 404:
            raise
        raise CliError("this daemon does not check itself (only pydd does)") from None
    if options["format"]:
        session.write(templated(options["format"], found))
    else:
        session.write(shown(found))
    return 0 if all(each["Done"] for each in found["Findings"]) else 1


def shown(found: dict[str, Any]) -> str:
    """One line for each finding, and one for what was looked at."""
    text = ""
    for each in found["Findings"]:
        done = f" [{each['Done']}]" if each["Done"] else ""
        text += escaped(f"{each['What']} {each['About']}: {each['Text']}{done}") + "\n"
    stores = ", ".join(f"{count} snapshots in {name}" for name, count in sorted(found["Snapshots"].items()))
    text += (
        f"{found['Blobs']} blobs ({units.human_size(found['Bytes'])}), {found['Images']} images, "
        f"{found['Containers']} containers, {stores}: "
    )
    return text + ("clean\n" if found["Clean"] else f"{len(found['Findings'])} findings\n")


check = Command(
    "check",
    "[OPTIONS]",
    "Hold what is stored against what is recorded",
    execute,
    (FORMAT_F, Flag("repair", "", "bool", "Remove what nobody needs and set damaged blobs aside")),
)
