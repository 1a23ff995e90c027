"""`pyd stop`, `pyd restart`."""

from __future__ import annotations

from pyd_cli.command import UNLIMITED, Action, Command
from pyd_cli.each import each
from pyd_cli.flags import Flag, Options
from pyd_cli.session import Session

FLAGS = (
    Flag("signal", "s", "string", "Signal to send to the container"),
    Flag("time", "", "int", "Seconds to wait before killing the container (deprecated: use --timeout)", hidden=True),
    Flag("timeout", "t", "int", "Seconds to wait before killing the container"),
)


def doing(verb: str) -> Action:
    def execute(session: Session, options: Options, args: list[str]) -> int:
        timeout = next((options[name] for name in ("timeout", "time") if options.was_given(name)), None)
        query = {"signal": options["signal"], "t": timeout}

        def one(name: str) -> None:
            session.api.call("POST", f"/containers/{name}/{verb}", query).close()

        return each(session, args, one)

    return execute


stop = Command(
    "stop",
    "[OPTIONS] CONTAINER [CONTAINER...]",
    "Stop one or more running containers",
    doing("stop"),
    FLAGS,
    (1, UNLIMITED),
    ("pyd container stop", "pyd stop"),
)
restart = Command(
    "restart",
    "[OPTIONS] CONTAINER [CONTAINER...]",
    "Restart one or more containers",
    doing("restart"),
    FLAGS,
    (1, UNLIMITED),
    ("pyd container restart", "pyd restart"),
)
