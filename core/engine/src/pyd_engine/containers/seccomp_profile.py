"""The seccomp profile of a container: the default one, made for its capabilities, or a user's in Docker's form.

Both come out as the ``linux.seccomp`` object of an OCI runtime-spec document (config-linux.md "Seccomp"). Constraints:
what the default allows is what images expect of Docker's default; what it refuses it refuses with EPERM, but ENOSYS
where a C library can fall back (clone3). Nothing is read from the host: capabilities, kernel version and machine come
in.
"""

from __future__ import annotations

import errno
import functools
import re
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from pyd_contracts.errors import InvalidArgument
from pyd_engine.containers.seccomp_names import BY_ARCHITECTURE, BY_CAPABILITY, ORDINARY

__all__ = ["default_profile", "load_profile"]

Kernel = tuple[int, int]

_ARCHITECTURES = {
    "x86_64": ("SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"),
    "aarch64": ("SCMP_ARCH_AARCH64", "SCMP_ARCH_ARM"),
}
_GO_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}

_AF_ALG, _AF_VSOCK = 38, 40
_PERSONALITIES = (0x0, 0x8, 0x20000, 0x20008, 0xFFFFFFFF)
"""Linux, 32-bit Linux, both with uname 2.6, and "what is it now?" (personality(2)). ADDR_NO_RANDOMIZE is not there."""

_NAMESPACES = 0x00020000 | 0x04000000 | 0x08000000 | 0x10000000 | 0x20000000 | 0x40000000 | 0x02000000
"""CLONE_NEWNS, NEWUTS, NEWIPC, NEWUSER, NEWPID, NEWNET, NEWCGROUP (clone(2))."""

_PTRACE_IS_SAFE = (4, 8)
"""Since then a tracer cannot change a system call after the filter saw it (commit 93e35efb8de4)."""


def default_profile(
    capabilities: Collection[str], *, kernel: Kernel = (6, 1), machine: str = "x86_64"
) -> dict[str, Any]:
    """The default profile for a container whose bounding set is *capabilities*.

    kernel   (major, minor) of the running one
    machine  as uname(2) says it; one this module does not know gets no list of architectures

    Equal arguments give the same object, so that who compiles it can know it again: it is not to be changed.
    """
    return _default_profile(frozenset(capabilities), kernel, machine)


@functools.lru_cache(maxsize=64)
def _default_profile(capabilities: frozenset[str], kernel: Kernel, machine: str) -> dict[str, Any]:
    names = {name for theme in ORDINARY.values() for name in theme.split()}
    names |= set(BY_ARCHITECTURE.get(machine, "").split())
    if kernel >= _PTRACE_IS_SAFE:
        names |= {"ptrace", "process_vm_readv", "process_vm_writev"}
    for capability in capabilities:
        names |= set(BY_CAPABILITY.get(capability, "").split())
    rules: list[dict[str, Any]] = [_allow(sorted(names))]
    # A virtual machine's host (vsock) and the kernel's crypto engine (CVE-2026-31431) are not for containers
    rules += _allow_int_except("socket", (_AF_ALG, _AF_VSOCK))
    rules += [_allow(["personality"], (0, persona, "EQ")) for persona in _PERSONALITIES]
    if "CAP_SYS_ADMIN" not in capabilities:
        rules.append(
            {
                "names": ["clone"],
                "action": "SCMP_ACT_ALLOW",
                "args": [{"index": 0, "value": _NAMESPACES, "valueTwo": 0, "op": "SCMP_CMP_MASKED_EQ"}],
            }
        )
        # clone3 hides its flags behind a pointer; ENOSYS makes a C library use clone
        rules.append({"names": ["clone3"], "action": "SCMP_ACT_ERRNO", "errnoRet": errno.ENOSYS})
    return {
        "defaultAction": "SCMP_ACT_ERRNO",
        "defaultErrnoRet": errno.EPERM,
        "architectures": list(_ARCHITECTURES.get(machine, ())),
        "syscalls": rules,
    }


def _allow_int_except(name: str, refused: Sequence[int]) -> list[dict[str, Any]]:
    """Allow *name* unless its first argument, an int, is one of *refused* (ascending).

    The kernel drops the upper half of the register, a filter sees it: "greater than" and "not equal" would let
    ``socket(AF_ALG | 1 << 32)`` pass. So the lower half alone is looked at, with masks; and as masks cannot say "not",
    the
    gaps between the refused numbers are cut into aligned blocks, one rule each.
    """
    rules, low = [], 0
    for end in (*refused, 1 << 32):
        while low < end:
            size = low & -low or 1 << 32
            while low + size > end:
                size >>= 1
            arg = {"index": 0, "value": (1 << 32) - size, "valueTwo": low, "op": "SCMP_CMP_MASKED_EQ"}
            rules.append({"names": [name], "action": "SCMP_ACT_ALLOW", "args": [arg]})
            low += size
        low = end + 1
    return rules


