"""Calling a runtime: its command line, its files in the bundle, and what its log says when it fails.

Runs in shims and their helpers: nothing is imported that takes memory in each. Source of the command line: runc(8) and
crun(1), which every other runtime follows.
"""

from __future__ import annotations

import json
import os
import select
import signal
from collections.abc import Sequence

from pyd_shim.ends import LaunchError

__all__ = [
    "CONFIG",
    "CONSOLE",
    "FILES",
    "LOG",
    "PID",
    "PROCESS",
    "call",
    "delete_arguments",
    "prefix",
    "wait",
    "words_of_log",
]

CONFIG, PROCESS, PID, CONSOLE, LOG = "config.json", "process.json", "runtime.pid", "console.sock", "runtime.log"
FILES = (CONFIG, PROCESS, PID, CONSOLE, LOG)
"""What is made in a bundle besides the root file system's mount point."""
SECONDS = 45.0
"""How long a runtime may take: less than the daemon waits for the shim's answer."""
ENVIRONMENT = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"}


def prefix(path: str, root: str, bundle: str, options: Sequence[str]) -> list[str]:
    """What every command of one container begins with; *root* is where the runtime keeps its own state."""
    return [path, *options, "--root", root, "--log", f"{bundle}/{LOG}", "--log-format", "json"]


def delete_arguments(call: Sequence[str], container: str) -> list[str]:
    """Remove all that the runtime made, whatever state it is in."""
    return [*call, "delete", "--force", container]


def call(arguments: list[str]) -> int:
    """Run a command without streams to its end; its exit status. Raises LaunchError for one that is not there, or hangs."""
    null = [(os.POSIX_SPAWN_OPEN, fd, "/dev/null", os.O_RDWR, 0) for fd in (0, 1, 2)]
    try:
        # By posix_spawn(3), not fork: no page of the shim is copied.
        pid = os.posix_spawn(arguments[0], arguments, ENVIRONMENT, file_actions=null, setsigdef=[signal.SIGPIPE])
    except OSError as error:
        raise LaunchError("internal", f"run {arguments[0]}: {error.strerror}") from error
    return wait(pid, arguments[0])


def wait(pid: int, program: str) -> int:
    """The exit status of a child that runs *program*. Raises LaunchError when it takes too long; it is killed then."""
    watch = os.pidfd_open(pid)
    try:
        ended = select.select([watch], [], [], SECONDS)[0]
        if not ended:
            signal.pidfd_send_signal(watch, signal.SIGKILL)
    finally:
        os.close(watch)
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    if not ended:
        raise LaunchError("internal", f"run {program}: it did not end within {SECONDS:.0f} s")
    return status


def words_of_log(directory: str) -> tuple[str, list[str]]:
    """The last error in a runtime's log (lines of JSON), and the warnings; empty when it said nothing."""
    try:
        with open(f"{directory}/{LOG}", encoding="utf-8", errors="replace") as lines:
            entries = [_entry(line) for line in lines if line.strip()]
    except OSError:
        return "", []
    errors = [text for level, text in entries if level in ("error", "fatal", "panic")]
    return errors[-1] if errors else "", [text for level, text in entries if level == "warning"]


def _entry(line: str) -> tuple[str, str]:
    try:
        entry = json.loads(line)
        return str(entry.get("level")), str(entry.get("msg", ""))
    except (ValueError, AttributeError):
        return "error", line.strip()  # not JSON: from a program that has no such log format
