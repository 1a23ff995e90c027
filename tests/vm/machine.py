"""Run one command as root in a throw-away virtual machine that sees this host's files.

Guest and host share one directory: the command goes in by it, output and status come out. A guard process holds a pipe
from this one: however this one ends, the guard ends the machine (whose helpers would outlive it) and removes its files.
"""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from io import FileIO
from pathlib import Path
from typing import BinaryIO

import guest
import kernels
from busybox_image import static_busybox

TIMED_OUT, BROKEN = 124, 125
_DISKS = (0, 1, 2)  # two blank ones for tests, and one for $TMPDIR
_PASSED_ON = ("PATH", "HOME", "LANG", "TERM", "CI", "VIRTUAL_ENV", "TZ")
_DOING = "doing"  # in the shared directory
_GUARD = 'read group; read end; [ -z "$group" ] || kill -9 "-$group"; rm -rf "$1"'  # "-N": a whole process group
_QUIET = (
    "console=ttyS0 panic=-1 quiet mitigations=off nopti nokaslr audit=0 apparmor=0 init_on_alloc=0 tsc=reliable"
    " no_timer_check cryptomgr.notests nowatchdog random.trust_cpu=on rcupdate.rcu_expedited=1 8250.nr_uarts=1"
    " raid=noautodetect swapaccount=1"
)


def needed(engine: str) -> tuple[Path, Path]:
    """The kernel, fetched if need be, and the static busybox a machine of *engine* starts from. Raises kernels.Unavailable."""
    busybox = static_busybox()
    if busybox is None:
        raise kernels.Unavailable("the guest starts from a static busybox (Debian: busybox-static); there is none")
    for program in ("modprobe", *(["qemu-system-x86_64"] if engine == "qemu" else [])):
        if shutil.which(program) is None:
            raise kernels.Unavailable(f"{program} is not installed (Debian: kmod, qemu-system-x86)")
    return kernels.ensure(engine), busybox


