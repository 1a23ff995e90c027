"""Capabilities by name: the sets that Docker's flags describe.

Names and numbers are capabilities(7); the default set of 14 is Docker's. A capability that the daemon itself lacks
cannot be given away, so callers pass the set the daemon has.
"""

from __future__ import annotations

from collections.abc import Iterable

from pyd_contracts.errors import InvalidArgument

__all__ = ["ALL", "DEFAULT", "from_mask", "granted", "normalised"]

ALL: tuple[str, ...] = tuple(
    f"CAP_{name}"
    for name in (
        "CHOWN DAC_OVERRIDE DAC_READ_SEARCH FOWNER FSETID KILL SETGID SETUID SETPCAP LINUX_IMMUTABLE NET_BIND_SERVICE "
        "NET_BROADCAST NET_ADMIN NET_RAW IPC_LOCK IPC_OWNER SYS_MODULE SYS_RAWIO SYS_CHROOT SYS_PTRACE SYS_PACCT "
        "SYS_ADMIN SYS_BOOT SYS_NICE SYS_RESOURCE SYS_TIME SYS_TTY_CONFIG MKNOD LEASE AUDIT_WRITE AUDIT_CONTROL "
        "SETFCAP MAC_OVERRIDE MAC_ADMIN SYSLOG WAKE_ALARM BLOCK_SUSPEND AUDIT_READ PERFMON BPF CHECKPOINT_RESTORE"
    ).split()
)
"""Every capability; the index is the kernel's number."""

DEFAULT: tuple[str, ...] = tuple(
    f"CAP_{name}"
    for name in (
        "CHOWN DAC_OVERRIDE FSETID FOWNER MKNOD NET_RAW SETGID SETUID SETFCAP SETPCAP NET_BIND_SERVICE SYS_CHROOT KILL "
        "AUDIT_WRITE"
    ).split()
)
"""What a container has when nothing is said."""


def from_mask(mask: int) -> tuple[str, ...]:
    """Names of the bits in *mask*, as ``CapEff`` of /proc/PID/status shows them; bits this table lacks are left out."""
    return tuple(name for number, name in enumerate(ALL) if mask >> number & 1)


def normalised(names: Iterable[str], what: str) -> tuple[str, ...]:
    """*names* in upper case with ``CAP_`` in front; ``ALL`` stays ``ALL``.

    Raises InvalidArgument in Docker's words; *what* is the field, CapAdd or CapDrop.
    """
    result = []
    for given in names:
        name = given.upper()
        if name != "ALL":
            name = name if name.startswith("CAP_") else f"CAP_{name}"
            if name not in ALL:
                raise InvalidArgument(f'invalid {what}: unknown capability: "{name}"')
        result.append(name)
    return tuple(result)


def granted(
    add: Iterable[str], drop: Iterable[str], *, privileged: bool = False, available: Iterable[str] = ALL
) -> tuple[str, ...]:
    """The capabilities of a container's root, in the kernel's order.

    Docker's rules: privileged is all there is, whatever else is said; ``ALL`` in add is all but those dropped; ``ALL``
    in drop is only those added; else the default set less drop, plus add. Raises InvalidArgument for unknown names and
    for an addition that is not *available*; a default one that is not available is left out.
    """
    possible = frozenset(available)
    adding, dropping = normalised(add, "CapAdd"), normalised(drop, "CapDrop")
    for name in adding:
        if name != "ALL" and name not in possible:
            raise InvalidArgument(
                f"invalid CapAdd: capability not supported by your kernel or not available in the "
                f'current environment: "{name}"'
            )
    if privileged:
        chosen = set(possible)
    elif "ALL" in adding:
        chosen = set(possible) - set(dropping)
    elif "ALL" in dropping:
        chosen = set(adding)
    else:
        chosen = (set(DEFAULT) - set(dropping)) | set(adding)
    return tuple(name for name in ALL if name in chosen and name in possible)
