"""`pyd start`."""

from __future__ import annotations

from pyd_cli import attaching
from pyd_cli.api import Query
from pyd_cli.command import DETACH_KEYS, UNLIMITED, Command
from pyd_cli.errors import ApiError, CliError, Unreachable
from pyd_cli.flags import Flag, Options
from pyd_cli.session import Session

FLAGS = (
    Flag("attach", "a", "bool", "Attach STDOUT/STDERR and forward signals"),
    DETACH_KEYS,
    Flag("interactive", "i", "bool", "Attach container's STDIN"),
)


def execute(session: Session, options: Options, args: list[str]) -> int:
    if options["attach"] or options["interactive"]:
        if len(args) > 1:
            raise CliError("you cannot start and attach multiple containers at once")
        return start_attached(session, options, args[0])
    failed: list[str] = []
    for name in args:
        try:
            session.api.call("POST", f"/containers/{name}/start").close()
            session.say(name)
        except Unreachable:
            raise
        except ApiError as fault:
            session.complain(fault)
            failed.append(name)
    if failed:
        raise CliError(f"Error: failed to start containers: {', '.join(failed)}")
    return 0


def start_attached(session: Session, options: Options, name: str) -> int:
    keys_text, keys = attaching.detach_keys(session, options["detach-keys"])
    container = session.api.get(f"/containers/{name}/json")
    identity, config = container["Id"], container["Config"]
    tty = bool(config.get("Tty"))
    stdin = bool(options["interactive"] and config.get("OpenStdin"))
    if not tty:
        attaching.proxy_signals(session, identity)
    query: Query = {"stream": True, "stdin": stdin, "stdout": True, "stderr": True, "detachKeys": keys_text}
    attached = session.api.hijack(f"/containers/{identity}/attach", query)
    removes = bool((container.get("HostConfig") or {}).get("AutoRemove"))
    waiting = attaching.start_waiting(session, identity, "removed" if removes else "next-exit")

    def begin() -> None:
        session.api.call("POST", f"/containers/{identity}/start").close()

    if attaching.exchange(session, attached, f"/containers/{identity}", tty, stdin, keys, on_start=begin):
        return 0
    return attaching.exit_status(session, identity, waiting)


start = Command(
    "start",
    "[OPTIONS] CONTAINER [CONTAINER...]",
    "Start one or more stopped containers",
    execute,
    FLAGS,
    (1, UNLIMITED),
    ("pyd container start", "pyd start"),
)
