"""`pyd plugin`: the composition report, which says of every installed driver and plugin what became of it.

It is part of `GET /info`; only pydd has it.
"""

from __future__ import annotations

import json
from typing import Any

from pyd_cli.command import FORMAT, FORMAT_F, UNLIMITED, Command
from pyd_cli.commands.inspect import show
from pyd_cli.errors import CliError
from pyd_cli.flags import Flag, Options
from pyd_cli.listing import listing
from pyd_cli.session import Session

HEADERS = {
    "Kind": "KIND", "Name": "NAME", "Distribution": "DISTRIBUTION", "Version": "VERSION", "State": "STATE",
    "Default": "DEFAULT", "Capabilities": "CAPABILITIES", "Reason": "REASON",
}  # fmt: skip
COLUMNS = ("Kind", "Name", "Distribution", "Version", "State", "Default", "Reason")


def report(session: Session) -> list[dict[str, Any]]:
    """The entries of the composition report."""
    found = (session.api.get("/info") or {}).get("Drivers")
    if not isinstance(found, list):
        raise CliError("this daemon does not report its drivers and plugins (only pydd does)")
    return found


def full_name(entry: dict[str, Any]) -> str:
    return f"{entry.get('Kind', '')}/{entry.get('Name', '')}"


def execute_ls(session: Session, options: Options, _args: list[str]) -> None:
    entries = report(session)
    if options["quiet"]:
        session.write("".join(full_name(entry) + "\n" for entry in entries))
        return
    rows = [
        {
            **{name: str(entry.get(name) or "") for name in HEADERS},
            "Default": "yes" if entry.get("Default") else "",
            "Capabilities": ",".join(entry.get("Capabilities") or []),
        }
        for entry in entries
    ]
    session.write(listing(rows, options["format"], COLUMNS, HEADERS, "*formatter.pluginContext"))


def execute_inspect(session: Session, options: Options, args: list[str]) -> int:
    entries = report(session)

    def get(name: str) -> bytes:
        found = [entry for entry in entries if name in (entry.get("Name"), full_name(entry), entry.get("Distribution"))]
        if not found:
            raise CliError(f"Error: no driver or plugin {name!r} is installed ('pyd plugin ls' lists them)")
        if len(found) > 1:
            kinds = ", ".join(full_name(entry) for entry in found)
            raise CliError(f"Error: {name!r} is ambiguous: say one of {kinds}")
        return json.dumps(found[0], ensure_ascii=False).encode()

    return show(session, get, args, options["format"])


ls = Command(
    "ls",
    "[OPTIONS]",
    "List the installed drivers and plugins, and what became of each",
    execute_ls,
    (FORMAT, Flag("quiet", "q", "bool", "Only display names, as KIND/NAME")),
    aliases=("pyd plugin ls", "pyd plugin list"),
)
inspect = Command(
    "inspect",
    "[OPTIONS] NAME|KIND/NAME [NAME|KIND/NAME...]",
    "Display what is known of one or more drivers and plugins",
    execute_inspect,
    (FORMAT_F,),
    (1, UNLIMITED),
)
