"""Words of a recipe: quotes, escapes and variables, as a shell has them.

``$v ${v} ${v:-d} ${v-d} ${v:+a} ${v+a} ${v:?e} ${v?e} ${v#p} ${v##p} ${v%p} ${v%%p} ${v/a/b} ${v//a/b}``
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from pyd_frontend_dockerfile.budget import Budget
from pyd_frontend_dockerfile.mistakes import Mistake
from pyd_frontend_dockerfile.patterns import Pattern
from pyd_frontend_dockerfile.quoting import quoted

__all__ = ["LONGEST", "Lexer"]

LONGEST = 1 << 20
"""Characters of one word; the kernel takes an eighth of that. ``ENV a=$a$a`` forty times would be a terabyte."""
_DEEPEST = 50
_SPECIAL = "@*#?-$!"


class Lexer:
    """Words with one escape character, which a directive may change."""

    def __init__(self, escape: str, budget: Budget) -> None:
        self.escape, self.budget = escape, budget

    def expand(self, text: str, variables: Mapping[str, str], *, here: bool = False) -> str:
        """One word. *here*: of a here-document, where quotes are themselves and only ``\\$`` and ``\\\\`` are escapes."""
        return "".join(piece for piece, _ in self._pieces(text, variables, here))

    def split(self, text: str, variables: Mapping[str, str]) -> list[str]:
        """Several words: blanks part them, also those in values, but for what is quoted."""
        found: list[str] = []
        begun = False
        for piece, whole in self._pieces(text, variables, here=False):
            for part in [piece] if whole else re.split(r"(\s+)", piece):
                if not whole and (not part or part.isspace()):
                    begun = begun and not part
                elif begun:
                    found[-1] += part
                else:
                    found.append(part)
                    begun = True
        return [word for word in found if word]

    def _pieces(self, text: str, variables: Mapping[str, str], here: bool) -> list[tuple[str, bool]]:
        try:
            return _Reading(self, text, variables, here).until(None, keep_escapes=False)
        except Mistake as mistake:
            shown = quoted(text if len(text) <= 200 else text[:200] + "…")
            raise Mistake(f"failed to process {shown}: {mistake}") from None


class _Reading:
    """One pass over a word."""

    def __init__(self, lexer: Lexer, text: str, variables: Mapping[str, str], here: bool) -> None:
        self._escape, self._budget = lexer.escape, lexer.budget
        self._text, self._variables, self._here = text, variables, here
        self._at = self._depth = self._size = 0
        self._special = re.compile(r"[^$'\"" + re.escape(self._escape) + "]+")

    @property
    def _next(self) -> str:
        return self._text[self._at : self._at + 1]

    def _take(self) -> str:
        found = self._next
        self._at += 1
        return found

    def until(self, stop: str | None, *, keep_escapes: bool) -> list[tuple[str, bool]]:
        """Pieces up to *stop*, or to the end: text, and whether its blanks are no borders."""
        self._depth += 1
        if self._depth > _DEEPEST:
            raise Mistake("substitutions are nested too deeply")
        found: list[tuple[str, bool]] = []
        while each := self._next:
            if each == stop:
                self._at += 1
                self._depth -= 1
                return found
            if each == "'" and not self._here:
                found.append((self._single(), True))
            elif each == '"' and not self._here:
                found.append((self._double(keep_escapes), True))
            elif each == "$":
                found.append((self._dollar(), False))
            elif each == self._escape:
                self._at += 1
                escaped = self._take()
                kept = keep_escapes or (self._here and escaped not in ("$", self._escape))
                found.append((each + escaped if kept else escaped, True))
            elif stop is None and (plain := self._special.match(self._text, self._at)):
                self._at = plain.end()
                found.append((plain[0], False))
            else:
                found.append((self._take(), False))
        if stop is not None:
            raise Mistake(f"syntax error: missing '{stop}'")
        return found

    def _single(self) -> str:
        self._at += 1
        end = self._text.find("'", self._at)
        if end < 0:
            raise Mistake("unexpected end of statement while looking for matching single-quote")
        found = self._text[self._at : end]
        self._at = end + 1
        return found

    def _double(self, keep_escapes: bool) -> str:
        self._at += 1
        found: list[str] = []
        while each := self._next:
            if each == '"':
                self._at += 1
                return "".join(found)
            if each == "$":
                found.append(self._dollar())
                continue
            self._at += 1
            if each == self._escape:
                if keep_escapes:
                    found.append(each)
                if self._next in ('"', "$", self._escape):
                    each = self._take()
                elif keep_escapes or not self._next:
                    continue
            found.append(each)
        raise Mistake("unexpected end of statement while looking for matching double-quote")

    def _dollar(self) -> str:
        self._at += 1
        if self._next != "{":
            name = self._name()
            return self._counted(self._variables.get(name, "")) if name else "$"
        self._at += 1
        if not self._next:
            raise Mistake("syntax error: missing '}'")
        if self._next in "{}:":
            raise Mistake("syntax error: bad substitution")
        name = self._name()
        return self._counted(self._substituted(name, self._take()))

    def _substituted(self, name: str, how: str) -> str:
        value = self._variables.get(name)
        if how == "}":
            return value or ""
        if how == "/":
            return self._replaced(value or "")
        shown, empty_counts = how, True
        if how == ":":
            how, empty_counts = self._take(), False
            shown += how
        if not how:
            raise Mistake("syntax error: missing '}'")
        if how not in "+-?#%" or (not empty_counts and how in "#%"):
            raise Mistake(f"unsupported modifier ({shown}) in substitution")
        word = self._joined("}", keep_escapes=how in "#%")
        there = value is not None and (empty_counts or value != "")
        if how == "-":
            return value or "" if there else word
        if how == "+":
            return word if there else ""
        if how == "?":
            if not there:
                state = "unset" if value is None else "empty"
                raise Mistake(f"{name}: {word or f'is not allowed to be {state}'}")
            return value or ""
        longest = word.startswith(how)
        pattern = Pattern(word[1:] if longest else word, self._budget)
        cut = pattern.without_prefix if how == "#" else pattern.without_suffix
        return cut(value or "", longest=longest)

    def _replaced(self, value: str) -> str:
        everywhere = self._next == "/"
        if everywhere:
            self._at += 1
        pattern = Pattern(self._joined("/", keep_escapes=True), self._budget)
        replacement = self._joined("}", keep_escapes=False)
        return pattern.replaced(value, replacement, everywhere=everywhere, limit=LONGEST)

    def _joined(self, stop: str, *, keep_escapes: bool) -> str:
        return "".join(piece for piece, _ in self.until(stop, keep_escapes=keep_escapes))

    def _counted(self, value: str) -> str:
        self._size += len(value)
        if self._size > LONGEST:
            raise Mistake(f"variables make a word of more than {LONGEST} characters")
        return value

    def _name(self) -> str:
        found = re.compile(rf"[0-9]+|[{re.escape(_SPECIAL)}]|\w*").match(self._text, self._at)
        self._at = found.end() if found else self._at
        return found[0] if found else ""
