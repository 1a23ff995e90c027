"""`pyd diff`."""

from __future__ import annotations

from pyd_cli.command import Command
from pyd_cli.flags import Options
from pyd_cli.session import Session
from pyd_cli.tables import escaped

KINDS = "CAD"  # 0 changed, 1 added, 2 deleted


def execute(session: Session, _options: Options, args: list[str]) -> None:
    changes = session.api.get(f"/containers/{args[0]}/changes") or []
    session.write("".join(f"{KINDS[change['Kind']]} {escaped(change['Path'])}\n" for change in changes))


diff = Command(
    "diff",
    "CONTAINER",
    "Inspect changes to files or directories on a container's filesystem",
    execute,
    count=(1, 1),
    aliases=("pyd container diff", "pyd diff"),
)
