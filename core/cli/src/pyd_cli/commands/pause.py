"""`pyd pause`, `pyd unpause`."""

from __future__ import annotations

from pyd_cli.command import UNLIMITED, Action, Command
from pyd_cli.each import each
from pyd_cli.flags import Options
from pyd_cli.session import Session


def doing(verb: str) -> Action:
    def execute(session: Session, _options: Options, args: list[str]) -> int:
        def one(name: str) -> None:
            session.api.call("POST", f"/containers/{name}/{verb}").close()

        return each(session, args, one)

    return execute


pause = Command(
    "pause",
    "CONTAINER [CONTAINER...]",
    "Pause all processes within one or more containers",
    doing("pause"),
    count=(1, UNLIMITED),
    aliases=("pyd container pause", "pyd pause"),
)
unpause = Command(
    "unpause",
    "CONTAINER [CONTAINER...]",
    "Unpause all processes within one or more containers",
    doing("unpause"),
    count=(1, UNLIMITED),
    aliases=("pyd container unpause", "pyd unpause"),
)
