"""Control groups of one container, on cgroup v1, hybrid and pure v2 hosts alike.

Limits live where the controllers are; the life cycle (start inside, kill, events) lives in a v2 leaf, which hybrid hosts
have too. Paths begin at the hierarchies' roots, never at this process's own group, and only groups named here are
touched. Standard library only: this runs in shims as well as in the daemon. Source: cgroups(7), and
Documentation/admin-guide/cgroup-v1 and cgroup-v2 of the kernel.
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
import time
from collections.abc import Iterator, Mapping
from typing import Any

from pyd_shim import limits
from pyd_shim.files import read, write

__all__ = ["Group", "Layout", "discover"]

_V2_CONTROLLERS = ("cpu", "cpuset", "io", "memory", "pids", "hugetlb")

Layout = dict[str, Any]
"""``{"v1": [{"path", "controllers"}], "v2": path or None, "pure": bool}``: plain data, it travels in plans.

``realtime``, where it is there: microseconds of real-time and of a period that groups above containers get.
"""


def discover(mountinfo: str = "/proc/self/mountinfo") -> Layout:
    """Read which hierarchies are mounted where (proc(5) mountinfo)."""
    v1: list[dict[str, Any]] = []
    v2: str | None = None
    with open(mountinfo, encoding="utf-8", errors="surrogateescape") as lines:
        for line in lines:
            left, _, right = line.rstrip("\n").partition(" - ")
            fields, (kind, _, options) = left.split(" "), right.split(" ", 2)
            point = re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), fields[4])
            if fields[3] != "/":
                continue  # a bind mount of a part of a hierarchy
            if kind == "cgroup2" and v2 is None:
                v2 = point
            elif kind == "cgroup":
                names = [o for o in options.split(",") if o not in ("rw", "ro", "xattr", "noprefix", "clone_children")]
                names = [o for o in names if not o.startswith("release_agent=")]
                if not any(set(names) == set(known["controllers"]) for known in v1):
                    v1.append({"path": point, "controllers": names})
    return {"v1": v1, "v2": v2, "pure": not v1}


class Group:
    """The control groups ``<hierarchy>/<path>`` of one container; *path* is ``/pyd/<id>`` or the like."""

    def __init__(self, layout: Layout, path: str) -> None:
        self.layout = layout
        self.path = path.strip("/")
        self.warnings: list[str] = []

    def _hierarchies(self) -> Iterator[tuple[str, list[str]]]:
        for hierarchy in self.layout["v1"]:
            yield f"{hierarchy['path']}/{self.path}", hierarchy["controllers"]

    @property
    def v2(self) -> str | None:
        """The directory of the v2 leaf, None where there is no v2 hierarchy."""
        return f"{self.layout['v2']}/{self.path}" if self.layout["v2"] else None

    def controller(self, name: str) -> str | None:
        """The v1 directory that has controller *name*."""
        for directory, controllers in self._hierarchies():
            if name in controllers:
                return directory
        return None

    def above(self, name: str) -> list[str]:
        """The v1 directories that have controller *name* and stand between the hierarchy's root and the group, from the top."""
        for hierarchy in self.layout["v1"]:
            if name in hierarchy["controllers"]:
                parts = self.path.split("/")
                return ["/".join([hierarchy["path"], *parts[:depth]]) for depth in range(1, len(parts))]
        return []

    # --- making --------------------------------------------------------------------------------------------------

    def create_v1(self) -> None:
        """Make the directories of the v1 hierarchies, parents first."""
        for directory, controllers in self._hierarchies():
            self._make_v1(directory, "cpuset" in controllers)

    def create_v2(self) -> None:
        """Make the v2 leaf, parents first, with the controllers delegated down to it on a pure v2 host."""
        if self.v2:
            self._make_v2()

    def _make_v1(self, directory: str, cpuset: bool) -> None:
        try:
            os.mkdir(directory, 0o755)
        except FileExistsError:
            pass  # what a crash left; populated groups are refused by the caller's life cycle
        except FileNotFoundError:
            self._make_v1(os.path.dirname(directory), cpuset)
            with contextlib.suppress(FileExistsError):
                os.mkdir(directory, 0o755)
        if cpuset:
            for name in ("cpuset.cpus", "cpuset.mems"):
                _cpuset(directory, name)

    def _make_v2(self) -> None:
        root, parts = self.layout["v2"], self.path.split("/")
        for depth in range(len(parts)):
            above = "/".join([root, *parts[:depth]])
            if self.layout["pure"]:
                self._delegate(above)
            with contextlib.suppress(FileExistsError):
                os.mkdir("/".join([above, parts[depth]]), 0o755)

    def _delegate(self, directory: str) -> None:
        enabled = read(f"{directory}/cgroup.subtree_control").split()
        have = read(f"{directory}/cgroup.controllers").split()
        for name in _V2_CONTROLLERS:
            if name in have and name not in enabled:
                try:
                    write(f"{directory}/cgroup.subtree_control", f"+{name}")
                except OSError as error:
                    self.warnings.append(f"cgroup controller {name} cannot be used: {error.strerror}")

    def v2_fd(self) -> int | None:
        """A descriptor of the v2 leaf for clone3's CLONE_INTO_CGROUP."""
        return os.open(self.v2, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC) if self.v2 else None

    def join_fds(self) -> list[int]:
        """Descriptors of the v1 ``tasks`` files. A single-threaded process joins by writing "0" to each.

        ``tasks`` and "0", not ``cgroup.procs`` and a pid: a thread that moves itself takes no lock of the whole system,
        which would cost a grace period of RCU for each container (kernel/cgroup/cgroup.c, cgroup_procs_write_start).
        """
        return [os.open(f"{directory}/tasks", os.O_WRONLY | os.O_CLOEXEC) for directory, _ in self._hierarchies()]

    # --- limits --------------------------------------------------------------------------------------------------

    def apply(self, resources: Mapping[str, Any]) -> None:
        """Set the limits of an OCI *resources* object (config-linux.md), before there is a process.

        A limit that this host has no controller for is a warning. Raises OSError for one the kernel refuses.
        """
        self.warnings += limits.apply(self, resources)

    # --- watching and ending -------------------------------------------------------------------------------------

    def oom_killed(self) -> bool:
        """Whether the kernel killed a process of this group for want of memory."""
        try:
            if self.layout["pure"]:
                text = read(f"{self.v2}/memory.events")
            else:
                directory = self.controller("memory")
                text = read(f"{directory}/memory.oom_control") if directory else ""
        except OSError:
            return False
        return any(line.startswith("oom_kill ") and line != "oom_kill 0" for line in text.splitlines())

    def pids(self) -> list[int]:
        """All processes in the group, on this host."""
        directory = self.v2 or next((each for each, _ in self._hierarchies()), None)
        try:
            return [int(line) for line in read(f"{directory}/cgroup.procs").split()] if directory else []
        except OSError:
            return []

    def signal(self, number: int) -> None:
        """Send a signal to all processes, also to those that are being made; SIGKILL leaves none."""
        if number == signal.SIGKILL and self.v2:
            try:
                write(f"{self.v2}/cgroup.kill", "1")
            except OSError:
                pass  # before Linux 5.14: one by one
            else:
                return
        for _ in range(100):
            pids = self.pids()
            for pid in pids:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, number)
            if number != signal.SIGKILL or not pids:
                return
            time.sleep(0.005)

    def freeze(self, frozen: bool) -> None:
        """Stop or resume all processes (cgroup v2 freezer, or v1's)."""
        if self.v2:
            with contextlib.suppress(FileNotFoundError):
                write(f"{self.v2}/cgroup.freeze", "1" if frozen else "0")
                self._wait_frozen(frozen)
                return
        directory = self.controller("freezer")
        if directory is None:
            raise OSError(95, "no freezer controller")
        write(f"{directory}/freezer.state", "FROZEN" if frozen else "THAWED")

    def _wait_frozen(self, frozen: bool, seconds: float = 2.0) -> None:
        """Processes stop on their way back to user space, which cgroup.events tells; one in a long system call later."""
        deadline = time.monotonic() + seconds
        while f"frozen {frozen:d}" not in read(f"{self.v2}/cgroup.events") and time.monotonic() < deadline:
            time.sleep(0.001)

    def frozen(self) -> bool:
        """Whether freeze was asked for."""
        try:
            if self.v2:
                return read(f"{self.v2}/cgroup.freeze").strip() == "1"
            directory = self.controller("freezer")
            return directory is not None and read(f"{directory}/freezer.state").strip() != "THAWED"
        except OSError:
            return False  # the group is gone, or before Linux 5.2 without a v2 freezer

    def remove(self, seconds: float = 5.0) -> None:
        """Remove the directories; nothing there is fine. Raises OSError (EBUSY) when processes stay beyond *seconds*."""
        deadline = time.monotonic() + seconds
        directories = [directory for directory, _ in self._hierarchies()]
        if self.v2:
            directories.append(self.v2)
        for directory in directories:
            while True:
                try:
                    os.rmdir(directory)
                except FileNotFoundError:
                    break
                except OSError as error:
                    # Busy while a killed process is still on its way out, or a program made groups of its own inside.
                    if time.monotonic() > deadline:
                        raise
                    if error.errno == 16:
                        _remove_children(directory)
                        time.sleep(0.001)
                        continue
                    raise
                else:
                    break

    def remove_parent(self) -> None:
        """Remove the directory above the containers' where it is empty, so that nothing is left of an idle daemon."""
        parent = os.path.dirname(self.path)
        if not parent:
            return
        roots = [hierarchy["path"] for hierarchy in self.layout["v1"]]
        for root in [*roots, *([self.layout["v2"]] if self.layout["v2"] else [])]:
            with contextlib.suppress(OSError):  # not empty: another container lives there
                os.rmdir(f"{root}/{parent}")


def _cpuset(directory: str, name: str) -> str:
    """What a cpuset has; one that has nothing gets what is above it.

    A cpuset takes no process until it has cpus and mems, and they are not inherited (cpuset(7)). The one above may have been
    made a moment ago by another shim, and not have any yet itself.
    """
    if not (found := read(f"{directory}/{name}").strip()):
        found = _cpuset(os.path.dirname(directory), name)
        write(f"{directory}/{name}", found)
    return found


def _remove_children(directory: str) -> None:
    for entry in os.scandir(directory):
        if entry.is_dir(follow_symlinks=False):
            _remove_children(entry.path)
            with contextlib.suppress(OSError):
                os.rmdir(entry.path)
