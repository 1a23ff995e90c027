"""Identifiers of containers, execs and networks."""

import secrets

SHORT = 12
"""Length of the form that ``docker ps`` prints, and that a container gets as its host name."""


def new_id() -> str:
    """64 random hex digits whose short form is not a number.

    A host name of digits alone is taken for an address by some programs, which is why dockerd draws again too
    (``stringid.GenerateRandomID``).
    """
    while True:
        drawn = secrets.token_hex(32)
        if not drawn[:SHORT].isdecimal():
            return drawn
