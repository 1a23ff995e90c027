"""The two decorators that every contract and driver shares, and the one that describes a driver's settings."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import pluggy

if TYPE_CHECKING:
    from pyd_contracts.context import Setting

__all__ = ["PROJECT", "hookimpl", "hookspec", "settings", "settings_of"]

PROJECT = "pyd"
hookspec = pluggy.HookspecMarker(PROJECT)
hookimpl = pluggy.HookimplMarker(PROJECT)

F = TypeVar("F", bound=Callable[..., Any])
_ATTRIBUTE = "pyd_settings"


def settings(*declared: Setting) -> Callable[[F], F]:
    """Declare the settings an entry point reads, so that a configuration can be checked without building the driver."""

    def mark(create: F) -> F:
        setattr(create, _ATTRIBUTE, declared)
        return create

    return mark


def settings_of(create: object) -> tuple[Setting, ...]:
    """The settings an entry point declared; empty when it takes none."""
    return tuple(getattr(create, _ATTRIBUTE, ()))
