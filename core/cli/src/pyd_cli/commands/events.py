"""`pyd events`."""

from __future__ import annotations

import sys
import time
from typing import Any

from pyd_cli.command import FILTER, FORMAT_F, Command
from pyd_cli.commands.logs import moment
from pyd_cli.errors import CliError
from pyd_cli.flags import Flag, Options
from pyd_cli.listing import filters, unescaped
from pyd_cli.session import Session
from pyd_cli.tables import escaped

FLAGS = (
    FILTER,
    Flag("format", "", FORMAT_F.kind, FORMAT_F.help),
    Flag("since", "", "string", "Show all events created since timestamp"),
    Flag("until", "", "string", "Stream events until this timestamp"),
)


def line(event: dict[str, Any]) -> str:
    """`2026-11-23T19:10:30.176661489Z image tag sha256:… (name=bb:1)`."""
    nanos = event.get("timeNano") or int(event.get("time") or 0) * 10**9
    parts = time.localtime(nanos // 10**9)
    zone = time.strftime("%z", parts)
    zone = "Z" if zone == "+0000" else f"{zone[:3]}:{zone[3:]}"
    actor = event.get("Actor") or {}
    text = f"{time.strftime('%Y-%m-%dT%H:%M:%S', parts)}.{nanos % 10**9:09d}{zone} "
    text += f"{event.get('Type', '')} {event.get('Action', '')} {actor.get('ID', '')}"
    attributes = ", ".join(f"{key}={value}" for key, value in sorted((actor.get("Attributes") or {}).items()))
    return escaped(f"{text} ({attributes})" if attributes else text)


def execute(session: Session, options: Options, _args: list[str]) -> None:
    form = options["format"]
    template = None
    if form and form != "json":
        from pyd_cli.template_exec import Template, TemplateError

        try:
            template = Template(unescaped(form), type_name="*events.Message")
        except TemplateError as fault:
            raise CliError(f"Error parsing format: {fault}", 64) from None
    query = {
        "since": moment(options, "since"),
        "until": moment(options, "until"),
        "filters": filters(options["filter"]),
    }
    for event in session.api.stream("GET", "/events", query):
        if form == "json":
            from pyd_cli.template_values import as_json

            text = as_json(event)
        elif template is not None:
            try:
                text = template.execute(as_go(event))
            except CliError as fault:
                raise CliError(f"Error parsing format: {fault}") from None
        else:
            text = line(event)
        session.say(text)
        sys.stdout.flush()


def as_go(event: dict[str, Any]) -> dict[str, Any]:
    """The event with its fields under the names Go's struct has for them."""
    names = {"status": "Status", "id": "ID", "from": "From", "scope": "Scope", "time": "Time", "timeNano": "TimeNano"}
    return {**dict.fromkeys(("Status", "ID", "From"), ""), **{names.get(key, key): item for key, item in event.items()}}


events = Command(
    "events",
    "[OPTIONS]",
    "Get real time events from the server",
    execute,
    FLAGS,
    aliases=("pyd system events", "pyd events"),
)
