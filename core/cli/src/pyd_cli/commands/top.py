"""`pyd top`."""

from __future__ import annotations

from pyd_cli.command import UNLIMITED, Command
from pyd_cli.flags import Options
from pyd_cli.session import Session
from pyd_cli.tables import aligned, escaped


def execute(session: Session, _options: Options, args: list[str]) -> None:
    shown = session.api.get(f"/containers/{args[0]}/top", {"ps_args": " ".join(args[1:])})
    lines = [shown["Titles"], *([escaped(cell) for cell in process] for process in shown["Processes"] or [])]
    # every cell is ended by a tab, the last one too, as in docker's: that is why the lines end in blanks there
    session.write("".join(line.rstrip() + "\n" for line in aligned(lines, min_width=20)))


top = Command(
    "top",
    "CONTAINER [ps OPTIONS]",
    "Display the running processes of a container",
    execute,
    count=(1, UNLIMITED),
    aliases=("pyd container top", "pyd top"),
    interspersed=False,
)
