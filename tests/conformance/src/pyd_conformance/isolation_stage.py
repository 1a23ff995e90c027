"""The stage an isolation suite plays on: a backend, a root file system of one static program, and clients.

Constraint: the same programs must run in a real container and in a fake, so tests speak a small language (`echo`, `cat`,
`sleep`, `seq`, `hostname`, `stty size`, `sh -c` of such, joined by ``;``, with ``exit``, ``trap``, ``read`` and
``while :; do ...; done``). A static busybox knows it all; `pyd_conformance.fakes.isolation_programs` interprets it.
"""

from __future__ import annotations

import os
import select
import shutil
import socket
import struct
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pyd_contracts.errors import FailedPrecondition, NotFound, PydError
from pyd_contracts.isolation import INIT, IsolationBackend
from pyd_contracts.values import Connection, Created, Execution, Mount, Sandbox, State, Status, Stdio

__all__ = [
    "CAPABILITIES",
    "DEVICES",
    "SECONDS",
    "Client",
    "IsolationStage",
    "Make",
    "Place",
    "alive",
    "busybox_missing",
    "in_network",
    "make_tree",
    "oci_spec",
    "parent_of",
    "processes_of",
    "refusal",
    "until",
]

Make = Callable[[Path, Path], IsolationBackend]
SECONDS = 20.0
"""The bound of every wait: far above what anything takes on a busy machine."""

_BUSYBOX = "/bin/busybox"
_APPLETS = (
    "sh ash echo cat sleep seq true false hostname stty id ls ps env grep mount umount ifconfig readlink stat head touch "
    "mkdir mknod dd wc kill tty sha256sum nc find ln chmod umask test yes"
).split()

CAPABILITIES = [
    f"CAP_{name}"
    for name in (
        "CHOWN DAC_OVERRIDE FSETID FOWNER MKNOD NET_RAW SETGID SETUID SETFCAP SETPCAP NET_BIND_SERVICE SYS_CHROOT KILL "
        "AUDIT_WRITE"
    ).split()
]
"""What a container gets by default: the fourteen of the Docker API."""
DEVICES = [
    {"path": f"/dev/{name}", "type": "c", "major": major, "minor": minor, "fileMode": 0o666}
    for name, major, minor in (
        ("null", 1, 3), ("zero", 1, 5), ("full", 1, 7), ("random", 1, 8), ("urandom", 1, 9), ("tty", 5, 0),
    )
]  # fmt: skip


def busybox_missing() -> str | None:
    """Why there is no root file system to be had here, or None."""
    if not os.path.exists(_BUSYBOX):
        return f"{_BUSYBOX} is not there (Debian: busybox-static)"
    with open(_BUSYBOX, "rb") as file:
        head = file.read(1 << 12)
    # ELF64: a dynamic executable has a program header of type PT_INTERP (3); elf(5).
    offset, size, count = *struct.unpack_from("<Q", head, 32), *struct.unpack_from("<HH", head, 54)
    kinds = [struct.unpack_from("<I", head, offset + size * index)[0] for index in range(count)]
    return f"{_BUSYBOX} is not static (Debian: busybox-static)" if 3 in kinds else None


def make_tree(path: Path) -> Path:
    """A root file system: busybox under the names the tests use, the directories mounts go to, a passwd file."""
    for name in ("bin", "dev", "etc", "proc", "root", "sys", "tmp", "usr"):
        (path / name).mkdir(parents=True)
    path.chmod(0o755)
    (path / "tmp").chmod(0o1777)
    if busybox_missing() is None:
        shutil.copy(_BUSYBOX, path / "bin/busybox")
        for applet in _APPLETS:
            (path / "bin" / applet).symlink_to("busybox")
    (path / "bin/noexec").write_text("no program\n")
    (path / "bin/noexec").chmod(0o644)
    (path / "etc/passwd").write_text("root:x:0:0:root:/root:/bin/sh\nuser:x:1000:1000:user:/home/user:/bin/sh\n")
    (path / "etc/group").write_text("root:x:0:\nuser:x:1000:\nstaff:x:50:user\n")
    return path


