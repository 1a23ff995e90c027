"""Being attached to a container: what `run`, `start -a`, `attach` and `exec` have in common."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from pyd_cli import terminal
from pyd_cli.errors import ApiError, CliError, Unreachable

if TYPE_CHECKING:
    from pyd_cli.http import Response
    from pyd_cli.session import Session


def detach_keys(session: Session, given: str) -> tuple[str, bytes]:
    """The keys as the API wants them ("" for the default) and as bytes."""
    text = given or session.config.get("detachKeys", "")
    return text, terminal.parse_keys(text or terminal.DEFAULT_DETACH_KEYS)


def require_terminal(tty: bool, stdin: bool) -> None:
    if tty and stdin and not terminal.is_terminal(0):
        raise CliError("the input device is not a TTY")


def resizer(session: Session, path: str) -> Callable[[int, int], None]:
    """A function that gives the terminal at `path` (of a container or an exec) a new size."""

    def resize(rows: int, columns: int) -> None:
        try:
            session.api.call("POST", f"{path}/resize", {"h": rows, "w": columns}).close()
        except (ApiError, Unreachable):
            return  # it has just ended, or not quite begun: the next change of size, or nobody, will miss this one

    return resize


def follow_size(session: Session, path: str) -> None:
    """Give the terminal at `path` our size, now and whenever it changes."""
    resize = resizer(session, path)
    rows, columns = terminal.size()
    if rows and columns:
        resize(rows, columns)
    terminal.on_resize(resize)


def proxy_signals(session: Session, container: str) -> None:
    """From here on, signals sent to us reach the container's process."""

    def send(name: str) -> None:
        try:
            session.api.call("POST", f"/containers/{container}/kill", {"signal": name}).close()
        except (ApiError, Unreachable):
            return  # not running yet or any more; docker's command line drops the signal here too

    terminal.forward_signals(send)


def start_waiting(session: Session, container: str, condition: str) -> Response | None:
    """Ask to be told of the container's exit. The answer's head comes at once, its body at the exit.

    None for daemons before API 1.30, which know no condition: `exit_status` then asks afterwards.
    """
    if not session.api.at_least("1.30"):
        return None
    query = {"condition": condition} if condition else None
    return session.api.call("POST", f"/containers/{container}/wait", query)


def exit_status(session: Session, container: str, waiting: Response | None) -> int:
    """The container's exit status, once it has ended."""
    try:
        if waiting is None:
            waiting = session.api.call("POST", f"/containers/{container}/wait")
        result: dict[str, Any] = json.loads(waiting.read() or b"{}")
    except (Unreachable, OSError, ValueError) as fault:
        raise CliError(f"error waiting for container: {fault}", 125) from fault
    problem = (result.get("Error") or {}).get("Message")
    if problem:
        raise CliError(f"error waiting for container: {problem}", 125)
    if "StatusCode" not in result:
        raise CliError("error waiting for container: unexpected EOF", 125)
    return int(result["StatusCode"])


def exchange(
    session: Session,
    response: Response,
    path: str,
    tty: bool,
    stdin: bool,
    keys: bytes,
    wants: tuple[bool, bool] = (True, True),
    on_start: Callable[[], None] | None = None,
) -> bool:
    """Connect our streams with those at `path` until the output ends; True when the user detached.

    `on_start` is called when input is flowing already: it starts what writes the output.
    """
    from pyd_cli.hijack import Exchange

    terminal.flush()

    def begin() -> None:
        if on_start is not None:
            on_start()
        if tty and os.isatty(1):
            follow_size(session, path)

    connected = Exchange(response.connection, tty, stdin, keys)
    try:
        if tty and stdin:
            with terminal.RawMode(0):
                return connected.run(wants, begin)
        return connected.run(wants, begin)
    finally:
        response.close()
