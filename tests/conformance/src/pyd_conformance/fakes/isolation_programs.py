"""What the fake isolation backend can run: a handful of programs and a tiny shell, on real descriptors, in a thread.

The shell knows commands joined by ``;``, ``>&2``, ``exit``, ``trap COMMAND SIGNAL``, ``read NAME``, ``$NAME`` and
``while :; do ...; done``. Everything that waits goes through `Task.wait`, where signals and the freezer take effect.
"""

from __future__ import annotations

import fcntl
import os
import select
import shlex
import signal
import struct
import termios
import threading
import time
from collections.abc import Callable, Mapping, Sequence

__all__ = ["PROGRAMS", "Ended", "Task"]

_IGNORED = {signal.SIGCHLD, signal.SIGCONT, signal.SIGWINCH, signal.SIGURG}


class Ended(Exception):
    """The program ends with this exit code."""

    def __init__(self, code: int) -> None:
        super().__init__(code)
        self.code = code


class Task:
    """One process: its descriptors, its environment, and the signals that come in from other threads.

    *first* is true for a container's first process, which ignores signals it has no handler for (pid_namespaces(7)).
    """

    def __init__(self, fds: tuple[int, int, int], env: Mapping[str, str], hostname: str, *, first: bool) -> None:
        self.fds = fds
        self.env = dict(env)
        self.hostname = hostname
        self.first = first
        self.frozen = False
        self._signals: list[int] = []
        self._traps: dict[int, str] = {}
        self._wake, self._waker = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        self._lock = threading.Lock()
        for fd in set(fds):
            os.set_blocking(fd, False)

    # --- from other threads --------------------------------------------------------------------------------------

    def signal(self, number: int) -> None:
        """Send a signal; 0 sends none (kill(2))."""
        with self._lock:
            if number and self._waker >= 0:
                self._signals.append(number)
                self._nudge()

    def freeze(self, frozen: bool) -> None:
        """Stop at the next step, or go on."""
        with self._lock:
            self.frozen = frozen
            self._nudge()

    def _nudge(self) -> None:
        try:
            os.write(self._waker, b"x")
        except (BlockingIOError, OSError):
            pass  # woken already, or ended

    def close(self) -> None:
        """The process is gone: close what it held."""
        with self._lock:
            for fd in {*self.fds, self._wake, self._waker}:
                os.close(fd)
            self._wake = self._waker = -1

    # --- in the process ------------------------------------------------------------------------------------------

    def run(self, args: Sequence[str]) -> int:
        """Run a program to its end: the exit code."""
        try:
            self.wait(seconds=0)
            return PROGRAMS[os.path.basename(args[0])](self, args[1:])
        except Ended as ended:
            return ended.code

    def wait(self, read: int = -1, write: int = -1, seconds: float | None = None) -> None:
        """Wait for a descriptor or for time to pass; signals are taken here. Raises Ended."""
        deadline = None if seconds is None else time.monotonic() + seconds
        while True:
            self._take_signals()
            left = None if deadline is None or self.frozen else max(0.0, deadline - time.monotonic())
            reads = [self._wake] if self.frozen or read < 0 else [self._wake, read]
            writes = [] if self.frozen or write < 0 else [write]
            ready, writable, _ = select.select(reads, writes, [], left)
            if self._wake in ready:
                os.read(self._wake, 4096)
            elif not self.frozen and (ready or writable or deadline is not None):
                return

    def _take_signals(self) -> None:
        with self._lock:
            taken, self._signals = self._signals, [] if not self.frozen else self._signals
            if self.frozen:
                taken = [number for number in taken if number == signal.SIGKILL]
        for number in taken:
            if number == signal.SIGKILL:
                raise Ended(137)
            if number in self._traps:
                self.shell(self._traps[number])
            elif not self.first and number not in _IGNORED:
                raise Ended(128 + number)

    def write(self, data: bytes, stream: int = 1) -> None:
        """All of *data*, however slow the reader. Without a reader the process ends, as by SIGPIPE."""
        while data:
            self.wait(write=self.fds[stream])
            try:
                data = data[os.write(self.fds[stream], data) :]
            except BlockingIOError:
                continue
            except OSError:
                raise Ended(141) from None

    def read(self, size: int) -> bytes:
        """Some input; empty at its end."""
        while True:
            self.wait(read=self.fds[0])
            try:
                return os.read(self.fds[0], size)
            except BlockingIOError:
                continue
            except OSError:
                return b""

    def shell(self, script: str) -> int:
        """Run a script of the tiny shell."""
        lexer = shlex.shlex(script.replace("\n", ";"), posix=True, punctuation_chars=";")
        lexer.whitespace_split = True
        return self._commands([word for word in lexer if word])

    def _commands(self, words: list[str]) -> int:
        code = 0
        while words:
            if words[:2] == ["while", ":"]:
                end = len(words) - 1 - words[::-1].index("done")
                body = words[words.index("do") + 1 : end]
                while True:
                    self._commands(list(body))
            end = words.index(";") if ";" in words else len(words)
            command, words = words[:end], words[end + 1 :]
            if command:
                code = self._command(command)
        return code

    def _command(self, words: list[str]) -> int:
        fds = self.fds
        if words[-1] == ">&2":
            words = words[:-1]
            self.fds = (fds[0], fds[2], fds[2])
        try:
            words = [self.env.get(word[1:], "") if word.startswith("$") else word for word in words]
            if words[0] == "exit":
                raise Ended(int(words[1]) if len(words) > 1 else 0)
            if words[0] == "trap":
                self._traps[signal.Signals[f"SIG{words[2]}"]] = words[1]
                return 0
            if words[0] == "read":
                line = b""
                while not line.endswith(b"\n"):
                    byte = self.read(1)
                    if not byte:
                        return 1
                    line += byte
                self.env[words[1]] = line.decode().strip()
                return 0
            program = PROGRAMS.get(words[0])
            if program is None:
                self.write(f"sh: {words[0]}: not found\n".encode(), 2)
                return 127
            return program(self, words[1:])
        finally:
            self.fds = fds