def oci_spec(args: Sequence[str], *, terminal: bool = False, env: Sequence[str] = (), cwd: str = "/") -> dict[str, Any]:
    """An OCI document of an ordinary container. Tests change what they are about."""
    rules = [{"allow": False, "access": "rwm"}]
    rules += [{"allow": True, "type": "c", "major": d["major"], "minor": d["minor"], "access": "rwm"} for d in DEVICES]
    return {
        "ociVersion": "1.1.0",
        "hostname": "box",
        "process": {
            "terminal": terminal,
            "args": list(args),
            "env": ["PATH=/bin", "HOME=/root", *env],
            "cwd": cwd,
            "user": {"username": "root"},
            "capabilities": dict.fromkeys(("bounding", "effective", "permitted"), CAPABILITIES),
            "noNewPrivileges": False,
        },
        "root": {},
        "mounts": [
            {"destination": "/proc", "type": "proc", "source": "proc", "options": ["nosuid", "noexec", "nodev"]},
            {
                "destination": "/dev", "type": "tmpfs", "source": "tmpfs",
                "options": ["nosuid", "strictatime", "mode=755", "size=65536k"],
            },
            {
                "destination": "/dev/pts", "type": "devpts", "source": "devpts",
                "options": ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"],
            },
            {"destination": "/sys", "type": "sysfs", "source": "sysfs", "options": ["nosuid", "noexec", "nodev", "ro"]},
            {
                "destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup",
                "options": ["ro", "nosuid", "noexec", "nodev"],
            },
            {
                "destination": "/dev/shm", "type": "tmpfs", "source": "shm",
                "options": ["nosuid", "noexec", "nodev", "mode=1777", "size=1m"],
            },
        ],
        "linux": {
            "namespaces": [{"type": kind} for kind in ("pid", "network", "ipc", "uts", "mount", "cgroup")],
            "maskedPaths": ["/proc/acpi", "/proc/kcore", "/proc/keys", "/proc/timer_list", "/sys/firmware"],
            "readonlyPaths": ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"],
            "devices": DEVICES,
            "resources": {"devices": rules, "pids": {"limit": 100}},
        },
    }  # fmt: skip


def until(true: Callable[[], object], what: str, seconds: float = SECONDS) -> None:
    """Wait for a fact."""
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, f"did not happen in {seconds:.0f} s: {what}"
        time.sleep(0.01)


class Client:
    """A client's end of a stream that is wired to a process."""

    def __init__(self, framed: bool, receive_buffer: int = 0) -> None:
        self.framed = framed
        self.socket, self.theirs = socket.socketpair()
        if receive_buffer:
            self.theirs.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, receive_buffer)
        self.socket.settimeout(SECONDS)
        self.raw = b""

    def handed_over(self) -> None:
        """The backend has its own copy now."""
        self.theirs.close()

    def send(self, data: bytes) -> None:
        """Type."""
        self.socket.sendall(data)

    def half_close(self) -> None:
        """End the input."""
        self.socket.shutdown(socket.SHUT_WR)

    def read(self) -> dict[int, bytes]:
        """All output by stream, until the backend closes the stream. Raw output is stream 1."""
        while data := self.socket.recv(65536):
            self.raw += data
        return self.streams()

    def read_until(self, text: bytes) -> None:
        """Output, until it holds *text*."""
        while text not in self.raw:
            data = self.socket.recv(65536)
            assert data, f"the stream was closed before it said {text!r}: {self.raw!r}"
            self.raw += data

    def streams(self) -> dict[int, bytes]:
        """What came so far, frames taken apart."""
        if not self.framed:
            return {1: self.raw} if self.raw else {}
        found: dict[int, bytes] = {}
        rest = self.raw
        while rest:
            stream, length = struct.unpack_from(">BxxxI", rest)
            assert stream in (1, 2), f"a frame of stream {stream}"
            assert len(rest) >= 8 + length, "the last frame is torn"
            found[stream] = found.get(stream, b"") + rest[8 : 8 + length]
            rest = rest[8 + length :]
        return found

    def close(self) -> None:
        """Hang up."""
        self.socket.close()
        self.theirs.close()


@dataclass(frozen=True, slots=True)
class Place:
    """Where a backend lives (root, run: mode 0700, as the daemon makes them), a root file system, and the test's own."""

    root: Path
    run: Path
    tree: Path
    work: Path

    @classmethod
    def at(cls, where: Path) -> Place:
        """Make the directories."""
        place = cls(where / "root", where / "run", where / "tree", where / "work")
        for each in (place.root, place.run, place.work):
            each.mkdir(mode=0o700, parents=True)
        make_tree(place.tree)
        return place


