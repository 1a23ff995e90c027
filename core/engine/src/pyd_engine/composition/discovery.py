"""What is installed, and loading exactly one of it.

Names, distributions and versions come from `importlib.metadata`, which imports nothing. stevedore loads the one that
was chosen. stevedore also keeps entry points in a file below ``~/.cache``: a service has no home directory, and the
cache's key holds modification times as 32-bit floats, so that a driver installed again within two minutes may not be
noticed. What `importlib.metadata` said is therefore handed to stevedore, and the file is neither read nor written.
"""

from __future__ import annotations

import difflib
import importlib.metadata
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from stevedore.driver import DriverManager
from stevedore.exception import MultipleMatches, NoMatches
from stevedore.extension import ExtensionManager

from pyd_contracts.context import DriverContext
from pyd_contracts.errors import InvalidArgument, NotFound
from pyd_engine.composition.slots import SLOTS

__all__ = ["Catalogue", "Factory", "Installed", "discover", "nearest"]

Factory = Callable[[DriverContext], object]


@dataclass(frozen=True, slots=True)
class Installed:
    """One entry point: its *name*, where it leads (``module:object``), and the distribution that brought it."""

    group: str
    name: str
    value: str
    distribution: str
    version: str


class Catalogue:
    """What was installed when it was made."""

    def __init__(self, points: Mapping[str, Sequence[importlib.metadata.EntryPoint]]) -> None:
        self._points = {group: tuple(found) for group, found in points.items()}

    def of(self, group: str) -> list[Installed]:
        """All entry points of a group, by name. A name that is there twice comes twice."""
        return sorted(
            (_describe(group, point) for point in self._points.get(group, ())), key=lambda each: (each.name, each.value)
        )

    def names(self, group: str) -> list[str]:
        """The names of a group, each once, sorted."""
        return sorted({point.name for point in self._points.get(group, ())})

    def one(self, group: str, name: str) -> Installed:
        """The entry point called *name*.

        Raises NotFound when it is not installed and InvalidArgument when two distributions bring it; both messages are
        ends of a sentence, to be put after what was asked for.
        """
        found = [each for each in self.of(group) if each.name == name]
        if not found:
            raise NotFound(f"is not installed; {nearest(name, self.names(group))}")
        if len(found) > 1:
            raise InvalidArgument(_twice(found))
        return found[0]

    def load(self, group: str, name: str) -> Factory:
        """Import the entry point called *name* and return what it leads to.

        Raises what `one` raises; whatever the import itself raises comes through.
        """
        self.one(group, name)
        ExtensionManager.ENTRY_POINT_CACHE[group] = list(self._points[group])
        try:
            manager: DriverManager[Any] = DriverManager(group, name, on_missing_entrypoints_callback=None)
        except NoMatches as error:
            raise NotFound(f"is not installed; {nearest(name, self.names(group))}") from error
        except MultipleMatches as error:
            raise InvalidArgument(_twice([each for each in self.of(group) if each.name == name])) from error
        create = manager[name].plugin
        if not callable(create):
            raise InvalidArgument(f"its entry point {self.one(group, name).value} is not callable")
        return create


def discover() -> Catalogue:
    """Look at what is installed now, importing none of it."""
    every = importlib.metadata.entry_points()
    return Catalogue({slot.group: tuple(every.select(group=slot.group)) for slot in SLOTS})


def nearest(name: str, known: Iterable[str]) -> str:
    """A hint for a name that is not known: the nearest one, and what there is.

    >>> nearest("ovrlay", ["overlay", "vfs"])
    'did you mean "overlay"? installed: overlay, vfs'
    >>> nearest("x", [])
    'installed: none'
    """
    names = sorted(known)
    near = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    question = f'did you mean "{near[0]}"? ' if near else ""
    return f"{question}installed: {', '.join(names) or 'none'}"


def _describe(group: str, point: importlib.metadata.EntryPoint) -> Installed:
    distribution = point.dist
    if distribution is None:
        return Installed(group, point.name, point.value, "unknown", "unknown")
    return Installed(group, point.name, point.value, distribution.name, distribution.version)


def _twice(found: Sequence[Installed]) -> str:
    whose = " and ".join(f"{each.distribution} {each.version} ({each.value})" for each in found)
    return f"is brought by {len(found)} distributions: {whose}; remove one of them"
