"""`pyd rename`."""

from __future__ import annotations

from pyd_cli.command import Command
from pyd_cli.errors import ApiError, CliError
from pyd_cli.flags import Options
from pyd_cli.session import Session


def execute(session: Session, _options: Options, args: list[str]) -> None:
    old, new = (text.strip() for text in args)
    if not old or not new:
        raise CliError("Error: Neither old nor new names may be empty")
    try:
        session.api.call("POST", f"/containers/{old}/rename", {"name": new}).close()
    except ApiError as fault:
        session.complain(fault)
        raise CliError(f"Error: failed to rename container named {old}") from fault


rename = Command(
    "rename",
    "CONTAINER NEW_NAME",
    "Rename a container",
    execute,
    count=(2, 2),
    aliases=("pyd container rename", "pyd rename"),
)