@dataclass
class IsolationStage:
    """A backend that can be closed, lost and opened again, and short words for what every test does with it.

    Hooks are called by keyword only: so a relay with any number of wrappers stands the same tests.
    """

    make: Make
    place: Place
    clients: list[Client] = field(default_factory=list)
    created: dict[str, Created] = field(default_factory=dict)
    sandboxes: dict[str, Sandbox] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.backends = [self.make(self.place.root, self.place.run)]

    @property
    def backend(self) -> IsolationBackend:
        """The backend as it is now."""
        return self.backends[-1]

    def reopen(self) -> IsolationBackend:
        """Close the backend and make it anew on the same directories."""
        self.backend.isolation_close()
        return self.lose()

    def lose(self) -> IsolationBackend:
        """Make the backend anew without closing the old one, as after a crash."""
        self.backends.append(self.make(self.place.root, self.place.run))
        return self.backend

    def close(self) -> None:
        """End every container and close every backend."""
        for client in self.clients:
            client.close()
        for container in tuple(self.backend.isolation_walk()):
            self.end(container)
            self.backend.isolation_delete(container=container)
        for backend in self.backends:
            backend.isolation_close()

    # --- containers ----------------------------------------------------------------------------------------------

    def sandbox(self, container: str, spec: Mapping[str, Any], stdio: Stdio, rootfs: Sequence[Mount] = ()) -> Sandbox:
        """What the engine would hand over: private directories, and the tree bound as root file system."""
        bundle, state = self.place.work / "bundles" / container, self.place.work / "states" / container
        for each in (bundle, state):
            each.mkdir(mode=0o700, parents=True, exist_ok=True)
        mounts = tuple(rootfs) or (Mount("bind", str(self.place.tree), ("rbind",)),)
        spec = {**spec, "root": {**spec.get("root", {}), "path": str(bundle / "rootfs")}}
        sandbox = self.sandboxes[container] = Sandbox(bundle, state, spec, mounts, stdio)
        return sandbox

    def create(
        self, *args: str, spec: Mapping[str, Any] | None = None, container: str = "", terminal: bool = False,
        stdin: bool = False, stdin_once: bool = False, spool: bool = True, size: tuple[int, int] = (0, 0),
        env: Sequence[str] = (),
    ) -> str:  # fmt: skip
        """A container that waits to be started; its id."""
        container = container or os.urandom(32).hex()
        document = spec or oci_spec(args, terminal=terminal, env=(f"PYD_TEST={container}", *env))
        where = self.place.work / "states" / container / "spool"
        stdio = Stdio(terminal, stdin, stdin_once, where if spool else None, *size)
        sandbox = self.sandbox(container, document, stdio)
        self.created[container] = self.backend.isolation_create(container=container, sandbox=sandbox)
        return container

    def start(self, *args: str, **how: Any) -> str:
        """A container that runs; its id."""
        container = self.create(*args, **how)
        self.backend.isolation_start(container=container)
        return container

    def attach(
        self, container: str, process: str = INIT, *, framed: bool = True, receive_buffer: int = 0, **how: Any
    ) -> Client:
        """A client wired to a process."""
        client = Client(framed, receive_buffer)
        self.clients.append(client)
        connection = Connection(client.theirs.fileno(), framed=framed, **how)
        try:
            self.backend.isolation_attach(container=container, process=process, connection=connection)
        finally:
            client.handed_over()
        return client

    def output(self, *args: str, **how: Any) -> tuple[dict[int, bytes], State]:
        """Run to the end: all output by stream, and how it ended."""
        container = self.create(*args, **how)
        client = self.attach(container, stdin=False, framed=not how.get("terminal", False))
        self.backend.isolation_start(container=container)
        said = client.read()
        return said, self.wait(container)

    def execute(self, container: str, *args: str, exec_id: str = "", **how: Any) -> tuple[str, Client, int]:
        """A further process with a client: its id, the client, its pid."""
        exec_id = exec_id or os.urandom(32).hex()
        terminal, stdin = how.pop("terminal", False), how.pop("stdin", False)
        process = {**oci_spec(args, terminal=terminal)["process"], **how}
        client = Client(framed=not terminal)
        self.clients.append(client)
        connection = Connection(client.theirs.fileno(), stdin=stdin, framed=not terminal)
        stdio = Stdio(terminal=terminal, stdin=stdin, stdin_once=stdin)
        execution = Execution(process, stdio, (connection,))
        try:
            pid = self.backend.isolation_exec(container=container, exec_id=exec_id, execution=execution)
        finally:
            client.handed_over()
        return exec_id, client, pid

    def state(self, container: str, process: str = INIT) -> State:
        """How a process is."""
        return self.backend.isolation_state(container=container, process=process)

    def wait(self, container: str, process: str = INIT) -> State:
        """Wait by the exit descriptor, as the daemon does."""
        fd = self.backend.isolation_exit_fd(container=container, process=process)
        try:
            readable, _, _ = select.select([fd], [], [], SECONDS)
        finally:
            os.close(fd)
        assert readable, f"did not stop in {SECONDS:.0f} s: {self.state(container, process)}"
        return self.state(container, process)

    def kill(self, container: str, signal: int = 9, process: str = INIT, *, everyone: bool = False) -> None:
        """Signal a process."""
        self.backend.isolation_kill(container=container, process=process, signal=signal, everyone=everyone)

    def end(self, container: str) -> None:
        """Have it stopped, whatever it is."""
        try:
            if self.state(container).status is not Status.STOPPED:
                self.kill(container, everyone=True)
                self.wait(container)
        except (FailedPrecondition, NotFound):
            pass  # it stopped meanwhile

    def walk(self) -> set[str]:
        """All containers; one that is listed twice is caught here."""
        listed = list(self.backend.isolation_walk())
        assert len(listed) == len(set(listed)), f"walk lists a container twice: {listed}"
        return set(listed)

    def spooled(self, container: str) -> bytes:
        """What the spool holds, frames taken apart (`pyd_shim.spool`)."""
        data = (self.place.work / "states" / container / "spool").read_bytes()
        found = b""
        while data:
            _, _, length = struct.unpack_from(">QBxxxI", data)
            found += data[16 : 16 + length]
            data = data[20 + length :]
        return found

    # --- what is left --------------------------------------------------------------------------------------------

    def leftovers(self, container: str) -> list[str]:
        """What can be seen of a container that was deleted: files, mounts, control groups, processes."""
        sandbox = self.sandboxes[container]
        found = [str(path) for path in sandbox.bundle.rglob("*")]
        found += [str(path) for path in sandbox.state.rglob("*") if path != sandbox.stdio.spool]
        with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as lines:
            found += [line.rstrip() for line in lines if container in line]
        found += [path for path in _groups() if container in path]
        return found + [f"process {pid}" for pid in processes_of(container)]


