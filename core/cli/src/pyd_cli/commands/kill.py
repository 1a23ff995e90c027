"""`pyd kill`."""

from __future__ import annotations

from pyd_cli.command import UNLIMITED, Command
from pyd_cli.each import each
from pyd_cli.flags import Flag, Options
from pyd_cli.session import Session


def execute(session: Session, options: Options, args: list[str]) -> int:
    def one(name: str) -> None:
        session.api.call("POST", f"/containers/{name}/kill", {"signal": options["signal"]}).close()

    return each(session, args, one)


kill = Command(
    "kill",
    "[OPTIONS] CONTAINER [CONTAINER...]",
    "Kill one or more running containers",
    execute,
    (Flag("signal", "s", "string", "Signal to send to the container"),),
    (1, UNLIMITED),
    ("pyd container kill", "pyd kill"),
)
