"""From the engine's OCI document to the one a runtime is given: checked here, before any process is made.

A runtime is a program of somebody else's that runs as root: it sees only what this module knows (runtime-spec, config.md and
config-linux.md), so that a document cannot have it run hooks, leave the bundle, or join what was not meant. Every refusal
names the field.
"""

from __future__ import annotations

import os
import resource
from collections.abc import Mapping, Sequence
from typing import Any

from pyd_contracts.errors import InvalidArgument, Unsupported
from pyd_contracts.values import Sandbox
from pyd_shim import documents, mappings
from pyd_shim.capabilities import BITS
from pyd_shim.idmaps import Extent

__all__ = ["build", "groups_path", "ids", "process"]

VERSION = "1.0.2"
"""What every runtime in use takes (runtime-spec, config.md "Specification version"); nothing later is made use of."""
_TOP = {"ociVersion", "process", "root", "hostname", "domainname", "mounts", "annotations", "linux"}
_LINUX = {
    "namespaces", "cgroupsPath", "resources", "devices", "maskedPaths", "readonlyPaths", "rootfsPropagation", "sysctl",
    "seccomp", "uidMappings", "gidMappings",
}  # fmt: skip
_NAMESPACES = {"pid", "network", "mount", "ipc", "uts", "cgroup", "user"}
_SETS = ("bounding", "permitted", "effective", "inheritable", "ambient")
_PROCESS = {"terminal", "consoleSize", "args", "env", "cwd", "noNewPrivileges", "apparmorProfile", "selinuxLabel"}
_UNLIMITED = (1 << 64) - 1


def build(sandbox: Sandbox, own_capabilities: int, cgroups_path: str) -> dict[str, Any]:
    """The document. What only the container's files can tell stays in ``process.user`` (`pyd_shim.users`), and what the
    host may refuse (limits, the out-of-memory score) is the builder's to fit in. Raises InvalidArgument and Unsupported."""
    spec = sandbox.spec
    if spec.get("hooks"):
        raise InvalidArgument("hooks: programs of the host are not run for a container")
    _known(spec, _TOP, "")
    linux = _object(spec.get("linux"), "linux")
    _known(linux, _LINUX, "linux.")
    namespaces = _namespaces(linux.get("namespaces") or ())
    sysctl = {str(name): str(value) for name, value in _object(linux.get("sysctl"), "linux.sysctl").items()}
    maps = ids(linux, namespaces)
    if spec.get("domainname") and not maps:
        # Runtimes before version 1.1 of the specification pass over the field; all of them know the sysctl.
        sysctl["kernel.domainname"] = str(spec["domainname"])
    document: dict[str, Any] = {
        "ociVersion": VERSION,
        "process": process(_object(spec.get("process"), "process"), own_capabilities),
        "root": _root(_object(spec.get("root"), "root"), sandbox),
        "mounts": [documents.mount(each) for each in _list(spec.get("mounts"), "mounts")],
        "linux": {
            "namespaces": namespaces,
            "cgroupsPath": cgroups_path,
            "resources": _resources(_object(linux.get("resources"), "linux.resources")),
            "devices": [documents.device(each) for each in _list(linux.get("devices"), "linux.devices")],
            "maskedPaths": _paths(linux.get("maskedPaths"), "linux.maskedPaths"),
            "readonlyPaths": _paths(linux.get("readonlyPaths"), "linux.readonlyPaths"),
        },
    }
    if sysctl:
        document["linux"]["sysctl"] = sysctl
    for key in ("rootfsPropagation", "seccomp"):
        if linux.get(key):
            document["linux"][key] = linux[key]
    for key, extents in maps.items():
        # Also for a namespace that is joined: runtimes ask who root is before they look there.
        names = ("containerID", "hostID", "size")
        document["linux"][key] = [dict(zip(names, each, strict=True)) for each in extents]
    for key in ("hostname", "annotations", *(["domainname"] if maps else [])):
        if spec.get(key):
            document[key] = spec[key]
    return document


def ids(linux: Mapping[str, Any], namespaces: Sequence[Mapping[str, str]]) -> dict[str, list[Extent]]:
    """The maps of its user namespace by field; empty without one. Raises InvalidArgument."""
    wanted = any(each["type"] == "user" for each in namespaces)
    found = {field: mappings.extents(linux, field, wanted) for field in ("uidMappings", "gidMappings")}
    return found if wanted else {}


def groups_path(wanted: str, container: str, *, systemd: bool) -> tuple[str, str]:
    """``linux.cgroupsPath`` as the runtime wants it, and the path below each hierarchy that comes of it.

    systemd's form is ``slice:prefix:name``, and ``a-b.slice`` stands inside ``a.slice`` (systemd.slice(5)).
    """
    if not systemd:
        return wanted, wanted
    parent = os.path.basename(os.path.dirname(wanted))
    if not parent.endswith(".slice"):
        parent = "system.slice"
    words = parent.removesuffix(".slice").split("-")
    above = "/".join("-".join(words[: depth + 1]) + ".slice" for depth in range(len(words)))
    return f"{parent}:pyd:{container}", f"/{above}/pyd-{container}.scope"


