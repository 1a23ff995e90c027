"""`pyd tag`."""

from __future__ import annotations

from pyd_cli.command import Command
from pyd_cli.errors import CliError
from pyd_cli.flags import Options
from pyd_cli.references import parse
from pyd_cli.session import Session


def execute(session: Session, _options: Options, args: list[str]) -> None:
    try:
        target = parse(args[1])
    except CliError as fault:
        raise CliError(f'Error parsing reference: "{args[1]}" is not a valid repository/tag: {fault}') from None
    if target.digest:
        raise CliError("refusing to create a tag with a digest reference")
    query = {"repo": target.familiar, "tag": target.tag or "latest"}
    session.api.call("POST", f"/images/{args[0]}/tag", query).close()


tag = Command(
    "tag",
    "SOURCE_IMAGE[:TAG] TARGET_IMAGE[:TAG]",
    "Create a tag TARGET_IMAGE that refers to SOURCE_IMAGE",
    execute,
    count=(2, 2),
    aliases=("pyd image tag", "pyd tag"),
)
