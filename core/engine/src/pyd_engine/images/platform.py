"""Platforms (``linux/arm64/v8``) and which of several images fits this host: containerd's ``platforms.Only``."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from dataclasses import dataclass

from pyd_contracts.errors import InvalidArgument

__all__ = ["Platform", "acceptable", "host_platform", "parse_platform"]

_WORD = re.compile(r"[A-Za-z0-9_.-]{1,64}", re.ASCII)
_MACHINES = {
    "x86_64": ("amd64", ""), "amd64": ("amd64", ""), "x86-64": ("amd64", ""), "i386": ("386", ""), "i486": ("386", ""),
    "i586": ("386", ""), "i686": ("386", ""), "aarch64": ("arm64", "v8"), "arm64": ("arm64", "v8"),
    "armv8l": ("arm", "v7"), "armhf": ("arm", "v7"), "armel": ("arm", "v6"), "armv7l": ("arm", "v7"),
    "armv6l": ("arm", "v6"), "armv5tel": ("arm", "v5"), "arm": ("arm", "v7"), "ppc64le": ("ppc64le", ""),
    "s390x": ("s390x", ""), "riscv64": ("riscv64", ""), "loongarch64": ("loong64", ""), "mips64": ("mips64", ""),
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Platform:
    """What an image was built for, in Go's words."""

    os: str
    architecture: str
    variant: str = ""

    def __str__(self) -> str:
        return "/".join(part for part in (self.os, self.architecture, self.variant) if part)

    def normalised(self) -> Platform:
        """Aliases resolved and default variants made explicit, so that equal platforms compare equal."""
        word = self.architecture.lower()
        architecture, variant = _MACHINES.get(word, (word, ""))
        given = self.variant.lower()
        if given.isdigit():
            given = "v" + given
        if architecture == "amd64" and given == "v1":
            given = ""
        return Platform(self.os.lower(), architecture, given or variant)


def host_platform() -> Platform:
    """The platform of this kernel."""
    return Platform("linux", os.uname().machine).normalised()


def parse_platform(text: str) -> Platform:
    """Read ``os/arch[/variant]``, ``os`` or ``arch``. InvalidArgument for anything else."""
    parts = text.split("/")
    if not 1 <= len(parts) <= 3 or not all(_WORD.fullmatch(part) for part in parts):
        raise InvalidArgument(f'"{text[:100]}" is an invalid platform: want os/architecture or os/architecture/variant')
    if len(parts) == 1:
        word = parts[0].lower()
        if word in ("linux", "windows", "darwin", "freebsd"):
            return Platform(word, host_platform().architecture).normalised()
        known = word in _MACHINES or any(word == architecture for architecture, _ in _MACHINES.values())
        if not known:
            raise InvalidArgument(f'"{text[:100]}": unknown operating system or architecture')
        return Platform("linux", word).normalised()
    return Platform(*parts).normalised()


def acceptable(wanted: Platform) -> tuple[Platform, ...]:
    """The platforms that run where *wanted* does, best first (containerd platforms, ``platformVector``)."""
    wanted = wanted.normalised()
    found = [wanted]
    level = int(wanted.variant[1:]) if re.fullmatch(r"v[0-9]{1,2}", wanted.variant, re.ASCII) else 0

    def add(architecture: str, levels: Iterable[int]) -> None:
        found.extend(Platform(wanted.os, architecture, f"v{one}").normalised() for one in levels)

    if wanted.architecture == "amd64":
        add("amd64", range(level - 1, 0, -1))
        found.append(Platform(wanted.os, "386"))
    elif wanted.architecture == "arm":
        add("arm", range(level - 1, 4, -1))
    elif wanted.architecture == "arm64":
        add("arm64", range(level - 1, 7, -1))
        add("arm", range(7, 4, -1))
    return tuple(dict.fromkeys(found))
