"""Devices of a container: what every container has, what the user adds, and what may be done with them.

Constraint: numbers come from the host's device nodes, so this is the one module of the translation that looks at the
file system; the results are plain values for `oci`.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from pyd_contracts.errors import InvalidArgument, NotFound
from pyd_engine.containers.host_config import DeviceMapping

__all__ = [
    "DEFAULT_NODES",
    "DEFAULT_RULES",
    "Device",
    "device_numbers",
    "host_devices",
    "parse_rule",
    "resolve_devices",
]


@dataclass(frozen=True, slots=True)
class Device:
    """A device node to make: type is ``c`` or ``b``; mode the permission bits; access of ``r``, ``w`` and ``m``."""

    path: str
    type: str
    major: int
    minor: int
    mode: int = 0o666
    uid: int = 0
    gid: int = 0
    access: str = "rwm"

    def node(self) -> dict[str, Any]:
        """As ``linux.devices`` has it."""
        return {
            "path": self.path,
            "type": self.type,
            "major": self.major,
            "minor": self.minor,
            "fileMode": self.mode,
            "uid": self.uid,
            "gid": self.gid,
        }

    def rule(self) -> dict[str, Any]:
        """As ``linux.resources.devices`` has it."""
        return _rule(True, self.type, self.major, self.minor, self.access)


def _rule(allow: bool, kind: str, major: int | None, minor: int | None, access: str) -> dict[str, Any]:
    rule: dict[str, Any] = {"allow": allow, "type": kind}
    rule |= {key: value for key, value in (("major", major), ("minor", minor)) if value is not None}
    return rule | {"access": access}


DEFAULT_NODES: tuple[Device, ...] = tuple(
    Device(f"/dev/{name}", "c", major, minor)
    for name, major, minor in (
        ("null", 1, 3),
        ("zero", 1, 5),
        ("full", 1, 7),
        ("random", 1, 8),
        ("urandom", 1, 9),
        ("tty", 5, 0),
    )
)
"""runtime-spec config-linux.md "Default Devices"; console, ptmx and the standard streams are the backend's."""

DEFAULT_RULES: tuple[dict[str, Any], ...] = (
    {"allow": False, "access": "rwm"},
    # nodes may be made, as under runc (packages and archives hold them); what opens them is decided below
    _rule(True, "c", None, None, "m"),
    _rule(True, "b", None, None, "m"),
    *(
        _rule(True, "c", major, minor, "rwm")
        for major, minor in ((1, 5), (1, 3), (1, 9), (1, 8), (1, 7), (5, 0), (5, 1))
    ),
    _rule(False, "c", 10, 229, "rwm"),  # fuse: what mknod makes, a mount could use
)
"""Nothing but the usual ones."""


def parse_rule(text: str) -> dict[str, Any]:
    """A ``--device-cgroup-rule``: ``c 13:* rwm``. Raises InvalidArgument."""
    match = re.fullmatch(r"([acb]) ([0-9]{1,9}|\*):([0-9]{1,9}|\*) ([rwm]{1,3})", text)
    if match is None:
        raise InvalidArgument(f"invalid device cgroup rule format: '{text}'")
    major, minor = (None if part == "*" else int(part) for part in match.group(2, 3))
    return _rule(True, match[1], major, minor, match[4])


def resolve_devices(mappings: Iterable[DeviceMapping]) -> list[Device]:
    """Look devices up on the host; a directory gives all devices in and below it.

    Raises NotFound for a path that is not there, InvalidArgument for one that is neither device nor directory.
    """
    found: list[Device] = []
    for mapping in mappings:
        inside = mapping.path_in_container or mapping.path_on_host
        access = mapping.cgroup_permissions or "rwm"
        try:
            status = os.stat(mapping.path_on_host)
        except OSError as error:
            raise NotFound(
                f'error gathering device information while adding custom device "{mapping.path_on_host}": '
                f"{(error.strerror or str(error)).lower()}"
            ) from error
        if stat.S_ISDIR(status.st_mode):
            below = _walk(mapping.path_on_host)
            if not below:
                raise InvalidArgument(
                    f'error gathering device information while adding custom device "{mapping.path_on_host}": '
                    "not a device node"
                )
            found += [
                _device(path, inside + path.removeprefix(mapping.path_on_host), each, access) for path, each in below
            ]
        elif stat.S_ISCHR(status.st_mode) or stat.S_ISBLK(status.st_mode):
            found.append(_device(mapping.path_on_host, inside, status, access))
        else:
            raise InvalidArgument(
                f'error gathering device information while adding custom device "{mapping.path_on_host}": '
                "not a device node"
            )
    return found


def _device(path: str, inside: str, status: os.stat_result, access: str) -> Device:
    return Device(
        path=inside or path,
        type="b" if stat.S_ISBLK(status.st_mode) else "c",
        major=os.major(status.st_rdev),
        minor=os.minor(status.st_rdev),
        mode=stat.S_IMODE(status.st_mode),
        uid=status.st_uid,
        gid=status.st_gid,
        access=access,
    )


_NOT_DEVICES = frozenset({"pts", "shm", "fd", "mqueue", ".lxc", ".lxd-mounts", ".udev"})


def _walk(top: str) -> list[tuple[str, os.stat_result]]:
    """Device nodes below *top*, links not followed; what vanishes meanwhile is left out."""
    found = []
    for directory, names, files in os.walk(top):
        names[:] = sorted(name for name in names if name not in _NOT_DEVICES)
        for name in sorted(files):
            path = os.path.join(directory, name)
            try:
                status = os.lstat(path)
            except FileNotFoundError:
                continue
            if stat.S_ISCHR(status.st_mode) or stat.S_ISBLK(status.st_mode):
                found.append((path, status))
    return found


def host_devices(top: str = "/dev") -> list[Device]:
    """All devices of the host, for a privileged container; its console and terminals stay its own."""
    own = {f"{top}/{name}" for name in ("console", "ptmx", "tty")} | {node.path for node in DEFAULT_NODES}
    return [_device(path, path, status, "rwm") for path, status in _walk(top) if path not in own]


def device_numbers(paths: Sequence[str]) -> dict[str, tuple[int, int]]:
    """(major, minor) of block devices whose input and output is limited. Raises NotFound, InvalidArgument."""
    numbers = {}
    for path in paths:
        try:
            status = os.stat(path)
        except OSError as error:
            raise NotFound(f"stat {path}: {(error.strerror or str(error)).lower()}") from error
        if not stat.S_ISBLK(status.st_mode):
            raise InvalidArgument(f"limit of block device {path}: not a block device")
        numbers[path] = (os.major(status.st_rdev), os.minor(status.st_rdev))
    return numbers
