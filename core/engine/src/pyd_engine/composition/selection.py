"""What the configuration asks of the composition, without knowing where configuration comes from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

__all__ = ["Choice", "Selection"]


@dataclass(frozen=True, slots=True)
class Choice:
    """What is asked of one slot.

    default   the driver of who names none; it must work. None: there is no such thing in this slot
    needed    further drivers that must work; others are tried as well
    listed    the drivers to load, all of which must work. None: every installed one is tried, and may decline
    disabled  never loaded
    tables    settings by driver
    """

    default: str | None = None
    needed: tuple[str, ...] = ()
    listed: tuple[str, ...] | None = None
    disabled: tuple[str, ...] = ()
    tables: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    def required(self) -> tuple[str, ...]:
        """The drivers without which the daemon does not start."""
        first = () if self.default is None else (self.default,)
        return tuple(dict.fromkeys(first + self.needed + (self.listed or ())))

    def tried(self, name: str) -> bool:
        """Whether an installed driver is to be loaded."""
        if name in self.required():
            return True
        return self.listed is None and name not in self.disabled


@dataclass(frozen=True, slots=True)
class Selection:
    """What is asked of all slots. *origins* says by key (``storage.default``) where a value comes from, in words that
    follow it in a message: ``in /etc/pyd/pyd.toml``, ``(default)``."""

    storage: Choice = field(default_factory=Choice)
    network: Choice = field(default_factory=Choice)
    ipam: Choice = field(default_factory=Choice)
    isolation: Choice = field(default_factory=Choice)
    volume: Choice = field(default_factory=Choice)
    logging: Choice = field(default_factory=Choice)
    frontend: Choice = field(default_factory=Choice)
    plugins: Choice = field(default_factory=Choice)
    origins: Mapping[str, str] = field(default_factory=dict)

    def of(self, kind: str) -> Choice:
        """The choice of one slot by its kind."""
        choice: Choice = getattr(self, kind)
        return choice

    def setting(self, kind: str, name: str) -> str:
        """Which setting asks for a driver, for messages: ``[storage] default = "overlay" in /etc/pyd/pyd.toml``."""
        choice = self.of(kind)
        key, value = (
            ("default", f'"{name}"') if name == choice.default else ("drivers", _array(choice.listed or choice.needed))
        )
        return f"[{kind}] {key} = {value} {self.origins.get(f'{kind}.{key}', '(default)')}"

    def table(self, kind: str, name: str) -> str:
        """A driver's table, for messages: ``[storage.overlay] in /etc/pyd/pyd.toml``."""
        return f"[{kind}.{name}] {self.origins.get(f'{kind}.{name}', '(default)')}"


def _array(names: tuple[str, ...]) -> str:
    return "[" + ", ".join(f'"{name}"' for name in names) + "]"
