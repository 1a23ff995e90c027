"""From an OCI runtime-spec document to a plan: what a shim needs, checked, in plain data.

Faults of the document are found here, in the daemon, before any process or kernel object is made: every refusal names the
field (runtime-spec, config.md and config-linux.md).
"""

from __future__ import annotations

import base64
import resource
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from pyd_contracts.errors import InvalidArgument, Unsupported
from pyd_contracts.values import Execution, Sandbox
from pyd_isolation_namespaces.seccomp import filter_flags
from pyd_shim import documents
from pyd_shim.capabilities import BITS
from pyd_shim.cgroups import Layout
from pyd_shim.mappings import extents, owner
from pyd_shim.plans import stdio

__all__ = ["build", "build_exec"]

_NAMESPACES = {"pid", "network", "mount", "ipc", "uts", "cgroup", "user"}
_LOCKS = 10  # RLIMIT_LOCKS, which Python has no name for

Compile = Callable[[Mapping[str, Any]], bytes]


def build(
    container: str,
    sandbox: Sandbox,
    layout: Layout,
    own_capabilities: int,
    compile_filter: Compile,
    cgroup_default: str,
    *,
    no_users: str = "",
) -> dict[str, Any]:
    """The plan of a container: what its shim looks at, and under ``build`` what only its builder and its init read
    (`pyd_shim.plans.in_memory`: a shim lives as long as its container, and what it never sees takes no memory). Raises
    InvalidArgument and Unsupported.

    *own_capabilities* bounds what can be given; *compile_filter* makes BPF bytes of ``linux.seccomp``; *cgroup_default*
    is used when the spec has no ``cgroupsPath``. *no_users* says why there are no user namespaces on this host.
    """
    spec = sandbox.spec
    linux = _object(spec, "linux")
    root = _object(spec, "root")
    namespaces: dict[str, str | None] = {}
    for each in linux.get("namespaces") or ():
        kind = each.get("type")
        if kind == "time":
            raise Unsupported("linux.namespaces: this backend makes no time namespaces")
        if kind not in _NAMESPACES:
            raise InvalidArgument(f"linux.namespaces: unknown type {kind!r}")
        namespaces[kind] = each.get("path") or ""
    if no_users and "user" in namespaces:
        raise Unsupported(f"linux.namespaces: no user namespace can be made: {no_users}")
    if namespaces.get("mount") != "":
        raise InvalidArgument("linux.namespaces: a container needs a mount namespace of its own")
    users, groups = (extents(linux, field, "user" in namespaces) for field in ("uidMappings", "gidMappings"))
    group = linux.get("cgroupsPath") or cgroup_default
    target = str(root.get("path") or sandbox.bundle / "rootfs")
    cgroup = {"layout": layout, "path": group}
    namespaces = {"cgroup": None, **namespaces}
    return {
        "id": container,
        "namespaces": namespaces,
        "root": target,
        "cgroup": cgroup,
        "owner": owner(users, groups) if users else None,
        "stdio": stdio(sandbox.stdio),
        "build": {
            "id": container,
            "users": users,
            "groups": groups,
            "own_cgroup_namespace": namespaces.get("cgroup") == "",
            "hostname": spec.get("hostname") or "",
            "domainname": spec.get("domainname") or "",
            "root": target,
            "root_readonly": bool(root.get("readonly")),
            "rootfs": documents.rootfs(sandbox.rootfs),
            "mounts": [documents.mount(each) for each in spec.get("mounts") or ()],  # type: ignore[attr-defined]
            "masked_paths": list(linux.get("maskedPaths") or ()),
            "readonly_paths": list(linux.get("readonlyPaths") or ()),
            "devices": [documents.device(each) for each in linux.get("devices") or ()],
            "sysctl": dict(linux.get("sysctl") or {}),
            "namespaces": namespaces,
            "cgroup": {**cgroup, "resources": _resources(linux.get("resources") or {})},
            "process": build_process(_object(spec, "process"), linux.get("seccomp"), own_capabilities, compile_filter),
        },
    }


