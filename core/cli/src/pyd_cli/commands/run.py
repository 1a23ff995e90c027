"""`pyd run`.

The order is what keeps output and exit status from getting lost: create, attach, ask for the exit, start. Only
then is the container's first byte, and its last, certain to be seen.
"""

from __future__ import annotations

from pyd_cli import attaching
from pyd_cli.api import Query
from pyd_cli.command import UNLIMITED, Command
from pyd_cli.creating import create
from pyd_cli.errors import ApiError, CliError, Unreachable
from pyd_cli.flags import Options
from pyd_cli.run_flags import RUN
from pyd_cli.session import Session

NOT_FOUND = ("executable file not found", "no such file or directory", "system cannot find the file specified")
NOT_EXECUTABLE = ("permission denied", "is a directory", "exec format error")


def execute(session: Session, options: Options, args: list[str]) -> int:
    try:
        if not options["detach"]:
            attaching.require_terminal(options["tty"], options["interactive"])
    except CliError as fault:
        fault.code = 1
        raise
    try:
        return run_container(session, options, args)
    except (ApiError, Unreachable) as fault:
        raise refused(fault, start_code(str(fault))) from None
    except CliError as fault:
        raise refused(fault, fault.code if fault.code != 1 else 125) from None


def refused(fault: CliError, code: int) -> CliError:
    return CliError(f"pyd: {fault}\n\nRun 'pyd run --help' for more information", code)


def start_code(message: str) -> int:
    """127 for a command that is not there, 126 for one that cannot be executed, else 125."""
    low = message.lower()
    if "error response from daemon" not in low:
        return 125
    if any(text in low for text in NOT_FOUND):
        return 127
    if any(text in low for text in NOT_EXECUTABLE):
        return 126
    return 125


def run_container(session: Session, options: Options, args: list[str]) -> int:
    if options["detach"]:
        if options["attach"]:
            raise CliError("conflicting options: cannot specify both --attach and --detach", 125)
        identity, _ = create(session, options, args)
        session.api.call("POST", f"/containers/{identity}/start").close()
        session.say(identity)
        return 0
    keys_text, keys = attaching.detach_keys(session, options["detach-keys"])
    identity, body = create(session, options, args)
    tty, stdin = options["tty"], body["AttachStdin"]
    wants = (body["AttachStdout"], body["AttachStderr"])
    if options["sig-proxy"] and not tty:
        attaching.proxy_signals(session, identity)
    attached = None
    if stdin or any(wants):
        query: Query = {"stream": True, "stdin": stdin, "stdout": wants[0], "stderr": wants[1], "detachKeys": keys_text}
        attached = session.api.hijack(f"/containers/{identity}/attach", query)
    waiting = attaching.start_waiting(session, identity, "removed" if options["rm"] else "next-exit")

    def start() -> None:
        session.api.call("POST", f"/containers/{identity}/start").close()

    if attached is None:
        start()
        session.say(identity)
    elif attaching.exchange(session, attached, f"/containers/{identity}", tty, stdin, keys, wants, start):
        return 0
    return attaching.exit_status(session, identity, waiting)


run = Command(
    "run",
    "[OPTIONS] IMAGE [COMMAND] [ARG...]",
    "Create and run a new container from an image",
    execute,
    RUN,
    (1, UNLIMITED),
    ("pyd container run", "pyd run"),
    interspersed=False,
)
