"""What a `.dockerignore` leaves out of a build's context.

The rules are those of moby's patternmatcher, which are neither a shell's nor git's: a pattern counts from the context's
root, the last one that matches decides, what matches a directory matches all below it, and `!` takes something back
in. `**` is any number of directories, `*` and `?` stop at a slash, `[a-z]` and a backslash are as in a shell.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Sequence

from pyd_cli.errors import CliError

NAME = ".dockerignore"
_ESCAPED = ".+()|{}$"


class Pattern:
    """One line. `exception` says that it began with `!`; `text` is the cleaned pattern without it."""

    __slots__ = ("_matches", "exception", "text")

    def __init__(self, text: str, exception: bool) -> None:
        self.text = text
        self.exception = exception
        self._matches = re.compile(translated(text), re.DOTALL).search

    def matches(self, path: str) -> bool:
        return self._matches(path) is not None


def translated(pattern: str) -> str:
    """`pattern` as a regular expression. CliError when it makes no sense (`[a`, `a\\`)."""
    if pattern[:2] == "**" and not re.search(r"[*?\[\]\\]", pattern[2:]):
        # moby compares ends here, so that `**foo` is `barfoo`, too; `**/foo` is `foo` as well as `a/foo`
        rest = pattern[2:]
        return r"(?:\A|/)" + re.escape(rest[1:]) + r"\Z" if rest[:1] == "/" else re.escape(rest) + r"\Z"
    out, position, size = [r"\A"], 0, len(pattern)
    while position < size:
        char = pattern[position]
        position += 1
        if char == "*" and pattern[position : position + 1] == "*":
            position += 1
            if pattern[position : position + 1] == "/":
                position += 1
            out.append("(?:.*/)?" if position < size else ".*")
        elif char == "*":
            out.append("[^/]*")
        elif char == "?":
            out.append("[^/]")
        elif char == "[":
            text, position = _class(pattern, position)
            out.append(text)
        elif char == "\\":
            if position == size:
                raise _bad()
            out.append(re.escape(pattern[position]))
            position += 1
        else:
            out.append(re.escape(char))
    return "".join(out) + r"\Z"


def _class(pattern: str, start: int) -> tuple[str, int]:
    """The class that begins after the bracket at `start`, and where it ends. Go's: `^` negates, and a bracket, a dash or
    an end have to be escaped to be members."""
    position, out, first = start, ["["], True
    if pattern[position : position + 1] == "^":
        out.append("^")
        position += 1
    while pattern[position : position + 1] != "]" or first:
        first = False
        low, position = _member(pattern, position)
        high = low
        if pattern[position : position + 1] == "-":
            high, position = _member(pattern, position + 1)
        if high < low:
            raise _bad()
        out.append(f"{re.escape(low)}-{re.escape(high)}")
    return "".join(out) + "]", position + 1


def _member(pattern: str, position: int) -> tuple[str, int]:
    char = pattern[position : position + 1]
    if not char or char in "-]":
        raise _bad()
    if char == "\\":
        position += 1
        char = pattern[position : position + 1]
    if not char or position + 1 >= len(pattern):
        raise _bad()
    return char, position + 1


def _bad() -> CliError:
    return CliError("syntax error in pattern")


def clean(path: str) -> str:
    """`path` without `.`, `..` and doubled slashes, as Go's filepath.Clean leaves it."""
    path = os.path.normpath(path) if path else "."
    return path[1:] if path.startswith("//") else path


def read(directory: str) -> list[str]:
    """The lines that count of the file in `directory`; none when there is no file."""
    try:
        with open(os.path.join(directory, NAME), "rb") as file:
            content = file.read()
    except FileNotFoundError:
        return []
    except OSError as fault:
        path = os.path.join(directory, NAME)
        raise CliError(f"open {path}: {(fault.strerror or str(fault)).lower()}") from fault
    return parse(os.fsdecode(content.removeprefix(b"\xef\xbb\xbf")))


def parse(text: str) -> list[str]:
    """The patterns of a file: no comments, no empty lines; a leading slash says nothing."""
    found = []
    for line in text.split("\n"):
        if line.startswith("#"):
            continue
        pattern = line.strip()
        if not pattern:
            continue
        exception = pattern[0] == "!"
        if exception:
            pattern = pattern[1:].strip()
        if pattern:
            pattern = clean(pattern)
            if len(pattern) > 1 and pattern[0] == "/":
                pattern = pattern[1:]
        found.append("!" + pattern if exception else pattern)
    return found


class Ignore:
    """Patterns, compiled. CliError when one of them cannot be read."""

    def __init__(self, patterns: Iterable[str]) -> None:
        self.patterns: list[Pattern] = []
        for given in patterns:
            text = given.strip()
            if not text:
                continue
            text = clean(text)
            if text == "!":
                raise CliError('illegal exclusion pattern: "!"')
            exception = text[0] == "!"
            self.patterns.append(Pattern(text[1:] if exception else text, exception))
        self.exceptions = [pattern.text for pattern in self.patterns if pattern.exception]

    def judge(self, path: str, parent: Sequence[bool] | None) -> tuple[bool, Sequence[bool]]:
        """Whether `path` is left out, and which patterns matched it: `parent` for what is below it.

        `parent` is None for what stands in the root.
        """
        left_out = False
        found = [False] * len(self.patterns)
        for index, pattern in enumerate(self.patterns):
            if parent is not None and parent[index]:
                match = True
            elif pattern.exception != left_out:
                continue  # it could change nothing
            else:
                match = pattern.matches(path)
            found[index] = match
            if match:
                left_out = not pattern.exception
        return left_out, found

    def leaves_out(self, path: str) -> bool:
        """The verdict on `path`, with its parents looked at on the way."""
        above: Sequence[bool] | None = None
        parts = path.split("/")
        left_out = False
        for end in range(1, len(parts) + 1):
            left_out, above = self.judge("/".join(parts[:end]), above)
        return left_out

    def may_hold_exceptions(self, directory: str) -> bool:
        """Whether something below the left-out `directory` could be taken back in: an exception begins with its path."""
        return any(f"{text}/".startswith(f"{directory}/") for text in self.exceptions)


def for_build(directory: str, dockerfile: str) -> Ignore:
    """What is left out of the context in `directory`. The recipe and the file itself are always sent, since the daemon
    needs them; `dockerfile` is "" when the recipe does not stand in the context."""
    patterns = read(directory)
    for name in (NAME, dockerfile):
        if name and Ignore(patterns).leaves_out(name):
            patterns.append(f"!{name}")
    return Ignore(patterns)
