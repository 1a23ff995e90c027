"""`pyd attach`."""

from __future__ import annotations

from pyd_cli import attaching
from pyd_cli.api import Query
from pyd_cli.command import DETACH_KEYS, Command
from pyd_cli.errors import CliError
from pyd_cli.flags import Flag, Options
from pyd_cli.session import Session

FLAGS = (
    DETACH_KEYS,
    Flag("no-stdin", "", "bool", "Do not attach STDIN"),
    Flag("sig-proxy", "", "bool", "Proxy all received signals to the process", True),
)


def execute(session: Session, options: Options, args: list[str]) -> int:
    keys_text, keys = attaching.detach_keys(session, options["detach-keys"])
    container = session.api.get(f"/containers/{args[0]}/json")
    identity, config, state = container["Id"], container["Config"], container["State"]
    if not state.get("Running"):
        raise CliError("You cannot attach to a stopped container, start it first")
    if state.get("Paused"):
        raise CliError("You cannot attach to a paused container, unpause it first")
    if state.get("Restarting"):
        raise CliError("You cannot attach to a restarting container, wait until it is running")
    tty = bool(config.get("Tty"))
    stdin = bool(not options["no-stdin"] and config.get("OpenStdin"))
    attaching.require_terminal(tty, stdin)
    waiting = attaching.start_waiting(session, identity, "")
    if options["sig-proxy"] and not tty:
        attaching.proxy_signals(session, identity)
    query: Query = {"stream": True, "stdin": stdin, "stdout": True, "stderr": True, "detachKeys": keys_text}
    attached = session.api.hijack(f"/containers/{identity}/attach", query)
    if attaching.exchange(session, attached, f"/containers/{identity}", tty, stdin, keys):
        session.complain("read escape sequence")
        return 1
    return attaching.exit_status(session, identity, waiting)


attach = Command(
    "attach",
    "[OPTIONS] CONTAINER",
    "Attach local standard input, output, and error streams to a running container",
    execute,
    FLAGS,
    (1, 1),
    ("pyd container attach", "pyd attach"),
)
