"""Platforms as people write them: ``arm64``, ``linux/x86_64``."""

from __future__ import annotations

import re

from pyd_frontend_dockerfile.mistakes import Mistake
from pyd_frontend_dockerfile.quoting import quoted

__all__ = ["read_platform"]

_PART = re.compile(r"[A-Za-z0-9_.-]+", re.ASCII)
_SYSTEMS = frozenset(
    "aix android darwin dragonfly freebsd illumos ios js linux netbsd openbsd plan9 solaris windows".split()
)
_ARCHITECTURES = {
    "x86_64": ("amd64", ""), "x86-64": ("amd64", ""), "aarch64": ("arm64", ""), "armhf": ("arm", "v7"), "armel": ("arm", "v6"),
    "i386": ("386", ""), "i486": ("386", ""), "i586": ("386", ""), "i686": ("386", ""),
}  # fmt: skip


def read_platform(text: str, default: str) -> str:
    """``os/architecture`` or ``os/architecture/variant``; what is not said is as in *default*."""
    parts = [part.lower() for part in text.split("/")]
    if len(parts) > 3 or not all(_PART.fullmatch(part) for part in parts):
        raise Mistake(f"failed to parse platform {text}: {quoted(text)}: cannot parse platform specifier")
    if len(parts) == 1:
        system, architecture = [*default.split("/"), ""][:2]
        parts = [parts[0], architecture] if parts[0] in _SYSTEMS else [system, parts[0]]
    name, variant = _ARCHITECTURES.get(parts[1], (parts[1], ""))
    variant = parts[2] if len(parts) == 3 else variant
    if (name, variant) in (("arm64", "v8"), ("amd64", "v1")):
        variant = ""
    return "/".join(each for each in (parts[0], name, variant) if each)