def _allow(names: list[str], arg: tuple[int, int, str] | None = None) -> dict[str, Any]:
    rule: dict[str, Any] = {"names": names, "action": "SCMP_ACT_ALLOW"}
    if arg is not None:
        index, value, operator = arg
        rule["args"] = [{"index": index, "value": value, "op": f"SCMP_CMP_{operator}"}]
    return rule


def load_profile(
    document: Mapping[str, Any], capabilities: Collection[str], *, kernel: Kernel = (6, 1), machine: str = "x86_64"
) -> dict[str, Any]:
    """A profile in Docker's form (archMap; rules with includes and excludes) in OCI form.

    Rules that ask for other capabilities, machines or kernels are left out. Raises InvalidArgument that names the
    field. What the actions and operators may be is the compiler's business.
    """
    if not document.get("defaultAction"):
        raise InvalidArgument("seccomp profile: defaultAction is missing")
    result: dict[str, Any] = {"defaultAction": document["defaultAction"]}
    for key in ("defaultErrnoRet", "flags", "listenerPath", "listenerMetadata"):
        if document.get(key) is not None:
            result[key] = document[key]
    result["architectures"] = _architectures(document, machine)
    result["syscalls"] = []
    for position, rule in enumerate(_objects(document.get("syscalls"), "syscalls")):
        where = f"syscalls[{position}]"
        if not _applies(rule, where, capabilities, kernel, machine):
            continue
        if rule.get("name") and rule.get("names"):
            raise InvalidArgument(f"seccomp profile: {where}: 'name' and 'names' are both specified, use either")
        names = [rule["name"]] if rule.get("name") else rule.get("names")
        if not isinstance(names, Sequence) or isinstance(names, str) or not all(isinstance(n, str) for n in names):
            raise InvalidArgument(f"seccomp profile: {where}.names: a list of names is needed")
        if not names:
            continue
        kept = {"names": list(names), "action": rule.get("action")}
        kept |= {key: rule[key] for key in ("errnoRet",) if rule.get(key) is not None}
        if rule.get("args"):
            kept["args"] = [dict(arg) for arg in _objects(rule["args"], f"{where}.args") if arg]
        result["syscalls"].append(kept)
    return result


def _objects(value: Any, where: str) -> list[Mapping[str, Any]]:
    if value is None:
        return []
    if not isinstance(value, list) or not all(item is None or isinstance(item, Mapping) for item in value):
        raise InvalidArgument(f"seccomp profile: {where}: a list of objects is needed")
    return [item or {} for item in value]


def _architectures(document: Mapping[str, Any], machine: str) -> list[str]:
    listed, mapped = document.get("architectures"), _objects(document.get("archMap"), "archMap")
    if listed and mapped:
        raise InvalidArgument("seccomp profile: both 'architectures' and 'archMap' are specified, use either")
    if not mapped:
        return list(listed or ())
    native = next(iter(_ARCHITECTURES.get(machine, ())), None)
    for entry in mapped:
        if native is not None and entry.get("architecture") == native:
            return [native, *(entry.get("subArchitectures") or ())]
    return []


def _applies(rule: Mapping[str, Any], where: str, capabilities: Collection[str], kernel: Kernel, machine: str) -> bool:
    """Whether includes all hold and no exclude does: moby's order and meaning."""
    architecture = _GO_ARCHITECTURES.get(machine, machine)
    excludes, includes = _filter(rule, "excludes", where), _filter(rule, "includes", where)
    if architecture in (excludes.get("arches") or ()):
        return False
    if any(each in capabilities for each in excludes.get("caps") or ()):
        return False
    if excludes.get("minKernel") and kernel >= _kernel(excludes["minKernel"], where):
        return False
    if includes.get("arches") and architecture not in includes["arches"]:
        return False
    if not all(each in capabilities for each in includes.get("caps") or ()):
        return False
    return not includes.get("minKernel") or kernel >= _kernel(includes["minKernel"], where)


def _filter(rule: Mapping[str, Any], key: str, where: str) -> Mapping[str, Any]:
    found = rule.get(key) or {}
    if not isinstance(found, Mapping):
        raise InvalidArgument(f"seccomp profile: {where}.{key}: an object is needed")
    return found


def _kernel(text: Any, where: str) -> Kernel:
    match = re.fullmatch(r"([0-9]+)\.([0-9]+)", text) if isinstance(text, str) else None
    if match is None:
        raise InvalidArgument(f"seccomp profile: {where}: minKernel {text!r} is not MAJOR.MINOR")
    return int(match[1]), int(match[2])
