"""What a container uses: its control groups and its network namespace, read once."""

from __future__ import annotations

import os
from collections.abc import Iterator

from pyd_contracts.values import Statistics
from pyd_shim.cgroups import Group
from pyd_shim.files import numbers, read

__all__ = ["statistics"]

_TICK = 1_000_000_000 // os.sysconf("SC_CLK_TCK")
_V1_UNLIMITED = 1 << 60  # memory.limit_in_bytes is the largest multiple of the page size when there is no limit
_INTERFACE = (
    "bytes",
    "packets",
    "errors",
    "dropped",
)  # proc(5), /proc/net/dev: the first four of eight columns each way
_Io = tuple[tuple[int, int, str, int], ...]


def statistics(group: Group, pid: int) -> Statistics:
    """Of the container in *group* whose init is *pid*."""
    return (_v2 if group.layout["pure"] else _v1)(group, networks(pid))


def _v1(group: Group, interfaces: dict[str, dict[str, int]]) -> Statistics:
    cpu, memory, pids, block = (group.controller(name) for name in ("cpuacct", "memory", "pids", "blkio"))
    used = numbers(f"{cpu}/cpuacct.stat")
    throttled = numbers(f"{group.controller('cpu')}/cpu.stat")
    limit = _number(f"{memory}/memory.limit_in_bytes")
    return Statistics(
        cgroup=1,
        cpu_total=_number(f"{cpu}/cpuacct.usage") or 0,
        cpu_user=used.get("user", 0) * _TICK,
        cpu_kernel=used.get("system", 0) * _TICK,
        cpu_each=tuple(int(word) for word in _text(f"{cpu}/cpuacct.usage_percpu").split()),
        throttling=tuple(throttled.get(key, 0) for key in ("nr_periods", "nr_throttled", "throttled_time")),  # type: ignore[arg-type]
        memory_usage=_number(f"{memory}/memory.usage_in_bytes") or 0,
        memory_peak=_number(f"{memory}/memory.max_usage_in_bytes"),
        memory_limit=limit if limit is not None and limit < _V1_UNLIMITED else None,
        memory_failures=_number(f"{memory}/memory.failcnt") or 0,
        memory_stats=numbers(f"{memory}/memory.stat"),
        pids=_number(f"{pids}/pids.current") or 0,
        pids_limit=_number(f"{pids}/pids.max"),
        io={
            "io_service_bytes_recursive": tuple(_v1_io(f"{block}/blkio.throttle.io_service_bytes_recursive")),
            "io_serviced_recursive": tuple(_v1_io(f"{block}/blkio.throttle.io_serviced_recursive")),
        },
        networks=interfaces,
    )


def _v2(group: Group, interfaces: dict[str, dict[str, int]]) -> Statistics:
    at = group.v2
    cpu = numbers(f"{at}/cpu.stat")
    service_bytes, serviced = _v2_io(f"{at}/io.stat")
    return Statistics(
        cgroup=2,
        cpu_total=cpu.get("usage_usec", 0) * 1000,
        cpu_user=cpu.get("user_usec", 0) * 1000,
        cpu_kernel=cpu.get("system_usec", 0) * 1000,
        throttling=(cpu.get("nr_periods", 0), cpu.get("nr_throttled", 0), cpu.get("throttled_usec", 0) * 1000),
        memory_usage=_number(f"{at}/memory.current") or 0,
        memory_peak=_number(f"{at}/memory.peak"),
        memory_limit=_number(f"{at}/memory.max"),
        memory_failures=numbers(f"{at}/memory.events").get("max", 0),
        memory_stats=numbers(f"{at}/memory.stat"),
        pids=_number(f"{at}/pids.current") or 0,
        pids_limit=_number(f"{at}/pids.max"),
        io={"io_service_bytes_recursive": service_bytes, "io_serviced_recursive": serviced},
        networks=interfaces,
    )


def _v1_io(path: str) -> Iterator[tuple[int, int, str, int]]:
    """Lines ``8:0 Read 4096``; the last one, a total over all devices, has no device."""
    for line in _text(path).splitlines():
        words = line.replace(":", " ").split()
        if len(words) == 4:
            yield int(words[0]), int(words[1]), words[2], int(words[3])


def _v2_io(path: str) -> tuple[_Io, _Io]:
    """Lines ``8:0 rbytes=4096 wbytes=0 rios=1 wios=0 dbytes=0 dios=0``."""
    sizes, counts = [], []
    for line in _text(path).splitlines():
        device, *words = line.split()
        if ":" not in device:
            continue
        major, minor = map(int, device.split(":"))
        values = {key: int(value) for key, _, value in (word.partition("=") for word in words) if value.isdecimal()}
        for operation, letter in (("read", "r"), ("write", "w")):
            sizes.append((major, minor, operation, values.get(f"{letter}bytes", 0)))
            counts.append((major, minor, operation, values.get(f"{letter}ios", 0)))
    return tuple(sizes), tuple(counts)


def networks(pid: int) -> dict[str, dict[str, int]]:
    """Counters of the interfaces in the network namespace of *pid*, without loopback; none for a process on the host's
    network: its interfaces are not the container's."""
    try:
        if os.readlink(f"/proc/{pid}/ns/net") == os.readlink("/proc/self/ns/net"):
            return {}
        lines = read(f"/proc/{pid}/net/dev").splitlines()[2:]
    except OSError:
        return {}
    found = {}
    for line in lines:
        name, _, rest = line.partition(":")
        columns = [int(word) for word in rest.split()]
        if name.strip() != "lo" and len(columns) == 16:
            found[name.strip()] = {
                f"{way}_{what}": columns[offset + index]
                for way, offset in (("rx", 0), ("tx", 8))
                for index, what in enumerate(_INTERFACE)
            }
    return found


def _text(path: str) -> str:
    try:
        return read(path)
    except OSError:
        return ""


def _number(path: str) -> int | None:
    text = _text(path).strip()
    return int(text) if text.isdecimal() else None
