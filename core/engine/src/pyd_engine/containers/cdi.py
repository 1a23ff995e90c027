"""Devices of the Container Device Interface: what vendors' specifications in /etc/cdi and /var/run/cdi add to a container.

Source: the CDI specification (cncf-tags/container-device-interface, SPEC.md), version 0.8. Specifications are read anew for
each container that asks: they change when drivers are loaded.
"""

from __future__ import annotations

import json
import os
import re
import stat
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from pyd_contracts.errors import InvalidArgument
from pyd_engine.containers.devices import Device
from pyd_engine.containers.host_config import DeviceRequest

__all__ = ["DIRECTORIES", "asked", "edits", "inject"]

DIRECTORIES = (Path("/etc/cdi"), Path("/var/run/cdi"))
"""The second has the last word about a device that both name."""
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*/[A-Za-z0-9][A-Za-z0-9_-]*=[A-Za-z0-9][A-Za-z0-9_.:-]*")

Edits = list[Mapping[str, Any]]
"""``containerEdits`` objects, in the order in which they are made."""


def asked(requests: Sequence[DeviceRequest]) -> list[str]:
    """The names of devices that are asked of CDI. Raises InvalidArgument for requests to other drivers, which are not there."""
    names: list[str] = []
    for request in requests:
        if request.driver != "cdi":
            groups = " ".join(f"[{' '.join(each)}]" for each in request.capabilities or ())
            raise InvalidArgument(
                f'could not select device driver "{request.driver}" with capabilities: [{groups}]; '
                "name devices of the Container Device Interface: --device vendor.com/class=name"
            )
        names += request.device_ids or ()
    for name in names:
        if not _NAME.fullmatch(name):
            raise InvalidArgument(
                f"CDI device injection failed: unresolvable CDI devices {name}: not vendor.com/class=name"
            )
    return names


def edits(names: Sequence[str], directories: Sequence[Path] = DIRECTORIES) -> tuple[Edits, list[str]]:
    """What the devices *names* add, and warnings: of hooks, which are not run, and of files that cannot be read.

    Raises InvalidArgument for names that no specification has.
    """
    known, warnings = _read(directories) if names else ({}, [])
    missing = [name for name in names if name not in known]
    if missing:
        where = " and ".join(map(str, directories))
        raise InvalidArgument(
            f"CDI device injection failed: unresolvable CDI devices {', '.join(missing)}; looked in {where}"
            + "".join(f"; {warning}" for warning in warnings)
        )
    found: Edits = []
    for name in names:
        for each in known[name]:
            if each not in found:  # those of a whole specification hold once, however many of its devices are wanted
                found.append(each)
    if any(each.get("hooks") for each in found):
        warnings.append(
            f"CDI: hooks of {', '.join(names)} are not run; what they would have set up in the container is not there"
        )
    return found, warnings


def _read(directories: Sequence[Path]) -> tuple[dict[str, Edits], list[str]]:
    known: dict[str, Edits] = {}
    warnings: list[str] = []
    for directory in directories:
        try:
            paths = sorted(directory.iterdir())
        except OSError:
            continue  # not there: nobody offers devices
        for path in paths:
            decode = _DECODERS.get(path.suffix)
            if decode is None:
                continue  # other files are nobody's specification (SPEC.md, "CDI JSON Specification")
            try:
                known |= _devices(decode(path.read_bytes()))
            except (OSError, ValueError, KeyError, TypeError, AttributeError, msgspec.MsgspecError) as error:
                said = " ".join(str(error).split())  # of YAML it has several lines
                warnings.append(f"CDI: {path} is not a specification: {type(error).__name__}: {said}")
    return known, warnings


def _yaml(data: bytes) -> Any:
    """YAML as plain values: what JSON could say too. Imported when there is such a file: most hosts have none."""
    from msgspec import yaml

    return yaml.decode(data)


_DECODERS: Mapping[str, Callable[[bytes], Any]] = {".json": json.loads, ".yaml": _yaml, ".yml": _yaml}


def _devices(spec: Mapping[str, Any]) -> dict[str, Edits]:
    common = spec.get("containerEdits") or {}
    return {
        f"{spec['kind']}={device['name']}": [each for each in (device.get("containerEdits") or {}, common) if each]
        for device in spec["devices"]
    }


def inject(document: dict[str, Any], found: Edits) -> None:
    """Make the edits in an OCI document. Raises InvalidArgument for what cannot be made."""
    process, linux = document["process"], document["linux"]
    for each in found:
        for variable in each.get("env") or ():
            name = variable.partition("=")[0]
            process["env"] = [old for old in process["env"] if old.partition("=")[0] != name] + [variable]
        for node in each.get("deviceNodes") or ():
            device = _node(node)
            linux["devices"] = [old for old in linux["devices"] if old["path"] != device.path] + [device.node()]
            linux["resources"].setdefault("devices", []).append(device.rule())
        for mount in each.get("mounts") or ():
            options = list(mount.get("options") or ())
            if not {"bind", "rbind"} & set(options):
                options.append("rbind")
            document["mounts"].append(
                {"destination": mount["containerPath"], "type": "bind", "source": mount["hostPath"], "options": options}
            )
        if gids := each.get("additionalGids"):
            user = process["user"]
            user["additionalGids"] = list(dict.fromkeys([*user.get("additionalGids", ()), *gids]))


def _node(node: Mapping[str, Any]) -> Device:
    """A device node; what the specification leaves open is the host's."""
    path = node["path"]
    kind, major, minor = node.get("type", ""), node.get("major"), node.get("minor")
    status: os.stat_result | None = None
    if not kind or major is None or minor is None:
        source = node.get("hostPath") or path
        try:
            status = os.stat(source)
        except OSError as error:
            raise InvalidArgument(f"CDI device injection failed: {source}: {(error.strerror or '').lower()}") from error
        if not (stat.S_ISCHR(status.st_mode) or stat.S_ISBLK(status.st_mode)):
            raise InvalidArgument(f"CDI device injection failed: {source}: not a device node")
        kind = kind or ("b" if stat.S_ISBLK(status.st_mode) else "c")
        major, minor = os.major(status.st_rdev), os.minor(status.st_rdev)
    mode = node.get("fileMode") or (stat.S_IMODE(status.st_mode) if status else 0o666)
    owner = {key: int(node.get(key) or 0) for key in ("uid", "gid")}
    return Device(path, kind, int(major), int(minor), mode=int(mode), access=node.get("permissions") or "rwm", **owner)
