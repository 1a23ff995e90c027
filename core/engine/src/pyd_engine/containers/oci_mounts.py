"""The mounts of a container as OCI runtime-spec objects: those every container has, its network files, and the user's.

Constraint: order and options are those programs in containers have come to expect (``/proc/mounts`` is an interface):
kernel file systems first, then everything else by depth, so that no mount hides a deeper one made before it. What a
user mounts at a place replaces what would have been there.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pyd_contracts.errors import InvalidArgument
from pyd_engine.containers.binds import Bind

__all__ = ["MASKED", "READONLY", "Shared", "build_mounts", "masked_paths", "propagation_of"]

MASKED: tuple[str, ...] = (
    "/proc/acpi",
    "/proc/asound",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/sys/devices/virtual/powercap",
    "/sys/firmware",
)
"""What tells too much of the host: other users' keys and timers, interrupt and power figures (GHSA-6fw5-f8r9-fgfm,
GHSA-jq35-85cj-fj4p: side channels), firmware. `masked_paths` adds the sensors of each processor."""

READONLY: tuple[str, ...] = ("/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger")
"""What a container's root may look at and must not change: it is the host's."""

_SAFE = ["nosuid", "noexec", "nodev"]
_FLAGS_OPPOSITE = {"exec": "noexec", "suid": "nosuid", "dev": "nodev", "rw": "ro"}


@dataclass(frozen=True, slots=True)
class Shared:
    """Files and directories made outside for this container.

    files  absolute paths on the host for /etc/resolv.conf, /etc/hostname and /etc/hosts, by destination; those absent
           are left as the image has them
    shm    a directory that becomes /dev/shm: another container's or the host's; None: one of its own
    init   an init program on the host, mounted read-only at /sbin/docker-init; None: none
    read_only  the files cannot be written either: as with a read-only root
    """

    files: Mapping[str, str]
    shm: str | None = None
    init: str | None = None
    read_only: bool = False


def masked_paths(possible_cpus: Sequence[int]) -> list[str]:
    """What is hidden by default, with the temperature sensors of each possible processor."""
    sensors = [f"/sys/devices/system/cpu/cpu{number}/thermal_throttle" for number in possible_cpus]
    return sorted((*MASKED, *sensors))


def build_mounts(
    binds: Sequence[Bind],
    shared: Shared,
    *,
    shm_size: int,
    ipc_mode: str,
    privileged: bool = False,
    writable_cgroups: bool = False,
    remapped: bool = False,
) -> list[dict[str, Any]]:
    """All mounts, in the order in which they are to be made.

    *binds* are the user's, their sources absolute paths on the host (volumes and images resolved by the caller; a
    tmpfs has
    none). *shm_size* is bytes. In a user namespace (*remapped*) the engine's files and volumes are the container's: they have
    its ids on the disk. What a user binds shows the host's. Raises InvalidArgument for a bind whose source is not resolved.
    """
    taken = {bind.destination for bind in binds}
    kernel = _kernel_mounts(shared, shm_size, ipc_mode, privileged, writable_cgroups)
    mounts = [each for each in kernel if each["destination"] not in taken and not _below_dev(each, taken)]
    own = ["idmap"] if remapped else []
    later = [_user_mount(bind, own) for bind in binds]
    later += [
        _bind(source, destination, ["rbind", *(["ro"] if shared.read_only else []), "rprivate", *own])
        for destination, source in shared.files.items()
        if destination not in taken
    ]
    if shared.init is not None:
        later.append(_bind(shared.init, "/sbin/docker-init", ["bind", "ro", "rprivate", *own]))
    later.sort(key=lambda each: str(each["destination"]).count("/"))
    return mounts + later


def _below_dev(mount: Mapping[str, Any], taken: set[str]) -> bool:
    """A bind over /dev brings what is below: nothing is mounted into the host's directories."""
    return "/dev" in taken and str(mount["destination"]).startswith("/dev/")


def _mount(kind: str, destination: str, source: str, options: list[str]) -> dict[str, Any]:
    return {"destination": destination, "type": kind, "source": source, "options": options}


def _bind(source: str, destination: str, options: list[str]) -> dict[str, Any]:
    return _mount("bind", destination, source, options)


def _kernel_mounts(
    shared: Shared, shm_size: int, ipc_mode: str, privileged: bool, writable_cgroups: bool
) -> list[dict[str, Any]]:
    system = [*_SAFE] if privileged else [*_SAFE, "ro"]
    cgroup = [*_SAFE] if privileged or writable_cgroups else ["ro", *_SAFE]
    mounts = [
        _mount("proc", "/proc", "proc", [*_SAFE]),
        _mount("tmpfs", "/dev", "tmpfs", ["nosuid", "strictatime", "mode=755", "size=65536k"]),
        _mount(
            "devpts",
            "/dev/pts",
            "devpts",
            ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"],
        ),
        _mount("sysfs", "/sys", "sysfs", system),
        _mount("cgroup", "/sys/fs/cgroup", "cgroup", cgroup),
        _mount("mqueue", "/dev/mqueue", "mqueue", [*_SAFE]),
    ]
    if ipc_mode == "host" or shared.shm is not None:
        mounts.append(_bind(shared.shm or "/dev/shm", "/dev/shm", ["rbind", "rprivate"]))
    elif ipc_mode != "none":
        mounts.append(_mount("tmpfs", "/dev/shm", "shm", [*_SAFE, "mode=1777", f"size={shm_size}"]))
    return mounts


def _user_mount(bind: Bind, own: list[str]) -> dict[str, Any]:
    if bind.type == "tmpfs":
        return _mount("tmpfs", bind.destination, "tmpfs", _tmpfs_options(bind))
    if not bind.source.startswith("/"):
        name = bind.source or "without a name"
        raise InvalidArgument(f"mount at {bind.destination}: the {bind.type} {name} is not resolved to a path")
    options = ["rbind" if bind.recursive else "bind"]
    if bind.read_only:
        options.append("ro")
        if bind.recursive and bind.read_only_recursive:
            options.append("rro")
    options.append(bind.propagation or "rprivate")
    return _bind(bind.source, bind.destination, options + (own if bind.type == "volume" else []))


def _tmpfs_options(bind: Bind) -> list[str]:
    """Safe flags first, then the user's words, each in place of what it contradicts."""
    options = ["noexec", "nosuid", "nodev", "rprivate"]
    for word in filter(None, bind.mode.split(",")):
        if word == "defaults":
            continue
        key = word.partition("=")[0] if "=" in word else word
        options = [
            each
            for each in options
            if each != _FLAGS_OPPOSITE.get(word) and each not in (word, f"no{word}") and not each.startswith(f"{key}=")
        ]
        options.append(word)
    if bind.read_only and "ro" not in options:
        options.append("ro")
    return options


def propagation_of(binds: Sequence[Bind]) -> str:
    """What the root's mounts must be for the binds to work: the widest wish (mount_namespaces(7))."""
    wishes = {bind.propagation.removeprefix("r") for bind in binds}
    return "rshared" if "shared" in wishes else "rslave" if "slave" in wishes else "rprivate"
