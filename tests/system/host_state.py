"""The state of this host that an engine can leak into, as lines of text: "nothing leaked" is an empty difference.

What is looked at: mounts, interfaces, addresses, routes and rules, packet filters, cgroups of pyd, loop devices,
System V objects, listening ports, files in /run/netns and /dev/shm; and of processes, namespaces and sockets those that
belong to an engine under test, which is told by its directories: a shim holds files there, a container has mounts from
there. So a busy host around the tests does no harm. $PYD_HOST_STATE_IGNORE is a regular expression for what still does.
"""

from __future__ import annotations

import os
import re
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

_NAMESPACES = ("mnt", "net", "pid", "ipc", "uts", "user", "cgroup", "time")
_ENGINES = re.compile(r"pyd")
_COUNTERS = re.compile(r"\[\d+:\d+\]|counter packets \d+ bytes \d+|expires \S+| linkdown")
_LAZY_ROUTE = re.compile(r"\bfe80:|\bff00:|^anycast |^multicast ")  # IPv6's own, seconds after an interface is up


def take(*roots: Path) -> frozenset[str]:
    """One line an object. *roots* are directories of the engine under test: their files count, and mark processes."""
    lines = {line for collect in _COLLECTORS for line in collect()}
    lines.update(_owned(roots))
    lines.update(_files(roots))
    ignored = os.environ.get("PYD_HOST_STATE_IGNORE")
    return frozenset(line for line in lines if not (ignored and re.search(ignored, line)))


def difference(before: frozenset[str], after: frozenset[str]) -> list[str]:
    """What there is that was not (leaked), and what there was that is not (collateral damage)."""
    # The kernel frees session keyrings a while after their last process: one of an earlier test is not missed.
    lost = {line for line in before - after if not line.startswith("key ")}
    return [f"LEAKED {line}" for line in sorted(after - before)] + [f"LOST {line}" for line in sorted(lost)]


def settle(before: frozenset[str], *roots: Path, seconds: float = 10, foreign: str = "") -> list[str]:
    """The difference from *before*, once it is empty or the time is up: the kernel frees namespaces lazily.

    *foreign* is a regular expression for lines that are somebody else's.
    """
    deadline = time.monotonic() + seconds
    while True:
        found = difference(before, take(*roots))
        found = [line for line in found if not (foreign and re.search(foreign, line))]
        if not found or time.monotonic() >= deadline:
            return found
        time.sleep(0.1)


def processes_of(*roots: Path) -> dict[int, str]:
    """Processes that hold, map, mount, name or stand in something under *roots*: pid to a line for people."""
    marks = [os.fsencode(root) for root in roots]
    found = {}
    for pid in sorted(int(name) for name in os.listdir("/proc") if name.isdigit()):
        if pid != os.getpid() and marks and _belongs(pid, marks):
            found[pid] = f"proc {pid} {_command(pid)}"
    for pid in _line_of_descent():
        found.pop(pid, None)
    return found


def _belongs(pid: int, marks: list[bytes]) -> bool:
    texts = [
        *_mount_lines(str(pid)) - _mount_lines("self")
    ]  # a mount that all see is a mount, and makes no process ours
    for name in ("cmdline", "environ"):
        with suppress(OSError):
            texts.append(Path(f"/proc/{pid}/{name}").read_bytes())
    with suppress(OSError):
        texts.append(os.readlink(os.fsencode(f"/proc/{pid}/cwd")))
    with suppress(OSError):
        for number in os.listdir(f"/proc/{pid}/fd"):
            with suppress(OSError):
                texts.append(os.readlink(os.fsencode(f"/proc/{pid}/fd/{number}")))
    return any(mark in text for mark in marks for text in texts)


def _mount_lines(pid: str) -> set[bytes]:
    """The mounts a process sees, without the ids that differ from namespace to namespace (proc_pid_mountinfo(5))."""
    with suppress(OSError):
        return {line.split(b" ", 2)[2] for line in Path(f"/proc/{pid}/mountinfo").read_bytes().splitlines()}
    return set()


def _command(pid: int) -> str:
    with suppress(OSError):
        words = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        return f"{words[:200]}{' ZOMBIE' if state == 'Z' else ''}"
    return "(gone)"


def _line_of_descent() -> Iterator[int]:
    """This process and its ancestors: the one who runs the tests names the roots too."""
    pid = os.getpid()
    while pid > 1:
        yield pid
        pid = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


