"""What is wrong with a recipe, before anybody knows in which line."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from pyd_contracts.errors import InvalidArgument

__all__ = ["Mistake", "located", "printable"]


class Mistake(Exception):
    """Somebody wrote something that cannot be; `located` says where."""


@contextmanager
def located(where: str) -> Iterator[None]:
    """Say *where* (``Dockerfile:3``) of each mistake within."""
    try:
        yield
    except Mistake as mistake:
        raise InvalidArgument(f"{where}: {printable(str(mistake))}") from mistake


def printable(text: str) -> str:
    """What a recipe holds is quoted on somebody's terminal: nothing in it commands that."""
    return "".join(each if each.isprintable() or each == "\n" else repr(each)[1:-1] for each in text)
