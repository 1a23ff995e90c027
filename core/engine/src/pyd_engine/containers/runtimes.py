"""The names ``--runtime`` may have, and what each stands for: an isolation backend, or one of the programs of a backend."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pyd_contracts.errors import InvalidArgument
from pyd_contracts.isolation import IsolationBackend

__all__ = ["Runtime", "RuntimeTable", "powers"]

_ALIASES = {"io.containerd.runc.v2": "runc"}
"""Names that dockerd's clients know for a runtime, where there is that one."""


@dataclass(frozen=True, slots=True)
class Runtime:
    """What a name stands for: the backend, its program for `Sandbox.runtime` (empty: its own choice), and what to show."""

    isolation: str
    program: str
    path: str


class RuntimeTable:
    """Every backend by its name, and the programs that backends with the capability ``runtimes`` have.

    A backend's own name goes before another's program of that name. *default* is the backend of containers that name none.
    """

    def __init__(self, isolations: Mapping[str, IsolationBackend], default: str) -> None:
        self._names = {name: Runtime(name, "", name) for name in isolations}
        self.default = default
        for name, backend in isolations.items():
            programs = _programs(backend)
            for program, path in programs.items():
                self._names.setdefault(program, Runtime(name, program, path))
            if name == default and programs:
                first = next(iter(programs))
                self.default = first if self._names[first].isolation == name else name
        for alias, name in _ALIASES.items():
            if name in self._names:
                self._names.setdefault(alias, self._names[name])

    @property
    def names(self) -> frozenset[str]:
        """All of them."""
        return frozenset(self._names)

    def of(self, name: str) -> Runtime:
        """What *name* stands for. Raises InvalidArgument in dockerd's words."""
        try:
            return self._names[name or self.default]
        except KeyError:
            raise InvalidArgument(f"unknown or invalid runtime name: {name}") from None

    def described(self) -> dict[str, dict[str, str]]:
        """As ``GET /info`` shows them: each name with a path."""
        return {name: {"path": self._names[name].path} for name in sorted(self._names)}


def powers(backend: Any) -> frozenset[str]:
    """The capabilities that a backend declares, if it declares any."""
    declared: frozenset[str] = getattr(backend, "capabilities", frozenset())
    return declared


def _programs(backend: Any) -> Mapping[str, str]:
    if "runtimes" not in powers(backend):
        return {}
    programs: Mapping[str, str] = backend.isolation_runtimes()
    return programs