def _groups() -> Iterator[str]:
    for above, names, _ in os.walk("/sys/fs/cgroup"):
        yield from (f"{above}/{name}" for name in names)


def processes_of(container: str) -> list[int]:
    """Processes whose environment names the container, as those that `IsolationStage.create` makes do."""
    mark, found = f"PYD_TEST={container}".encode(), []
    for name in os.listdir("/proc"):
        try:
            if name.isdigit() and mark in Path(f"/proc/{name}/environ").read_bytes().split(b"\0"):
                found.append(int(name))
        except OSError:
            continue  # ended while we looked
    return found


def refusal(of: type[PydError], call: Callable[..., object], **arguments: Any) -> str:
    """The message with which a hook refuses."""
    try:
        call(**arguments)
    except of as error:
        return str(error)
    raise AssertionError(f"{getattr(call, '__name__', call)} was not refused")


def parent_of(pid: int) -> int:
    """The parent's pid (proc(5), stat)."""
    text = Path(f"/proc/{pid}/stat").read_text(encoding="ascii", errors="replace")
    return int(text.rpartition(")")[2].split()[1])


def alive(pid: int) -> bool:
    """Whether a process is there and no zombie."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="ascii", errors="replace")
    except OSError:
        return False
    return text.rpartition(")")[2].split()[0] not in ("Z", "X")


def in_network(netns: Path, *command: str) -> str:
    """Run a program of the host in a network namespace."""
    done = subprocess.run(
        ["nsenter", f"--net={netns}", *command], check=True, capture_output=True, text=True, timeout=SECONDS
    )
    return done.stdout
