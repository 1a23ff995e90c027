"""An installed dockerd beside pydd, the same client for both, and what of their words is not theirs but the day's.

Both daemons are asked the same lines at the same time, each in a thread of its own and with a folder of its own. What
must differ between any two daemons (ids, names that are drawn, times, folders, addresses of sockets, process ids) is
written the same way here, so that whatever still differs is a difference of behaviour.
"""

from __future__ import annotations

import os
import re
import shlex
import subprocess
from collections.abc import Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from clients import docker_program
from engines import Dockerd
from side_by_side_lines import OLDER

__all__ = ["API", "Said", "Side", "ask_both", "comparable", "dockerd", "faults", "normal", "today"]

API = "1.41"  # what dockerd 20.10 speaks; both are asked in the same version
SECONDS = 40  # for one line
_RULES: tuple[tuple[str, str], ...] = (
    (r"\b(sha256:)?[0-9a-f]{64}\b", "ID"),
    (r"\b[0-9a-f]{12}\b", "ID"),
    (r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(\.\d+)?( ?(Z|[+-]\d\d:?\d\d( UTC)?))?", "TIME"),
    (r"\b(Less than a second|About an? \w+|\d+ (seconds?|minutes?|hours?|days?)) ago", "AGO"),
    (r"Up (Less than a second|About a minute|\d+ (seconds?|minutes?))", "Up TIME"),
    (r"\b[A-Z][a-z]{2} [ \d]\d \d\d:\d\d\b", "DAY"),
    (r"\bpipe:\[\d+\]", "pipe:[N]"),
    (r"\b[0-9a-f]{2}(:[0-9a-f]{2}){5}\b", "MAC"),
    (r"\b172\.(1[7-9]|2\d|3[01])\.\d+\.\d+", "ADDRESS"),
)


@dataclass(frozen=True, slots=True)
class Said:
    """How one line ended. The texts are normalised."""

    status: int
    out: str
    err: str

    def __str__(self) -> str:
        """As a reader of a failed test wants it."""
        return f"status {self.status}\n  out: {self.out!r}\n  err: {self.err!r}"


@dataclass(slots=True)
class Side:
    """One daemon as a client sees it. *own* are words of its own that `normal` replaces: paths, mostly."""

    name: str
    url: str
    folder: Path
    environment: Mapping[str, str]
    own: Sequence[tuple[str, str]] = ()
    program: str = field(default_factory=docker_program)

    def ask(self, line: str) -> Said:
        """Run *line*, words for the docker client as a shell would split them.

        ``{here}`` is this side's folder. What follows `` <<< `` is its standard input, with escapes.
        """
        words, _, given = line.replace("{here}", str(self.folder)).partition(" <<< ")
        done = self.run(shlex.split(words), given.encode().decode("unicode_escape").encode("latin-1"))
        return Said(
            done.returncode,
            normal(done.stdout.decode(errors="replace"), self.own),
            normal(done.stderr.decode(errors="replace"), self.own),
        )

    def run(self, words: Sequence[str], given: bytes = b"") -> subprocess.CompletedProcess[bytes]:
        """The client with *words*."""
        return subprocess.run(
            [self.program, "-H", self.url, *words],
            input=given,
            capture_output=True,
            timeout=SECONDS,
            cwd=self.folder,
            env={**self.environment, "DOCKER_API_VERSION": API},
            check=False,
        )

    def clear(self) -> None:
        """Remove all containers."""
        if names := self.run(["ps", "-aq"]).stdout.decode().split():
            self.run(["rm", "-f", "-v", *names])


def normal(text: str, own: Sequence[tuple[str, str]] = ()) -> str:
    """*text* without what is only this run's."""
    for word, by in own:
        text = text.replace(word, by)
    for pattern, by in _RULES:
        text = re.sub(pattern, by, text, flags=re.MULTILINE)
    return "\n".join(line.rstrip() for line in text.replace("\r\n", "\n").rstrip("\n").split("\n"))


def today(text: str) -> str:
    """Words of dockerd 20.10 as later versions say them."""
    for pattern, by in OLDER:
        text = re.sub(pattern, by, text, flags=re.MULTILINE)
    return text


def comparable(answer: Said, *, ordered: bool = True) -> tuple[int, list[str], list[str]]:
    """Status, output and error text, line by line; sorted where the order means nothing."""
    out, err = (today(text).split("\n") for text in (answer.out, answer.err))
    return (answer.status, out, err) if ordered else (answer.status, sorted(out), sorted(err))


def faults(
    sides: Sequence[Side], lines: Sequence[str], different: Mapping[str, str], unordered: Collection[str] = ()
) -> list[str]:
    """What both say to *lines* and should not: other things without a reason in *different*, or the same with one."""
    found = []
    for line, (theirs, ours) in ask_both(sides, lines):
        ordered = line not in unordered
        same = comparable(theirs, ordered=ordered) == comparable(ours, ordered=ordered)
        if same == (line in different):
            said = f"docker {line}\n dockerd: {theirs}\n pydd:    {ours}"
            found.append(said if not same else f"{said}\n no longer differs, though: {different[line]}")
    return found


def ask_both(sides: Sequence[Side], lines: Sequence[str]) -> Iterator[tuple[str, tuple[Said, ...]]]:
    """Each line with what each side said; both are asked all lines in order, at the same time."""

    def ask_all(side: Side) -> list[Said]:
        return [side.ask(line) for line in lines]

    with ThreadPoolExecutor(len(sides)) as threads:
        answers = list(threads.map(ask_all, sides))
    yield from zip(lines, zip(*answers, strict=True), strict=True)


@contextmanager
def dockerd(folder: Path, environment: Mapping[str, str], *flags: str) -> Iterator[Side]:
    """A dockerd with everything of its own that has the busybox image; all of it is gone afterwards."""
    engine = Dockerd("side-by-side", flags)
    engine.root.chmod(0o711)  # it makes its own directories as closed as they have to be
    engine.start()
    try:
        own = (
            (str(folder), "HERE"),
            (str(engine.root / "data"), "DATA"),
            (engine.url, "URL"),
            (str(engine.root), "ROOT"),
        )
        yield Side("dockerd", engine.url, folder, environment, (*own, (os.path.realpath(folder), "HERE")))
    finally:
        engine.stop()
