"""`pyd network rules`."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from pyd_cli.command import Command
from pyd_cli.errors import CliError
from pyd_cli.flags import Flag, Options
from pyd_cli.session import Session

_PORT = re.compile(r"[0-9]{1,5}(/[a-z]+)?")


def execute(session: Session, options: Options, args: list[str]) -> None:
    if options["format"] not in ("", "json"):
        raise CliError(f"invalid --format {options['format']!r}: json is possible, or nothing for text")
    query = {}
    if args:
        query["port" if _PORT.fullmatch(args[0]) else "container"] = args[0]
    found = session.api.get("/pyd/rules", query)
    if options["format"] == "json":
        from json import dumps

        session.say(dumps(found))
        return
    session.write("".join(line + "\n" for each in found["Containers"] for line in lines(each)))


def lines(container: dict[str, Any]) -> Iterator[str]:
    """A container's part: each passage with its reason, and below it the command that shows the rule."""
    for network in container["Networks"]:
        yield f"{container['Name']} on network {network['Name']} ({network['Driver']})"
        for each in network["Passages"]:
            yield f"  {'yes' if each['Allowed'] else 'no '}  {each['Sender']} -> {each['Target']}: {each['Reason']}"
            if each["Rule"]:
                yield f"         {each['Rule']}"


rules = Command(
    "rules",
    "[CONTAINER|PORT]",
    "Explain which rules let packets in to containers",
    execute,
    (Flag("format", "", "string", "'json' prints what the daemon says"),),
    (0, 1),
)
