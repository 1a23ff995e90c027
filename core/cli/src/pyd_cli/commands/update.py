"""`pyd update`."""

from __future__ import annotations

from typing import Any

from pyd_cli.command import UNLIMITED, Command
from pyd_cli.each import each
from pyd_cli.errors import CliError
from pyd_cli.flags import Options
from pyd_cli.run_flags import SHARED
from pyd_cli.run_options import SIMPLE_HOST
from pyd_cli.run_values import restart_policy
from pyd_cli.session import Session

NAMES = (
    "blkio-weight", "cpu-period", "cpu-quota", "cpu-rt-period", "cpu-rt-runtime", "cpu-shares", "cpus", "cpuset-cpus",
    "cpuset-mems", "memory", "memory-reservation", "memory-swap", "pids-limit", "restart",
)  # fmt: skip
FLAGS = tuple(flag for flag in SHARED if flag.name in NAMES)


def execute(session: Session, options: Options, args: list[str]) -> int:
    given = [name for name in NAMES if options.was_given(name)]
    if not given:
        raise CliError("you must provide one or more flags when using this command")
    body: dict[str, Any] = {SIMPLE_HOST[name]: options[name] for name in given if name != "restart"}
    if "restart" in given:
        body["RestartPolicy"] = restart_policy(options["restart"])
    warnings: list[str] = []

    def one(name: str) -> None:
        result = session.api.post(f"/containers/{name}/update", None, body) or {}
        warnings.extend(result.get("Warnings") or [])

    status = each(session, args, one)
    if warnings:
        session.complain("\n".join(warnings))
    return status


update = Command(
    "update",
    "[OPTIONS] CONTAINER [CONTAINER...]",
    "Update configuration of one or more containers",
    execute,
    FLAGS,
    (1, UNLIMITED),
    ("pyd container update", "pyd update"),
)
