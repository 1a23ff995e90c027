"""What is wrong with a recipe, before anybody knows in which line."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from pyd_contracts.errors import InvalidArgument

__all__ = ["Mistake", "located"]


class Mistake(Exception):
    """Somebody wrote something that cannot be; `located` says where."""


@contextmanager
def located(where: str) -> Iterator[None]:
    """Say *where* (``Dockerfile:3``) of each mistake within."""
    try:
        yield
    except Mistake as mistake:
        raise InvalidArgument(f"{where}: {mistake}") from mistake
