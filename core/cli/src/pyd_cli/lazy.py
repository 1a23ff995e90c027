"""Modules that are loaded when first used: click imports some that a command never touches.

`inspect` (with `ast`, `dis` and `tokenize` behind it) costs a quarter of click, and is there for cleaning doc strings.
importlib.util.LazyLoader is no help: CPython 3.11's `import` reads `__spec__`
of a module it finds in sys.modules, and reading any attribute is what makes LazyLoader load.
"""

from __future__ import annotations

import sys
from types import ModuleType
from typing import Any


class Deferred(ModuleType):
    """Stands for a module in sys.modules, and becomes it when the first of its names is read."""

    def __getattr__(self, name: str) -> Any:
        if name in ("__path__", "__spec__", "__file__"):
            raise AttributeError(name)  # the import system asks for these; they are no use of the module
        own = self.__name__
        if sys.modules.get(own) is self:
            del sys.modules[own]
        real = __import__(own)
        self.__dict__.update(vars(real))
        return getattr(real, name)


def defer(*names: str) -> None:
    """Load the named top-level modules only when a name in them is read. Loaded ones stay as they are."""
    for name in names:
        if name not in sys.modules:
            sys.modules[name] = Deferred(name)
