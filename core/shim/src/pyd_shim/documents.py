"""What every backend on shims reads alike of a sandbox: parts of its OCI document (runtime-spec, config.md), its mounts."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from pyd_contracts.errors import InvalidArgument
from pyd_contracts.values import Mount

__all__ = ["device", "mount", "rootfs"]

_DEVICE_TYPES = {"c", "u", "b", "p"}


def mount(each: Mapping[str, Any]) -> dict[str, Any]:
    """One of ``mounts``: binds are of the type ``bind`` afterwards, however they were said. InvalidArgument."""
    destination, source = each.get("destination"), str(each.get("source") or "")
    options = [str(option) for option in each.get("options") or ()]
    if not isinstance(destination, str) or not destination.startswith("/"):
        raise InvalidArgument(f"mounts: destination {destination!r} is not an absolute path")
    if any("\0" in text for text in (destination, source, *options)):
        raise InvalidArgument("mounts: a path holds a null byte")
    bind = each.get("type") in ("bind", None, "none") or "bind" in options or "rbind" in options
    if bind and not source.startswith("/"):
        raise InvalidArgument(f"mounts: {destination}: the source {source!r} is not an absolute path")
    return {"destination": destination, "type": "bind" if bind else each["type"], "source": source, "options": options}


def rootfs(mounts: Iterable[Mount]) -> list[dict[str, Any]]:
    """A storage driver's mounts as plain data (`pyd_shim.mounts.mount_rootfs`)."""
    return [{"type": each.type, "source": each.source, "options": list(each.options)} for each in mounts]


def device(each: Mapping[str, Any]) -> dict[str, Any]:
    """One of ``linux.devices``. InvalidArgument."""
    path = str(each.get("path"))
    if each.get("type") not in _DEVICE_TYPES:
        raise InvalidArgument(f"linux.devices: {path}: unknown type {each.get('type')!r}")
    if not path.startswith("/dev/") or ".." in path.split("/"):
        raise InvalidArgument(f"linux.devices: {path}: devices are made below /dev only")
    return dict(each)
