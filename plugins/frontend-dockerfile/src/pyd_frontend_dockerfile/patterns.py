"""Patterns of ``${v#p}``, ``${v%p}`` and ``${v/p/r}``: ``*``, ``?`` and escapes.

A recipe is somebody's text and regular expressions can be made to backtrack for ever, so this one does not: all ways to match
are followed at once, as bits of a number.
"""

from __future__ import annotations

from pyd_frontend_dockerfile.budget import Budget
from pyd_frontend_dockerfile.mistakes import Mistake

__all__ = ["Pattern"]

_LONGEST = 4096


class Pattern:
    """One pattern."""

    def __init__(self, text: str, budget: Budget) -> None:
        self._budget = budget
        self._parts = _parts(text)
        if len(self._parts) > _LONGEST:
            raise Mistake(f"a pattern in a substitution has more than {_LONGEST} characters")

    def without_prefix(self, value: str, *, longest: bool) -> str:
        """*value* without what the pattern matches at its beginning."""
        end = _Matcher(self._parts, self._budget).end(value, 0, longest=longest)
        return value if end is None else value[end:]

    def without_suffix(self, value: str, *, longest: bool) -> str:
        """*value* without what the pattern matches at its end."""
        end = _Matcher(self._parts[::-1], self._budget).end(value[::-1], 0, longest=longest)
        return value if end is None else value[: len(value) - end]

    def replaced(self, value: str, replacement: str, *, everywhere: bool, limit: int) -> str:
        """*value* with *replacement* in place of the first match, or of all; not longer than *limit*."""
        matcher, found, at, size = _Matcher(self._parts, self._budget), [], 0, len(value)
        if not self._parts:
            return value
        while at <= len(value):
            end = matcher.end(value, at, longest=True)
            if end is None or (end == at and at < len(value)):
                found.append(value[at : at + 1])
                at += 1
                continue
            if end == at and found and at:
                break  # nothing is left, and what was there is replaced already
            size += len(replacement)
            if size > limit:
                raise Mistake(f"a substitution makes a word of more than {limit} characters")
            found.append(replacement)
            if not everywhere:
                return "".join(found) + value[end:]
            at = end if end > at else at + 1
        return "".join(found)


_Part = tuple[str, str]  # kind and character
_STAR, _ANY, _PLAIN = "*", "?", "="


def _parts(text: str) -> list[_Part]:
    found: list[_Part] = []
    characters = iter(text)
    for each in characters:
        if each == "*":
            if not found or found[-1][0] != _STAR:
                found.append((_STAR, ""))
        elif each == "?":
            found.append((_ANY, ""))
        elif each == "\\":
            escaped = next(characters, "")
            if escaped not in ("*", "?", "\\", "}", "/"):
                raise Mistake(f"invalid pattern ({text}) in substitution: invalid escape '\\{escaped}'")
            found.append((_PLAIN, escaped))
        else:
            found.append((_PLAIN, each))
    return found


class _Matcher:
    """Bit *n* of a state is set when the first *n* parts match what was read."""

    def __init__(self, parts: list[_Part], budget: Budget) -> None:
        self._budget, self._cost = budget, 1 + len(parts) // 64
        self._stars = sum(1 << n for n, (kind, _) in enumerate(parts) if kind == _STAR)
        self._any = sum(1 << n for n, (kind, _) in enumerate(parts) if kind == _ANY)
        self._plain: dict[str, int] = {}
        for n, (kind, character) in enumerate(parts):
            if kind == _PLAIN:
                self._plain[character] = self._plain.get(character, 0) | 1 << n
        self._whole = 1 << len(parts)

    def end(self, text: str, start: int, *, longest: bool) -> int | None:
        """Where a match that begins at *start* ends; None: there is none."""
        state = self._passed(1)
        found = start if state & self._whole else None
        for at in range(start, len(text)):
            if not state or (found is not None and not longest):
                break
            self._budget.spend(self._cost)
            each = text[at]
            takes = self._plain.get(each, 0) | (0 if each == "\n" else self._any)
            kept = 0 if each == "\n" else state & self._stars
            state = self._passed((state & takes) << 1 | kept)
            if state & self._whole:
                found = at + 1
        return found

    def _passed(self, state: int) -> int:
        """A star may stand for nothing; no two stars follow one another."""
        return state | (state & self._stars) << 1
