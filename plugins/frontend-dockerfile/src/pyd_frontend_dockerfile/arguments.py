"""``ARG``: what may be given from outside, and what of it is in effect where."""

from __future__ import annotations

from collections.abc import Mapping

from pyd_frontend_dockerfile.budget import Budget

__all__ = ["PREDEFINED", "Arguments", "platform_arguments"]

PREDEFINED = frozenset(
    each
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "FTP_PROXY", "NO_PROXY", "ALL_PROXY")
    for each in (name, name.lower())
)
"""May be given to any recipe, need no ``ARG``, and are not told in the image's history without one."""


def platform_arguments(target: str, machine: str) -> dict[str, str]:
    """``TARGETPLATFORM`` and those like it; all of them are global."""
    found = {}
    for prefix, platform in (("TARGET", target), ("BUILD", machine)):
        system, architecture, variant = (*platform.split("/", 2), "", "")[:3]
        found[f"{prefix}PLATFORM"] = platform
        found[f"{prefix}OS"], found[f"{prefix}ARCH"], found[f"{prefix}VARIANT"] = system, architecture, variant
    return found


class Arguments:
    """Arguments of one stage.

    *given* from outside; *automatic* ones and those above the first stage (*outer*) have values for whoever asks.
    """

    def __init__(
        self,
        given: Mapping[str, str],
        automatic: Mapping[str, str],
        budget: Budget,
        outer: Mapping[str, str | None] | None = None,
    ) -> None:
        self._budget = budget
        self._given, self._automatic, self._outer = given, automatic, outer or {}
        self._declared: dict[str, str | None] = {}

    def declare(self, name: str, default: str | None) -> None:
        """``ARG``."""
        self._declared[name] = default

    def beside(self, environment: Mapping[str, str]) -> dict[str, str]:
        """Those in effect that no variable of the image hides."""
        self._budget.spend(len(self._declared))
        names = {*self._declared, *({*self._given, *self._outer} & PREDEFINED)}
        values = {name: self._value(name) for name in sorted(names - environment.keys())}
        return {name: value for name, value in values.items() if value is not None}

    def is_told(self, name: str) -> bool:
        """The history tells it: the recipe asks for it."""
        return name in self._declared

    def outermost(self) -> dict[str, str]:
        """What ``FROM`` may name, when these are the arguments above the first stage."""
        return {**self._automatic, **self.beside({})}

    @property
    def declared(self) -> dict[str, str | None]:
        """Names and defaults."""
        return dict(self._declared)

    def _value(self, name: str) -> str | None:
        if name in self._given:
            return self._given[name]
        if (default := self._declared.get(name)) is not None:
            return default
        if (outer := self._outer.get(name)) is not None:
            return outer
        return self._automatic.get(name)