def build_exec(
    container: str,
    execution: Execution,
    own_capabilities: int,
    compile_filter: Compile,
) -> dict[str, Any]:
    """The plan of a further process, as in `build`."""
    seccomp = execution.process.get("seccomp")
    if seccomp is not None and not isinstance(seccomp, Mapping):
        raise InvalidArgument("process.seccomp: must be an object")
    process = build_process(execution.process, seccomp, own_capabilities, compile_filter)
    return {"stdio": stdio(execution.stdio), "build": {"id": container, "process": process}}


def build_process(
    process: Mapping[str, Any], seccomp: Mapping[str, Any] | None, own_capabilities: int, compile_filter: Compile
) -> dict[str, Any]:
    """The part of a plan that describes one process (config.md "POSIX process")."""
    args = process.get("args")
    if not args or not all(isinstance(each, str) for each in args):
        raise InvalidArgument("process.args: there must be a program to run")
    for field, values in (("process.args", args), ("process.env", process.get("env") or ())):
        if any("\0" in value for value in values):
            raise InvalidArgument(f"{field}: a value holds a null byte")
    cwd = process.get("cwd") or "/"
    if not cwd.startswith("/"):
        raise InvalidArgument(f"process.cwd: {cwd!r} is not an absolute path")
    sets = process.get("capabilities") or {}
    capabilities = {
        name: _capabilities(sets.get(name) or (), name) & own_capabilities
        for name in ("bounding", "permitted", "effective", "inheritable", "ambient")
    }
    return {
        "args": list(args),
        "env": list(process.get("env") or ()),
        "cwd": cwd,
        "terminal": bool(process.get("terminal")),
        "user": dict(process.get("user") or {}),
        "umask": (process.get("user") or {}).get("umask", 0o022),
        "capabilities": capabilities,
        "rlimits": [_rlimit(each) for each in process.get("rlimits") or ()],
        "no_new_privileges": bool(process.get("noNewPrivileges")),
        "oom_score_adj": process.get("oomScoreAdj"),
        "seccomp_flags": filter_flags(seccomp) if seccomp else 0,
        "seccomp": base64.b64encode(compile_filter(seccomp)).decode() if seccomp else "",
    }


def _resources(resources: Mapping[str, Any]) -> dict[str, Any]:
    """Resources, with the terminals every container may use (config-linux.md "Default Devices": /dev/ptmx, /dev/pts/*)."""
    rules = list(resources.get("devices") or ())
    if rules:
        terminals = ((5, 2), (136, -1))
        rules += [{"allow": True, "type": "c", "major": a, "minor": b, "access": "rwm"} for a, b in terminals]
    return {**resources, "devices": rules}


def _object(spec: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    value = spec.get(key) or {}
    if not isinstance(value, Mapping):
        raise InvalidArgument(f"{key}: must be an object")
    return value


def _capabilities(names: Sequence[str], field: str) -> int:
    bits = 0
    for name in names:
        try:
            bits |= BITS[name]
        except KeyError:
            raise InvalidArgument(f"process.capabilities.{field}: unknown capability {name!r}") from None
    return bits


def _rlimit(each: Mapping[str, Any]) -> tuple[str, int, int, int]:
    name = str(each.get("type"))
    number = _LOCKS if name == "RLIMIT_LOCKS" else getattr(resource, name, None)
    if not name.startswith("RLIMIT_") or number is None:
        raise InvalidArgument(f"process.rlimits: unknown limit {name!r}")
    values = []
    for key in ("soft", "hard"):
        value = int(each[key])
        values.append(resource.RLIM_INFINITY if value < 0 or value >= 2**63 - 1 else value)
    return name.removeprefix("RLIMIT_").lower(), number, values[0], values[1]
