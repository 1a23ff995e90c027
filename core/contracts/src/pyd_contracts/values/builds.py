"""Values of builds: what a frontend is given, and the plan it makes of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

__all__ = ["Copy", "Plan", "Recipe", "Run", "Stage", "Step"]


@dataclass(frozen=True, slots=True)
class Recipe:
    """How an image is to be made, as somebody wrote it.

    text       the file's text, a Dockerfile for example
    name       the file's name, for messages
    target     the stage to end with, by name or number; empty: the last one
    arguments  by name what the file's arguments are to be (``--build-arg``); None: as if it were not given
    platform   ``os/architecture`` or ``os/architecture/variant`` of the image
    machine    the same of who builds, for recipes that cross-compile; empty: as *platform*
    """

    text: str
    name: str = "Dockerfile"
    target: str = ""
    arguments: Mapping[str, str | None] = field(default_factory=dict)
    platform: str = "linux/amd64"
    machine: str = ""


@dataclass(frozen=True, slots=True)
class Run:
    """Run a program in a container of the image so far; what it changes becomes a layer.

    command      program and arguments
    environment  ``NAME=value`` items beside those of the image's configuration: arguments in effect
    network      ``default``, ``none`` or ``host``; empty: as the build says
    stdin        what the program reads, nothing by default
    untold       likewise items for its environment, that are no part of the image's history and make no difference to what is
                 cached: proxies
    """

    command: tuple[str, ...]
    environment: tuple[str, ...] = ()
    network: str = ""
    stdin: bytes = b""
    untold: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Copy:
    """Put files into the image so far, as a layer.

    sources      paths below *origin*, with the wildcards of Go's path.Match; for *fetch* also URLs. With neither these nor
                 *inline* the destination is made, where it is not there (``WORKDIR``)
    destination  an absolute path; a directory, also one that is not there yet, ends with ``/``
    origin       None: the build's context; a number: that stage of the plan; text: an image
    fetch        download URLs, and unpack what is a tar archive of the context (``ADD``)
    owner        ``user``, ``user:group`` or numbers, as in the image; empty: root's
    mode         permissions of all files, None: as they are
    inline       content of files that the recipe itself holds, by name; they come after the sources
    """

    sources: tuple[str, ...]
    destination: str
    origin: int | str | None = None
    fetch: bool = False
    owner: str = ""
    mode: int | None = None
    inline: Mapping[str, bytes] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Step:
    """One instruction.

    text    as it was written, on one line: ``RUN make all``; what is shown while it is done
    meaning the same with its variables put in, for the image's history: ``ENV A=b``
    line    where the recipe has it, counted from 1; 0: it comes from the base image (``ONBUILD``)
    config  the ``config`` object of the image after it (image-spec config.md), whole
    author  of the image after it
    work    what has to be done; None: nothing but the configuration changes
    """

    text: str
    meaning: str
    line: int
    config: Mapping[str, Any]
    author: str = ""
    work: Run | Copy | None = None


@dataclass(frozen=True, slots=True)
class Stage:
    """Steps over a base.

    text      the instruction that begins it: ``FROM debian AS build``
    line      where the recipe has it
    name      as other stages call it; empty: it has none
    base      an image's name; a number: an earlier stage of the plan; None: nothing at all
    platform  of the base, where it is to be another than the recipe's
    config    the ``config`` object before the first step
    """

    text: str
    line: int
    base: str | int | None
    steps: tuple[Step, ...]
    name: str = ""
    platform: str = ""
    config: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Plan:
    """Stages in the order in which they are built, each after those that it needs; the last one becomes the image.

    unused    names of arguments that were given and that nothing in the recipe asks for
    warnings  lines for people
    preamble  instructions before the first stage, as they were written; nothing is left to do about them
    """

    stages: tuple[Stage, ...]
    unused: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    preamble: tuple[str, ...] = ()
