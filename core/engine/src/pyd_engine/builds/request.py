"""What a client asks of a build, and what those around it give."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from pyd_engine.containers.host_config import HostConfig
from pyd_engine.images.auth import Credentials

__all__ = ["BuildFailure", "BuildRequest", "Say"]

Say = Callable[[dict[str, object]], None]
"""Takes one record for the client."""


class BuildFailure(Exception):
    """A program of the recipe ended with a status that is not 0."""

    def __init__(self, message: str, code: int) -> None:
        super().__init__(message)
        self.code = code


@dataclass(frozen=True, slots=True)
class BuildRequest:
    """The query of ``POST /build``.

    recipe       path of the recipe in the context
    remote       where the context is; empty: it is sent
    tags         names for the image
    limits       of the containers that run the recipe's programs
    cache_from   images whose steps may be used; none: all that is here
    keep         containers of successful steps are kept; keep_failed: those of steps that failed
    credentials  by registry
    """

    recipe: str = "Dockerfile"
    remote: str = ""
    tags: tuple[str, ...] = ()
    target: str = ""
    arguments: Mapping[str, str | None] = field(default_factory=dict)
    labels: Mapping[str, str] = field(default_factory=dict)
    platform: str = ""
    cache_from: tuple[str, ...] = ()
    no_cache: bool = False
    pull: bool = False
    quiet: bool = False
    keep: bool = False
    keep_failed: bool = False
    limits: HostConfig = field(default_factory=HostConfig)
    credentials: Callable[[str], Credentials] = lambda _domain: Credentials()
