"""pydd with roots of its own, as an operator would start it: from a configuration file, stopped by SIGTERM."""

from __future__ import annotations

import hashlib
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import host_state
from unix_http import Connection, wait_ready

BIN = Path(sys.executable).parent
# crun takes no host with controllers on a cgroup v2 hierarchy beside v1 ones; the driver leaves it out there.
_UNIFIED = Path("/sys/fs/cgroup/unified/cgroup.controllers")
_WITHOUT_CRUN = _UNIFIED.exists() and _UNIFIED.read_text().strip() != ""
OCI = [name for name in ("runc", "crun") if shutil.which(name) and not (name == "crun" and _WITHOUT_CRUN)]
"""The OCI runtimes that a daemon finds here."""

PATIENCE = 300 if os.environ.get("PYD_VM") == "qemu" else 30
"""Seconds that a daemon may take to start or end: an emulated processor is 10 to 30 times slower."""


def instance_of(data_root: Path) -> str:
    """The 8 hex digits in the names of a daemon's kernel objects."""
    return hashlib.sha256(os.fsencode(os.path.realpath(data_root))).hexdigest()[:8]


@contextmanager
def subordinate_ids(folder: Path, text: str) -> Iterator[None]:
    """Files of our own in *folder* with *text* are mounted over /etc/subuid and /etc/subgid, as long as the context lasts."""
    mounted = []
    try:
        for name in ("subuid", "subgid"):
            (folder / name).write_text(text)
            Path(f"/etc/{name}").touch()
            subprocess.run(["mount", "--bind", folder / name, f"/etc/{name}"], check=True)
            mounted.append(f"/etc/{name}")
        yield
    finally:
        for path in mounted:
            subprocess.run(["umount", path], check=True)


class Daemon:
    """One daemon on *root*: data, run directory, socket, configuration and log are inside.

    *data* is its data root if that is elsewhere. *more* is TOML that is added to the configuration (tables included).
    After `stop` or `kill` it may be started again.
    """

    def __init__(self, root: Path, more: str = "", data: Path | None = None) -> None:
        self.root = root
        self.data, self.run, self.socket = data or root / "data", root / "run", root / "pyd.sock"
        self.config, self.log = root / "pyd.toml", root / "pydd.log"
        self.url = f"unix://{self.socket}"
        self.process: subprocess.Popen[bytes] | None = None
        head = f'data-root = "{self.data}"\nrun-root = "{self.run}"\nhosts = ["{self.url}"]\n'
        self.config.write_text(head + more)

    def start(self, *flags: str) -> Daemon:
        """Start and wait until it answers."""
        environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
        with self.log.open("ab") as log:
            process = self.process = subprocess.Popen(
                [BIN / "pydd", "--config", self.config, *flags],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=environment,
                start_new_session=True,
            )
        if not wait_ready(self.socket, lambda: process.poll() is not None, PATIENCE):
            status = process.poll()
            self.kill()
            how = f"was not ready within {PATIENCE} s" if status is None else f"ended with status {status}"
            raise AssertionError(f"pydd {how}:\n{self.tail()}")
        return self

    def api(self) -> Connection:
        """A new connection to it; the caller closes it."""
        return Connection(self.socket, timeout=2 * PATIENCE)

    def kill(self) -> None:
        """SIGKILL to the daemon alone, as the kernel might; containers are meant to run on."""
        assert self.process is not None
        self.process.kill()
        self.process.wait()
        self.process = None

    def ended(self) -> bool:
        """Whether it was started and is dead."""
        return self.process is not None and self.process.poll() is not None

    def stop(self) -> None:
        """SIGTERM; it must end by itself, with status 0."""
        assert self.process is not None
        process, self.process = self.process, None
        process.send_signal(signal.SIGTERM)
        try:
            status = process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            raise AssertionError(f"pydd did not end within {PATIENCE} s of SIGTERM:\n{self.tail()}") from None
        assert status == 0, f"pydd ended with status {status}:\n{self.tail()}"

    def remove_containers(self) -> None:
        """By force: they would run on without the daemon."""
        api = self.api()
        try:
            for container in api.json("GET", "/containers/json?all=1"):
                api.call("DELETE", f"/containers/{container['Id']}?force=1&v=1")
        finally:
            api.close()

    def close(self) -> None:
        """Remove containers, stop, remove the root; raises AssertionError if processes are left, after ending them.

        One that a test left dead is started again: who else knows its containers?
        """
        try:
            if self.ended():
                self.start()
            if self.process is not None:
                self.remove_containers()
                self.stop()
        finally:
            left = host_state.processes_of(self.data, self.run)
            for pid in left:
                os.kill(pid, signal.SIGKILL)
            mounts = [line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines()]
            if not any(point.startswith(f"{self.root}/") for point in mounts):  # never remove through a mount
                shutil.rmtree(self.root)
        assert not left, "processes were left behind (and ended now):\n" + "\n".join(left.values())

    def tail(self, size: int = 4000) -> str:
        """The end of its log."""
        return self.log.read_text(errors="replace")[-size:] if self.log.exists() else "(no log)"
