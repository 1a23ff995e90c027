"""Values of isolation: how a process is wired, what a container is made of, what it uses."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from pyd_contracts.values.storage import Mount

__all__ = ["Connection", "Created", "Execution", "Sandbox", "State", "Statistics", "Status", "Stdio"]


class Status(enum.Enum):
    """The OCI life cycle, and PAUSED (runtime-spec, runtime.md "State")."""

    CREATED = "created"
    RUNNING = "running"
    PAUSED = "paused"
    STOPPED = "stopped"


@dataclass(frozen=True, slots=True)
class Stdio:
    """How a process is wired.

    terminal    a pseudo terminal instead of three pipes
    stdin       its standard input stays open until a client closes it; else it is /dev/null
    stdin_once  the first client that ends closes standard input for good
    spool       a file that receives all output in the frames of `pyd_shim.spool`; None keeps nothing
    height, width  first size of the terminal in characters; 0 leaves the kernel's default
    """

    terminal: bool = False
    stdin: bool = False
    stdin_once: bool = False
    spool: Path | None = None
    height: int = 0
    width: int = 0


@dataclass(frozen=True, slots=True)
class Connection:
    """A client's stream that is to be wired to a process.

    fd      a connected stream socket; the backend takes a duplicate, the caller closes its own
    framed  output in frames of 8 bytes head (stream, 0, 0, 0, length big-endian 32 bit) as the Docker API's
            "Stream format" says; else raw
    detach_keys  the byte sequence that ends the connection and not the process (terminals only); empty: none
    early   bytes of input that were already read from the socket
    """

    fd: int
    stdin: bool = True
    stdout: bool = True
    stderr: bool = True
    framed: bool = True
    detach_keys: bytes = b""
    early: bytes = b""


@dataclass(frozen=True, slots=True)
class Sandbox:
    """All that a backend needs to build one container.

    bundle  a private directory of this container, made by the engine, gone after a reboot; the backend may use it
    state   a private directory of this container that survives reboots
    spec    an OCI runtime-spec document (config.md); its root.path is where *rootfs* is to appear, inside the
            container's own mount namespace
    rootfs  mounts that give the root file system, first to last
    runtime  one of the names of a backend with the capability ``runtimes``; empty: its default
    """

    bundle: Path
    state: Path
    spec: Mapping[str, object]
    rootfs: tuple[Mount, ...]
    stdio: Stdio
    runtime: str = ""


@dataclass(frozen=True, slots=True)
class Created:
    """What stands after create: the init's pid on this host, the path of its network namespace, and what was degraded."""

    pid: int
    netns: Path
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Statistics:
    """What a container uses, from its control groups and its network namespace. Times are nanoseconds of processor time.

    cgroup          1 or 2: whose names ``memory_stats`` and ``io`` have
    cpu_each        per processor; empty where the kernel does not count so
    throttling      periods, throttled_periods, throttled_time (ns), of a processor quota
    memory_peak     None where the kernel does not say
    memory_limit    None: no limit
    memory_stats    ``memory.stat`` as the kernel writes it
    pids_limit      None: no limit
    io              kind (``io_service_bytes_recursive``, ``io_serviced_recursive``) to (major, minor, operation, value)
    networks        interface, without loopback, to rx_bytes, rx_packets, rx_errors, rx_dropped and the same for tx
    """

    cgroup: int
    cpu_total: int = 0
    cpu_user: int = 0
    cpu_kernel: int = 0
    cpu_each: tuple[int, ...] = ()
    throttling: tuple[int, int, int] = (0, 0, 0)
    memory_usage: int = 0
    memory_peak: int | None = None
    memory_limit: int | None = None
    memory_failures: int = 0
    memory_stats: Mapping[str, int] = field(default_factory=dict)
    pids: int = 0
    pids_limit: int | None = None
    io: Mapping[str, tuple[tuple[int, int, str, int], ...]] = field(default_factory=dict)
    networks: Mapping[str, Mapping[str, int]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Execution:
    """A further process for a running container: an OCI *process* object, its wiring, the clients to wire at once."""

    process: Mapping[str, object]
    stdio: Stdio
    connections: tuple[Connection, ...] = ()


@dataclass(frozen=True, slots=True)
class State:
    """What a backend knows of a process.

    pid          on this host; 0 once stopped
    exit_code    0..255, 128+signal for a signal; None until stopped, or when it was lost (reboot, killed supervisor)
    finished_at  seconds since the epoch; None like exit_code
    oom_killed   the kernel's out-of-memory killer ended a process of the container
    error        why the program could not be run, empty otherwise
    """

    status: Status
    pid: int
    exit_code: int | None = None
    finished_at: float | None = None
    oom_killed: bool = False
    error: str = ""
