"""The engines that are compared, each started with everything of its own: data, socket, and three namespaces.

Each lives in a network namespace (its bridges, NAT rules and forwarding settings are there and vanish with it), a mount
namespace and a pid namespace. Both are treated alike, and two things become exact: memory is that of one process tree,
shims and zygotes included, and a bench that is killed leaves no process, no mount and no rule behind.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import ClassVar

import busybox_image
from unix_http import Connection, wait_ready

IMAGE = "busybox:latest"
IDLE = ("sleep", "10000")
BIN = Path(sys.executable).parent
_NAMESPACES = ["unshare", "--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"]


class Missing(Exception):
    """The engine is not installed here; the message says what is wanted."""


class Engine:
    """A running engine. Subclasses say which command starts it."""

    kind: ClassVar[str]

    def __init__(self, name: str) -> None:
        self.name = name
        self.root = Path(tempfile.mkdtemp(prefix=f"bench-{self.kind}."))
        self.socket = self.root / "api.sock"
        self.url = f"unix://{self.socket}"
        self.cgroup = f"pyd-bench-{os.getpid()}-{name.replace('#', '-')}"
        self._outer: subprocess.Popen[bytes] | None = None
        self._api: Connection | None = None

    def command(self) -> list[str]:
        """What starts the engine in the foreground. Raises Missing."""
        raise Missing(f"{self.kind} has no command")

    def client(self, *words: str) -> list[str]:
        """The engine's own command line for *words*."""
        return [docker_program(), "-H", self.url, *words]

    @property
    def api(self) -> Connection:
        """One connection that is kept; not for several threads."""
        if self._api is None:
            self._api = Connection(self.socket, timeout=300)
        return self._api

    def start(self) -> Engine:
        """Start, wait until ready, load the image. Raises Missing, or RuntimeError with the end of the log."""
        init = [sys.executable, "-S", str(Path(__file__).with_name("namespace_init.py"))]
        environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
        try:
            with (self.root / "log").open("wb") as log:
                outer = self._outer = subprocess.Popen(
                    [*_NAMESPACES, *init, *self.command()],
                    stdin=subprocess.PIPE,
                    stdout=log,
                    stderr=log,
                    env=environment,
                    start_new_session=True,
                )
            if not wait_ready(self.socket, lambda: outer.poll() is not None, seconds=60):
                raise RuntimeError(f"{self.name} did not get ready:\n{(self.root / 'log').read_text()[-3000:]}")
            archive = busybox_image.docker_archive(IMAGE)
            self.api.call("POST", "/images/load?quiet=1", archive, {"Content-Type": "application/x-tar"})
        except BaseException:
            self.stop()
            raise
        return self

    def stop(self) -> None:
        """Remove containers, SIGTERM, and remove all traces."""
        outer, self._outer = self._outer, None
        if outer is not None and outer.poll() is None:
            with suppress(Exception):  # best effort: the namespaces end whatever is left
                for container in self.api.json("GET", "/containers/json?all=1"):
                    self.api.call("DELETE", f"/containers/{container['Id']}?force=1")
            for pid in self._children(outer.pid):
                os.kill(pid, signal.SIGTERM)
            try:
                outer.wait(20)
            except subprocess.TimeoutExpired:
                outer.kill()  # --kill-child: process 1 of the pid namespace goes too, and all with it
        if outer is not None:
            outer.wait()
            assert outer.stdin is not None
            outer.stdin.close()
        if self._api is not None:
            self._api.close()
            self._api = None
        shutil.rmtree(self.root, ignore_errors=True)
        self._remove_cgroups()

    def memory(self) -> float:
        """Proportional set size in MiB of everything the engine runs, containers' own programs left out."""
        assert self._outer is not None
        total = 0
        for pid in self._descendants():
            with suppress(OSError):
                words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
                if words[:2] == [word.encode() for word in IDLE] or b"namespace_init.py" in b" ".join(words[:3]):
                    continue
                found = re.search(r"^Pss:\s+(\d+)", Path(f"/proc/{pid}/smaps_rollup").read_text(), re.MULTILINE)
                total += int(found[1]) if found else 0
        return total / 1024

    def _descendants(self) -> Iterator[int]:
        assert self._outer is not None
        waiting = self._children(self._outer.pid)
        while waiting:
            pid = waiting.pop()
            yield pid
            waiting += self._children(pid)

    @staticmethod
    def _children(pid: int) -> list[int]:
        found = []
        with suppress(OSError):
            for task in Path(f"/proc/{pid}/task").iterdir():
                found += [int(word) for word in (task / "children").read_text().split()]
        return found

    def _remove_cgroups(self) -> None:
        for top in [Path("/sys/fs/cgroup"), *Path("/sys/fs/cgroup").glob("*/")]:
            for folder, _, _ in os.walk(top / self.cgroup, topdown=False):
                with suppress(OSError):
                    os.rmdir(folder)


class Dockerd(Engine):
    """The installed dockerd, with a containerd of its own. *flags* are further ones of its command line."""

    kind = "dockerd"

    def __init__(self, name: str, flags: Sequence[str] = ()) -> None:
        super().__init__(name)
        self._flags = flags

    def command(self) -> list[str]:
        """dockerd on private roots."""
        for program in ("dockerd", "containerd", "iptables"):
            if shutil.which(program) is None:
                raise Missing(f"{program} is not installed (Debian: docker.io, iptables)")
        command = [
            "dockerd",
            "--host",
            self.url,
            "--data-root",
            f"{self.root}/data",
            "--exec-root",
            f"{self.root}/exec",
        ]
        command += ["--pidfile", f"{self.root}/pid", "--cgroup-parent", f"/{self.cgroup}", "--log-level", "error"]
        return [*command, *self._flags]


class Pydd(Engine):
    """This repository's daemon, installed in the environment that runs the bench."""

    kind = "pydd"

    def command(self) -> list[str]:
        """pydd on private roots."""
        if not (BIN / "pydd").exists():
            raise Missing(f"no pydd in {BIN} (make run installs it)")
        config = self.root / "pyd.toml"
        config.write_text(f'data-root = "{self.root}/data"\nrun-root = "{self.root}/run"\nhosts = ["{self.url}"]\n')
        return [str(BIN / "pydd"), "--config", str(config)]

    def client(self, *words: str) -> list[str]:
        """pyd, as installed."""
        return [str(BIN / "pyd"), "--host", self.url, *words]


ENGINES: dict[str, type[Engine]] = {"pydd": Pydd, "dockerd": Dockerd}


def docker_program() -> str:
    """The docker client: version 28 where there is one on PATH, else the first. Raises Missing."""
    programs = [program for folder in os.get_exec_path() if (program := shutil.which("docker", path=folder))]
    for program in programs:
        said = subprocess.run([program, "--version"], capture_output=True, text=True, timeout=20, check=False).stdout
        if re.search(r"version 28\.", said):
            return program
    if not programs:
        raise Missing("no docker client is installed (Debian: docker.io)")
    return programs[0]
