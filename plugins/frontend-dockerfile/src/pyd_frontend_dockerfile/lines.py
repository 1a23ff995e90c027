"""Lines of a recipe: directives at its head, continued lines, comments, here-documents."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from pyd_frontend_dockerfile.mistakes import Mistake, located

__all__ = ["Document", "Heredoc", "Line", "read_lines", "split_words"]

_DIRECTIVE = re.compile(r"#\s*([a-zA-Z][a-zA-Z0-9]*)\s*=\s*(.+?)\s*", re.ASCII)
_KNOWN = ("syntax", "escape", "check")
_HEREDOC = re.compile(r"[0-9]*<<(-?)([^<0-9][^<]*)", re.ASCII)
"""No number: ``$((1 <<2))`` is arithmetic."""
_WITH_HEREDOCS = re.compile(r"\s*(?:ONBUILD\s+)?(?:RUN|COPY|ADD)\s", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Heredoc:
    """Lines that stand below an instruction: ``<<NAME``.

    mark     as the instruction has it, with quotes: ``<<-"NAME"``
    content  without leading tabs where it says ``<<-``
    written  with them
    expand   variables are put in: the name is in no quotes
    """

    mark: str
    name: str
    content: str
    written: str
    expand: bool


@dataclass(frozen=True, slots=True)
class Line:
    """An instruction on one line, and where it begins; blanks at its end are as they were."""

    number: int
    text: str
    heredocs: tuple[Heredoc, ...] = ()


@dataclass(frozen=True, slots=True)
class Document:
    """The text as lines; *escape* continues lines and escapes characters."""

    lines: tuple[Line, ...]
    escape: str
    warnings: tuple[str, ...]


def read_lines(text: str, name: str) -> Document:
    """Read *text*, which messages call *name*."""
    return _Reader(text, name).document()


def split_words(text: str, escape: str) -> list[str]:
    """Words that blanks outside of quotes part, with their quotes and escapes."""
    found: list[str] = []
    at, word, quote, begun = 0, [""], "", False
    while at < len(text):
        each = text[at]
        at += 1
        if not quote and each.isspace():
            if begun:
                found.append("".join(word))
            word, begun = [""], False
            continue
        begun = True
        if each == escape and quote != "'":
            if at == len(text):
                begun = len(word) > 1  # an escape at the end escapes nothing
                break
            word.append(each)
            each = text[at]
            at += 1
        elif each == quote:
            quote = ""
        elif not quote and each in "'\"":
            quote = each
        word.append(each)
    if begun:
        found.append("".join(word))
    return found


class _Reader:
    def __init__(self, text: str, name: str) -> None:
        self._name = name
        self._lines = [line.removesuffix("\r") for line in text.removeprefix("\ufeff").split("\n")]
        self._at = 0
        self._escape = "\\"
        self._warnings: list[str] = []

    def document(self) -> Document:
        self._directives()
        lines = tuple(self._instructions())
        if not lines:
            with located(f"{self._name}:1"):
                empty = self._lines == [""]
                raise Mistake(
                    f"the Dockerfile ({self._name}) cannot be empty" if empty else "file with no instructions"
                )
        return Document(lines, self._escape, tuple(self._warnings))

    def _directives(self) -> None:
        """``# escape=`` and others are directives above anything else only; below they are comments."""
        seen: set[str] = set()
        while self._at < len(self._lines) and (match := _DIRECTIVE.fullmatch(self._lines[self._at].strip())):
            word, value = match[1].lower(), match[2]
            if word not in _KNOWN:
                return
            self._at += 1
            with located(f"{self._name}:{self._at}"):
                if word in seen:
                    raise Mistake(f"only one {word} parser directive can be used")
                if word == "escape":
                    if value not in ("\\", "`"):
                        raise Mistake(f"invalid escape token '{value[:20]}' does not match ` or \\")
                    self._escape = value
            seen.add(word)

    def _instructions(self) -> Iterator[Line]:
        while self._at < len(self._lines):
            number = self._at + 1
            text = self._logical()
            if text.strip():
                with located(f"{self._name}:{number}"):
                    yield Line(number, text.lstrip(), self._heredocs(text))

    def _logical(self) -> str:
        """One line and those that continue it; comments between them are left out."""
        first = self._take().lstrip(" \t")
        if first.startswith("#"):
            return ""
        text, continued = self._continued(first)
        parts, gaps = [text], False
        while continued and self._at < len(self._lines):
            line = self._take()
            if line.lstrip().startswith("#"):
                continue
            if not line.strip():
                gaps = gaps or self._at < len(self._lines)  # what follows the last line break is no line
                continue
            text, continued = self._continued(line)
            parts.append(text)
        whole = "".join(parts)
        if gaps and whole.strip():
            self._warnings += [
                f"[WARNING]: Empty continuation line found in:\n    {whole.strip()}",
                "[WARNING]: Empty continuation lines will become errors in a future release.",
            ]
        return whole

    def _take(self) -> str:
        self._at += 1
        return self._lines[self._at - 1]

    def _continued(self, line: str) -> tuple[str, bool]:
        bare = line.rstrip(" \t")
        if bare.endswith(self._escape) and not bare.endswith(self._escape * 2):
            return bare[:-1], True
        return line, False

    def _heredocs(self, text: str) -> tuple[Heredoc, ...]:
        if "<<" not in text or not _WITH_HEREDOCS.match(text):
            return ()
        marks = [match for word in split_words(text, self._escape) if (match := _HEREDOC.fullmatch(word))]
        return tuple(self._heredoc(match[0], match[2], tabs=not match[1]) for match in marks)

    def _heredoc(self, mark: str, word: str, *, tabs: bool) -> Heredoc:
        name = re.sub(r"['\"]", "", word).replace(self._escape, "")
        if not name:
            raise Mistake(f"here-document {mark} has no name")
        written: list[str] = []
        while self._at < len(self._lines):
            line = self._take()
            if (line if tabs else line.lstrip("\t")) == name:
                content = written if tabs else [each.lstrip("\t") for each in written]
                return Heredoc(mark, name, _joined(content), _joined(written), expand=name == word)
            written.append(line)
        raise Mistake(f"unterminated heredoc {mark}")


def _joined(lines: list[str]) -> str:
    return "".join(line + "\n" for line in lines)