@dataclass(frozen=True, slots=True)
class Machine:
    """What kind of machine. *memory* in MiB; *disk* in GiB, for each of two blank disks ($VM_DISK0, $VM_DISK1)."""

    engine: str = "uml"
    memory: int = 2048
    cpus: int = 1
    disk: int = 4
    timeout: float = 600
    environment: Mapping[str, str] = field(default_factory=dict)
    verbose: bool = False

    def run(self, command: Sequence[str], out: BinaryIO | None = None, err: BinaryIO | None = None) -> int:
        """Run *command* in the current directory and return its exit status.

        Its output is copied to *out* and *err* (default: this process's) as it comes. 124: the time was up, *err* says so,
        and what the command had written to the file $PYD_VM_DOING last; 125: the machine failed, its console is written
        to *err*. Raises kernels.Unavailable.
        """
        out, err = out or sys.stdout.buffer, err or sys.stderr.buffer
        kernel, busybox = needed(self.engine)
        job = Path(tempfile.mkdtemp(prefix="pyd-vm."))
        guard = subprocess.Popen(
            ["/bin/sh", "-c", _GUARD, "sh", str(job)],
            stdin=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        assert guard.stdin is not None
        try:
            shared = self._prepare(job, kernel, busybox, command)
            with (job / "console").open("w+b") as console:
                begun = time.monotonic()
                process = subprocess.Popen(
                    self._command(job, kernel),
                    stdin=subprocess.DEVNULL,
                    stdout=console,
                    stderr=console,
                    start_new_session=True,
                )
                guard.stdin.write(b"%d\n" % process.pid)
                guard.stdin.flush()
                status = self._follow(process, shared, out, err)
                if status == BROKEN or self.verbose:
                    console.seek(0)
                    err.write(console.read()[-6000:])
                    err.write(b"vm: %s, %.1f s in all\n" % (self.engine.encode(), time.monotonic() - begun))
                    err.flush()
        finally:
            guard.stdin.close()
            guard.wait()
        process.wait()
        return status

    def _prepare(self, job: Path, kernel: Path, busybox: Path, command: Sequence[str]) -> Path:
        shared = job / "shared"
        shared.mkdir()
        environment = {name: value for name, value in os.environ.items() if name in _PASSED_ON}
        disks = [f"/dev/{'vd' if self.engine == 'qemu' else 'ubd'}{letter}" for letter in "abc"]
        environment.update(PYD_VM=self.engine, VM_DISK0=disks[0], VM_DISK1=disks[1], TMPDIR="/vmtmp")
        environment.update(PYD_VM_DOING=f"/vmshare/{_DOING}")
        environment.update(PYTHONDONTWRITEBYTECODE="1", DM_DISABLE_UDEV="1", **self.environment)
        script = "".join(f"export {name}={shlex.quote(value)}\n" for name, value in environment.items())
        script += f"cd {shlex.quote(os.getcwd())}\nexec {shlex.join(command)}\n"
        (shared / "command").write_text(script)
        (shared / "second").write_text(guest.SECOND)
        (job / "initrd").write_bytes(guest.initial_ram_disk(guest.Conf(self.engine, kernel, shared, disks[2]), busybox))
        for number in _DISKS:
            with (job / f"disk{number}").open("wb") as disk:
                disk.truncate(self.disk << 30)
        # $TMPDIR: old kernels' tmpfs has no user.* attributes, which layers may have. Without mkfs it is a tmpfs all the same.
        if mkfs := shutil.which("mkfs.ext4"):
            subprocess.run([mkfs, "-q", "-F", f"{job}/disk2"], check=True, stdin=subprocess.DEVNULL)
        return shared

    def _command(self, job: Path, kernel: Path) -> list[str]:
        if self.engine == "uml":
            return [
                f"{kernel}/kernel",
                f"mem={self.memory}M",
                f"initrd={job}/initrd",
                f"ubd0={job}/disk0",
                f"ubd1={job}/disk1",
                f"ubd2={job}/disk2",
                *("con=null", "con0=null,fd:1", "console=tty0", "root=/dev/ram0"),
                f"uml_dir={job}/",
                *("quiet", "panic=-1"),
            ]
        command = ["qemu-system-x86_64", "-M", "pc,usb=off,vmport=off", "-accel", "tcg,thread=multi,tb-size=512"]
        command += ["-cpu", "max", "-smp", str(self.cpus), "-m", str(self.memory), "-nodefaults", "-display", "none"]
        command += ["-no-reboot", "-serial", "stdio", "-kernel", f"{kernel}/kernel", "-initrd", f"{job}/initrd"]
        command += ["-append", _QUIET]
        for number, (tag, path, read_only) in enumerate((("root", "/", "on"), ("job", f"{job}/shared", "off"))):
            share = f"local,id=f{number},path={path},security_model=none,readonly={read_only},multidevs=remap"
            command += ["-fsdev", share, "-device", f"virtio-9p-pci,fsdev=f{number},mount_tag={tag}"]
        for number in _DISKS:
            command += ["-drive", f"file={job}/disk{number},format=raw,if=virtio,cache=unsafe"]
        return command

    def _follow(self, process: subprocess.Popen[bytes], shared: Path, out: BinaryIO, err: BinaryIO) -> int:
        """Copy output until the status is there or the machine has ended."""
        deadline = time.monotonic() + self.timeout
        status = shared / "status"
        with ExitStack() as stack:
            streams: dict[str, FileIO] = {}
            while True:
                # Looked at first: what was written before is read below. WNOWAIT: unreaped, its pid stays the guard's.
                gone = os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
                ended = gone is not None or status.exists()
                for name, target in (("out", out), ("err", err)):
                    if name not in streams and (shared / name).exists():
                        streams[name] = stack.enter_context(FileIO(shared / name))
                    while name in streams and (chunk := streams[name].read(65536)):
                        target.write(chunk)
                        target.flush()
                if ended:
                    return int(status.read_text()) if status.exists() else BROKEN
                if time.monotonic() > deadline:
                    err.write(b"vm: timed out after %d s%s\n" % (self.timeout, _doing(shared)))
                    err.flush()
                    return TIMED_OUT
                time.sleep(0.02)


def _doing(shared: Path) -> bytes:
    """What the command said last that it was doing, as the end of a sentence."""
    try:
        return b", in " + (shared / _DOING).read_bytes().strip()
    except FileNotFoundError:
        return b""
