"""Doing the same to several objects: names of the good ones on stdout, errors of the others on stderr, 1 at the end."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from pyd_cli.errors import ApiError, CliError, Unreachable

if TYPE_CHECKING:
    from pyd_cli.session import Session


def each(session: Session, names: Iterable[str], action: Callable[[str], str | None]) -> int:
    """Call `action` for every name. What it returns is printed, or the name when it returns None.

    A daemon that cannot be reached ends the round: it would say the same for every name.
    """
    status = 0
    for name in names:
        try:
            shown = action(name)
        except Unreachable:
            raise
        except (ApiError, CliError) as fault:
            session.complain(fault)
            status = 1
            continue
        session.say(name if shown is None else shown)
    return status