def _echo(task: Task, args: Sequence[str]) -> int:
    task.write(" ".join(args).encode() + b"\n")
    return 0


def _cat(task: Task, _args: Sequence[str]) -> int:
    while data := task.read(65536):
        task.write(data)
    return 0


def _sleep(task: Task, args: Sequence[str]) -> int:
    task.wait(seconds=float(args[0]))
    return 0


def _seq(task: Task, args: Sequence[str]) -> int:
    first, last = int(args[0]), int(args[1])
    for start in range(first, last + 1, 10_000):
        task.write(b"".join(b"%d\n" % number for number in range(start, min(start + 10_000, last + 1))))
    return 0


def _hostname(task: Task, _args: Sequence[str]) -> int:
    task.write(task.hostname.encode() + b"\n")
    return 0


def _stty(task: Task, _args: Sequence[str]) -> int:
    rows, columns, _, _ = struct.unpack("HHHH", fcntl.ioctl(task.fds[0], termios.TIOCGWINSZ, bytes(8)))
    task.write(f"{rows} {columns}\n".encode())
    return 0


def _env(task: Task, _args: Sequence[str]) -> int:
    task.write("".join(f"{name}={value}\n" for name, value in task.env.items()).encode())
    return 0


def _sh(task: Task, args: Sequence[str]) -> int:
    if list(args[:1]) == ["-c"]:
        return task.shell(args[1])
    code, line = 0, b""
    while byte := task.read(1):  # a shell that reads its script from standard input
        line += byte
        if byte == b"\n":
            code, line = task.shell(line.decode()), b""
    return code


PROGRAMS: dict[str, Callable[[Task, Sequence[str]], int]] = {
    "cat": _cat,
    "echo": _echo,
    "env": _env,
    "false": lambda _task, _args: 1,
    "hostname": _hostname,
    "seq": _seq,
    "sh": _sh,
    "sleep": _sleep,
    "stty": _stty,
    "true": lambda _task, _args: 0,
}