def process(given: Mapping[str, Any], own_capabilities: int) -> dict[str, Any]:
    """A process object; *own_capabilities* bounds what can be given: a runtime fails for what it does not have itself."""
    args, env = given.get("args"), given.get("env") or ()
    if not args or not all(isinstance(each, str) for each in args):
        raise InvalidArgument("process.args: there must be a program to run")
    for field, values in (("process.args", args), ("process.env", env)):
        if any("\0" in value for value in values):
            raise InvalidArgument(f"{field}: a value holds a null byte")
    cwd = given.get("cwd") or "/"
    if not cwd.startswith("/") or "\0" in cwd:
        raise InvalidArgument(f"process.cwd: {cwd!r} is not an absolute path")
    sets = _object(given.get("capabilities"), "process.capabilities")
    return {
        **{key: given[key] for key in _PROCESS if given.get(key) is not None},
        "args": list(args),
        "env": list(env),
        "cwd": cwd,
        "user": dict(given.get("user") or {}),
        "capabilities": {name: _capabilities(sets.get(name) or (), name, own_capabilities) for name in _SETS},
        "rlimits": [_rlimit(each) for each in given.get("rlimits") or ()],
        "oomScoreAdj": given.get("oomScoreAdj"),
    }


def _capabilities(names: Sequence[str], field: str, own: int) -> list[str]:
    for name in names:
        if name not in BITS:
            raise InvalidArgument(f"process.capabilities.{field}: unknown capability {name!r}")
    return [name for name in names if own & BITS[name]]


def _rlimit(each: Mapping[str, Any]) -> dict[str, Any]:
    name = str(each.get("type"))
    if name != "RLIMIT_LOCKS" and not (name.startswith("RLIMIT_") and hasattr(resource, name)):
        raise InvalidArgument(f"process.rlimits: unknown limit {name!r}")
    values = {key: int(each[key]) for key in ("soft", "hard")}
    return {"type": name, **{key: value if 0 <= value < 2**63 - 1 else _UNLIMITED for key, value in values.items()}}


def _namespaces(given: Sequence[Mapping[str, Any]]) -> list[dict[str, str]]:
    found: dict[str, dict[str, str]] = {}
    for each in given:
        kind, path = each.get("type"), each.get("path") or ""
        if kind == "time":
            raise Unsupported("linux.namespaces: this backend makes no time namespaces")
        if kind not in _NAMESPACES:
            raise InvalidArgument(f"linux.namespaces: unknown type {kind!r}")
        if kind in found:
            raise InvalidArgument(f"linux.namespaces: {kind} is there twice")
        if path and not path.startswith("/"):
            raise InvalidArgument(f"linux.namespaces: {kind}: {path!r} is not an absolute path")
        found[kind] = {"type": kind, "path": path} if path else {"type": kind}
    if found.get("mount") != {"type": "mount"}:
        raise InvalidArgument("linux.namespaces: a container needs a mount namespace of its own")
    return list(found.values())


def _resources(given: Mapping[str, Any]) -> dict[str, Any]:
    """Device rules with the ones for many devices last: runc refuses to take one device out of many that were allowed, though
    the kernel passes over that (device_cgroup.c, dev_exception_rm)."""
    rules = [dict(each) for each in _list(given.get("devices"), "linux.resources.devices")]
    rules.sort(key=_is_wide)
    return {**given, "devices": rules} if rules else dict(given)


def _is_wide(rule: Mapping[str, Any]) -> bool:
    open_ended = any(rule.get(key) is None or rule[key] < 0 for key in ("major", "minor"))
    return bool(rule.get("allow")) and rule.get("type") in ("c", "b") and open_ended


def _root(given: Mapping[str, Any], sandbox: Sandbox) -> dict[str, Any]:
    path = str(given.get("path") or sandbox.bundle / "rootfs")
    if os.path.normpath(path) != path or os.path.dirname(path) != str(sandbox.bundle):
        raise InvalidArgument(f"root.path: {path} is not a name in the bundle {sandbox.bundle}")
    return {"path": path, "readonly": bool(given.get("readonly"))}


def _paths(given: object, field: str) -> list[str]:
    paths = [str(each) for each in _list(given, field)]
    for path in paths:
        if not path.startswith("/") or "\0" in path:
            raise InvalidArgument(f"{field}: {path!r} is not an absolute path")
    return paths


def _object(value: object, field: str) -> Mapping[str, Any]:
    if value is not None and not isinstance(value, Mapping):
        raise InvalidArgument(f"{field}: must be an object")
    return value or {}


def _list(value: object, field: str) -> Sequence[Any]:
    if value is not None and not isinstance(value, (list, tuple)):
        raise InvalidArgument(f"{field}: must be a list")
    return value or ()


def _known(given: Mapping[str, Any], known: set[str], where: str) -> None:
    for key, value in given.items():
        if key not in known and value:
            raise InvalidArgument(f"{where}{key}: not a field this backend hands to a runtime")
