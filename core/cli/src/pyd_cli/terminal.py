"""The user's terminal: raw mode that is always undone, its size, and the keys that detach.

The mode is restored on normal exit, on exceptions, and on the signals that end a program: a shell whose terminal
stays raw is unusable, and the user cannot see why.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from contextlib import suppress
from types import FrameType, TracebackType
from typing import Any

from pyd_cli.errors import CliError

Mode = list[Any]  # what termios.tcgetattr gives: four flag words, two speeds, the control characters

DEFAULT_DETACH_KEYS = "ctrl-p,ctrl-q"
_SPECIAL = {"@": 0, "[": 27, "\\": 28, "]": 29, "^": 30, "_": 31}


def is_terminal(descriptor: int) -> bool:
    return os.isatty(descriptor)


def size(descriptor: int = 1) -> tuple[int, int]:
    """(rows, columns) of the terminal; (0, 0) when there is none."""
    try:
        found = os.get_terminal_size(descriptor)
    except OSError:
        return 0, 0
    return found.lines, found.columns


def parse_keys(text: str) -> bytes:
    """The bytes of `ctrl-p,ctrl-q` or `a,ctrl-[`. CliError when it is none of these."""
    out = bytearray()
    for key in text.split(","):
        low = key.lower()
        if len(key) == 1:
            out += key.encode()
        elif low.startswith("ctrl-") and len(low) == 6 and low[5].isascii() and low[5].isalpha():
            out.append(ord(low[5]) - ord("a") + 1)
        elif low.startswith("ctrl-") and key[5:] in _SPECIAL:
            out.append(_SPECIAL[key[5:]])
        else:
            raise CliError(f"invalid detach keys ({text}): Unknown character: '{key}'")
    return bytes(out)


class DetachFilter:
    """Lets input pass, but for the sequence of keys that detaches. A part of it is held back until it is decided."""

    def __init__(self, keys: bytes) -> None:
        self.keys = keys
        self.matched = 0

    def feed(self, data: bytes) -> tuple[bytes, bool]:
        """(what to send on, whether the whole sequence was typed)."""
        if not self.keys:
            return data, False
        out = bytearray()
        for byte in data:
            while self.matched and byte != self.keys[self.matched]:
                # what was held back was typed, not the sequence; but its tail may begin one
                held = self.keys[: self.matched]
                keep = next((n for n in range(self.matched - 1, 0, -1) if held[-n:] == self.keys[:n]), 0)
                out += held[: self.matched - keep]
                self.matched = keep
            if byte == self.keys[self.matched]:
                self.matched += 1
                if self.matched == len(self.keys):
                    self.matched = 0
                    return bytes(out), True
            else:
                out.append(byte)
        return bytes(out), False


class RawMode:
    """While entered, the terminal at `descriptor` passes every key through. Does nothing where there is none."""

    def __init__(self, descriptor: int = 0) -> None:
        self.descriptor = descriptor
        self._saved: Mode | None = None
        self._previous: dict[int, object] = {}

    def __enter__(self) -> RawMode:
        if is_terminal(self.descriptor):
            import termios

            self._saved = termios.tcgetattr(self.descriptor)
            for number in (signal.SIGTERM, signal.SIGHUP):
                self._previous[number] = signal.signal(number, self._restore_and_die)
            termios.tcsetattr(self.descriptor, termios.TCSANOW, raw(self._saved))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, fault: BaseException | None, where: TracebackType | None
    ) -> None:
        self.restore()

    def restore(self) -> None:
        """Give the terminal its old mode. Twice is once."""
        if self._saved is None:
            return
        import termios

        saved, self._saved = self._saved, None
        with suppress(termios.error):  # the terminal may have gone with its window: there is no mode to restore
            termios.tcsetattr(self.descriptor, termios.TCSADRAIN, saved)
        for number, handler in self._previous.items():
            signal.signal(number, handler)  # type: ignore[arg-type]

    def _restore_and_die(self, number: int, frame: FrameType | None) -> None:
        self.restore()
        signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)


def raw(mode: Mode) -> Mode:
    """`mode` as cfmakeraw(3) makes it, but for output processing, which stays as it was turned off there too."""
    import termios

    iflag, oflag, cflag, lflag, ispeed, ospeed, chars = mode
    iflag &= ~(
        termios.IGNBRK
        | termios.BRKINT
        | termios.PARMRK
        | termios.ISTRIP
        | termios.INLCR
        | termios.IGNCR
        | termios.ICRNL
        | termios.IXON
    )
    oflag &= ~termios.OPOST
    cflag = cflag & ~(termios.CSIZE | termios.PARENB) | termios.CS8
    lflag &= ~(termios.ECHO | termios.ECHONL | termios.ICANON | termios.ISIG | termios.IEXTEN)
    chars = list(chars)
    chars[termios.VMIN], chars[termios.VTIME] = 1, 0
    return [iflag, oflag, cflag, lflag, ispeed, ospeed, chars]


def on_resize(callback: Callable[[int, int], None]) -> None:
    """Call `callback(rows, columns)` whenever the terminal's size changes (SIGWINCH)."""

    def changed(_number: int, _frame: FrameType | None) -> None:
        rows, columns = size()
        if rows and columns:
            callback(rows, columns)

    signal.signal(signal.SIGWINCH, changed)


def forward_signals(send: Callable[[str], None]) -> None:
    """Pass every signal a user or a supervisor may send on to `send(name)` instead of obeying it."""
    kept = {"SIGKILL", "SIGSTOP", "SIGCHLD", "SIGCLD", "SIGPIPE", "SIGWINCH", "SIGURG"}
    kept |= {"SIGSEGV", "SIGBUS", "SIGFPE", "SIGILL", "SIGTRAP", "SIGSYS", "SIGABRT", "SIGIOT", "SIGPROF", "SIGVTALRM"}

    def passed(number: int, _frame: FrameType | None) -> None:
        send(signal.Signals(number).name.removeprefix("SIG"))

    for number in signal.Signals:
        if number.name not in kept and not number.name.startswith("SIGRT"):
            signal.signal(number, passed)


def flush() -> None:
    """What was printed, out: before raw bytes are written past Python's buffers."""
    sys.stdout.flush()
    sys.stderr.flush()
