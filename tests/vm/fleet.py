"""Several throw-away virtual machines at the same time, and one report of them.

Each machine's output is kept and shown whole when it has ended, so two of them are never mixed, with the machine's name before
each line, so that nobody takes pytest's closing line there for that of the whole; the last lines say how each of them fared.
The threads are daemons: however this process ends, it waits for no machine, and the machines' guards end them.
"""

from __future__ import annotations

import io
import math
import os
import queue
import re
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from machine import BROKEN, TIMED_OUT

_BESIDES = (
    512  # MiB that a machine takes beside its memory: helpers, an emulator's translations, disks in the page cache
)
_CLOSING = re.compile(
    rb"^=+ (.*\b(?:passed|failed|errors?|skipped|deselected|no tests ran)\b.*) in [0-9.]+s.*=+$", re.M
)
_FAILED = re.compile(rb"^(?:FAILED|ERROR) .*$", re.M)
_TIME_UP = re.compile(rb"vm: timed out .*$", re.M)  # after dots, perhaps


@dataclass(frozen=True, slots=True)
class _LeftOut:
    name: str


Run = Callable[[BinaryIO], int]
"""Does a machine's work, writes what it says to a stream, returns the exit status."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """How one machine's work ended."""

    name: str
    status: int
    output: bytes
    seconds: float

    @property
    def verdict(self) -> str:
        """In a word or two."""
        return {0: "passed", TIMED_OUT: "TIMED OUT", BROKEN: "BROKEN"}.get(self.status, "FAILED")

    def line(self) -> str:
        """Name, verdict, seconds and pytest's counts."""
        counts = _CLOSING.findall(self.output)
        if counts:
            said = counts[-1].decode()
        elif up := _TIME_UP.search(self.output):
            said = up[0].decode().removeprefix("vm: ")
        else:
            said = f"status {self.status}, see its output"
        return f"{self.name:22} {self.verdict:9} {self.seconds:5.0f} s  {said}"

    def prefixed(self) -> bytes:
        """The output, its lines marked as this machine's."""
        mark = self.name.encode() + b"| "
        return b"".join(mark + line + b"\n" for line in self.output.splitlines())

    def failures(self) -> list[str]:
        """The lines of pytest's summary that name a failure."""
        return [line.decode(errors="replace") for line in _FAILED.findall(self.output)]


def how_many(memory: int) -> int:
    """Machines of *memory* MiB that can run at the same time: one for each core, and no more than there is memory for."""
    available = 0
    for line in Path("/proc/meminfo").read_text().splitlines():
        if line.startswith("MemAvailable:"):
            available = int(line.split()[1]) // 1024
    return max(1, min(len(os.sched_getaffinity(0)), available // (memory + _BESIDES)))


def run(works: Sequence[tuple[str, Run]], machines: int, out: BinaryIO, begin_within: float = math.inf) -> int:
    """Do all *works*, *machines* at the same time, begun in order; write what they say to *out*. The worst exit status.

    What has not begun within so many seconds is left out, and named in the end.
    """
    waiting, left_out = deque(works), []
    begin_until = time.monotonic() + begin_within
    ended: queue.SimpleQueue[Outcome | _LeftOut | BaseException] = queue.SimpleQueue()
    told = threading.Lock()

    def tell(words: str | bytes) -> None:
        with told:
            out.write(words.encode() if isinstance(words, str) else words)
            out.flush()

    def work() -> None:
        while True:
            try:
                name, job = waiting.popleft()
            except IndexError:
                return
            if time.monotonic() > begin_until:
                ended.put(_LeftOut(name))
                continue
            tell(f"vm: {name}: begun\n")
            ended.put(_outcome(name, job))

    for _ in range(machines):
        threading.Thread(target=work, daemon=True).start()
    outcomes: list[Outcome] = []
    try:
        for _ in works:
            outcome = ended.get()
            if isinstance(outcome, BaseException):
                raise outcome
            if isinstance(outcome, _LeftOut):
                left_out.append(outcome.name)
                continue
            outcomes.append(outcome)
            tell(outcome.prefixed() + f"vm: {outcome.name}: {outcome.verdict}\n".encode())
    finally:  # also when somebody wants no more of it
        order = [name for name, _ in works]
        outcomes.sort(key=lambda outcome: order.index(outcome.name))
        left_out.sort(key=order.index)
        unended = [name for name in order if name not in {*left_out, *(outcome.name for outcome in outcomes)}]
        said = [summary(outcomes)]
        for what, names in (("did not end", unended), (f"LEFT OUT, not begun within {begin_within:.0f} s", left_out)):
            if names:
                said.append(f"vm: {what}: {', '.join(names)}\n")
        tell("".join(said))
    return max((outcome.status for outcome in outcomes), default=0)


def _outcome(name: str, job: Run) -> Outcome | BaseException:
    said, begun = io.BytesIO(), time.monotonic()
    try:
        status = job(said)
    except BaseException as error:  # raised again by who waits for it: a thread has nobody to tell
        return error
    return Outcome(name, status, said.getvalue(), time.monotonic() - begun)


def summary(outcomes: Iterable[Outcome]) -> str:
    """A line for each machine, and below it its failures."""
    lines = []
    for outcome in outcomes:
        lines.append(f"vm: {outcome.line()}")
        lines += [f"vm:   {failure}" for failure in outcome.failures()]
    return "".join(f"{line}\n" for line in lines)
