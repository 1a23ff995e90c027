"""Errors of the kernel on their way out of a driver: `OSError` never crosses a contract."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from pyd_contracts.errors import from_oserror

__all__ = ["translated"]


@contextlib.contextmanager
def translated(doing: str) -> Iterator[None]:
    """Say errors of the kernel in the contract's terms."""
    try:
        yield
    except OSError as error:
        raise from_oserror(error, doing) from error
