"""A terminal for command-line clients under test: a pty whose other side is read and typed at, like expect(1)."""

from __future__ import annotations

import fcntl
import os
import pty
import select
import signal
import struct
import subprocess
import termios
import time
from collections.abc import Mapping, Sequence
from types import TracebackType

DETACH = b"\x10\x11"  # ctrl-p ctrl-q


class Terminal:
    """*command* runs on a pty of its own, as session leader with it as controlling terminal.

    `output` is all it has written so far; `expect` waits for more. Leaving the context ends the process.
    """

    def __init__(
        self, command: Sequence[str], environment: Mapping[str, str], rows: int = 24, columns: int = 80
    ) -> None:
        self.output = b""
        self._read = 0  # how far `expect` has come
        self.master, side = pty.openpty()
        self.resize(rows, columns)
        try:
            self.process = subprocess.Popen(
                command,
                stdin=side,
                stdout=side,
                stderr=side,
                env={**environment, "TERM": "xterm"},
                start_new_session=True,
                preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),  # noqa: PLW1509 # no threads in the tests
            )
        finally:
            os.close(side)

    def __enter__(self) -> Terminal:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        os.close(self.master)

    def type(self, text: str | bytes) -> None:
        """Press keys."""
        os.write(self.master, text.encode() if isinstance(text, str) else text)

    def resize(self, rows: int, columns: int) -> None:
        """Make the window another size; the kernel sends SIGWINCH to the program in it."""
        fcntl.ioctl(self.master, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def expect(self, text: str | bytes, seconds: float = 20) -> bytes:
        """Wait until *text* is written after what was expected before; what came in between, *text* included."""
        wanted = text.encode() if isinstance(text, str) else text
        deadline = time.monotonic() + seconds
        while (found := self.output.find(wanted, self._read)) < 0:
            left = deadline - time.monotonic()
            assert left > 0, f"{wanted!r} did not come within {seconds:.0f} s; since the last: {self.unread!r}"
            assert self._receive(left), f"the terminal was closed before {wanted!r} came: {self.unread!r}"
        start, self._read = self._read, found + len(wanted)
        return self.output[start : self._read]

    @property
    def unread(self) -> bytes:
        """What has come since the last `expect`."""
        return self.output[self._read :]

    def wait(self, seconds: float = 20) -> int:
        """Read to the end; the exit status of the program."""
        deadline = time.monotonic() + seconds
        while self._receive(deadline - time.monotonic()):
            assert time.monotonic() < deadline, f"still running after {seconds:.0f} s: {self.unread!r}"
        return self.process.wait(max(0.1, deadline - time.monotonic()))

    def signal(self, number: signal.Signals) -> None:
        """Send the client a signal."""
        self.process.send_signal(number)

    def _receive(self, seconds: float) -> bool:
        """Take what comes within *seconds*; False at the end (EIO: nobody has the other side open)."""
        if not select.select([self.master], [], [], max(0.0, seconds))[0]:
            return True
        try:
            piece = os.read(self.master, 65536)
        except OSError:
            return False
        self.output += piece
        return bool(piece)