def _owned(roots: tuple[Path, ...]) -> Iterator[str]:
    for pid, line in processes_of(*roots).items():
        yield line
        for kind in _NAMESPACES:
            with suppress(OSError):
                name = os.readlink(f"/proc/{pid}/ns/{kind}")
                if name != os.readlink(f"/proc/self/ns/{kind}"):
                    yield f"namespace {name}"
    for line in _proc("net/unix"):
        fields = line.split()
        if len(fields) > 7 and any(str(root) in fields[7] for root in roots):
            yield f"unix socket {fields[7]}{' listening' if fields[3] == '00010000' else ''}"


def _mounts() -> Iterator[str]:
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        left, right = line.split(" - ", 1)
        fields, (kind, source, *_) = left.split(), right.split()
        yield f"mount {fields[4]} {kind} {source} {fields[3]} {fields[5]} {' '.join(fields[6:])}"


def _network() -> Iterator[str]:
    for line in _ask("ip", "-o", "link"):
        name = line.split(": ", 2)[1].split("@")[0]
        master = re.search(r"master (\S+)", line)
        yield f"interface {name}{f' on {master[1]}' if master else ''}"
    for line in _ask("ip", "-o", "addr"):
        fields = line.split()
        if not fields[3].startswith("fe80:"):  # comes by itself, seconds after its interface
            yield f"address {fields[1]} {fields[3]}"
    for question in (("route", "show", "table", "all"), ("-6", "route", "show", "table", "all"), ("rule",)):
        for line in _ask("ip", *question):
            if not _LAZY_ROUTE.search(line):
                yield f"route {_COUNTERS.sub('', line).strip()}"
    for word in ("ip_forward", "conf/all/forwarding"):
        yield f"sysctl {word} {''.join(_proc(f'sys/net/ipv4/{word}', head=0))}"
    for name in _names("/run/netns"):
        yield f"named network namespace {name}"
    for name in ("tcp", "tcp6", "udp", "udp6"):
        for line in _proc(f"net/{name}"):
            fields = line.split()
            if fields[3] in ("0A", "07"):  # listening; unconnected
                yield f"port {name} {fields[1]}"


def _filters() -> Iterator[str]:
    for command in (
        ("nft", "-s", "list", "ruleset"),
        ("iptables-legacy-save",),
        ("ip6tables-legacy-save",),
        ("ipset", "save"),
    ):
        block = ""
        for line in _ask(*command):
            text = _COUNTERS.sub("", line).strip()
            block = text if text.startswith(("table", "*")) else block
            if text and not text.startswith("#"):
                yield f"{command[0]} {block} {text}"


def _cgroups() -> Iterator[str]:
    for folder, _, _ in os.walk("/sys/fs/cgroup"):
        if _ENGINES.search(folder):
            yield f"cgroup {folder}"


def _devices_and_ipc() -> Iterator[str]:
    for name in _names("/dev/shm"):
        yield f"shared memory {name}"
    for line in _ask("losetup", "-a"):
        yield f"loop {line.split(':')[0]} {line[line.rfind('(') :]}"
    for kind in ("shm", "sem", "msg"):
        for line in _proc(f"sysvipc/{kind}"):
            yield f"sysv {kind} {' '.join(line.split()[:2])}"
    for line in _proc("keys", head=0):
        if "_ses." in line:  # session keyrings that runtimes make, one a container
            yield f"key {' '.join(line.split()[7:])}"


def _files(roots: tuple[Path, ...]) -> Iterator[str]:
    """Names, modes and owners; not sizes, which a database changes as it pleases."""
    for root in roots:
        for folder, folders, names in os.walk(root):
            for name in folders + names:
                path = os.path.join(folder, name)
                with suppress(FileNotFoundError):
                    found = os.lstat(path)
                    yield f"file {path} {stat.filemode(found.st_mode)} {found.st_uid}:{found.st_gid}"


_COLLECTORS: tuple[Callable[[], Iterator[str]], ...] = (_mounts, _network, _filters, _cgroups, _devices_and_ipc)


def _proc(name: str, head: int = 1) -> list[str]:
    """The lines of a file in /proc after *head* lines of heading; none where the kernel has no such file."""
    try:
        return Path("/proc", name).read_text(errors="replace").splitlines()[head:]
    except OSError:
        return []


def _names(folder: str) -> list[str]:
    """What is directly in *folder*; nothing where there is no such folder."""
    with suppress(FileNotFoundError):
        return os.listdir(folder)
    return []


def _ask(*command: str) -> list[str]:
    """What a program prints; nothing where it is not installed or has nothing to say."""
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=20, check=False).stdout.splitlines()
    except (OSError, subprocess.TimeoutExpired):
        return []


if __name__ == "__main__":  # for a look by hand: host_state.py [ROOT...] > before; ...; diff
    sys.stdout.write("".join(f"{line}\n" for line in sorted(take(*map(Path, sys.argv[1:])))))
