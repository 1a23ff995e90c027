"""The daemon's side of the zygote: start it from a sealed interpreter, ask it for shims, start it again when it died."""

from __future__ import annotations

import fcntl
import logging
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Sequence
from pathlib import Path

from pyd_contracts.errors import DriverFault, Unavailable, from_oserror
from pyd_shim import kernel, message
from pyd_shim.client import ShimClient

__all__ = ["Zygote"]

_START_SECONDS = 20.0
_SEALS = fcntl.F_SEAL_SEAL | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE


class Zygote:
    """One zygote process and the spawning of shims. Thread-safe.

    *launchers* are the modules (`pyd_shim.supervisor` says what they provide) to have imported before the first fork;
    *run* is a private directory for the mount that seals the interpreter.
    """

    def __init__(self, launchers: Sequence[str], run: Path, log: logging.Logger) -> None:
        self._launchers = list(launchers)
        self._run = run
        self._log = log
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._control: socket.socket | None = None

    @property
    def pid(self) -> int | None:
        """The running zygote's pid; None when there is none."""
        return self._process.pid if self._process is not None and self._process.poll() is None else None

    def start(self) -> None:
        """Start the zygote unless it runs. Raises Unavailable when it does not come up."""
        with self._lock:
            self._ensure()

    def spawn(self, container: str, bundle: Path, state: Path, launcher: str) -> ShimClient:
        """Fork a shim for *container*; the answer is a connection to it, on which ``create`` is to be asked first."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_CLOEXEC)
        try:
            message.make_roomy(ours)
            request = {"container": container, "bundle": str(bundle), "state": str(state), "launcher": launcher}
            with self._lock:
                for attempt in (1, 2):
                    control = self._ensure()
                    try:
                        message.send(control, request, (theirs.fileno(),))
                        break
                    except OSError as error:
                        self._drop()
                        if attempt == 2:
                            raise Unavailable(f"ask the zygote for a shim: {error.strerror}") from error
                        self._log.warning("the zygote was gone; starting another")
        except BaseException:
            ours.close()
            raise
        finally:
            theirs.close()
        return ShimClient(ours, container)

    def close(self) -> None:
        """Let the zygote end; shims live on. Twice is once."""
        with self._lock:
            self._drop()

    def _drop(self) -> None:
        if self._control is not None:
            self._control.close()
            self._control = None
        if self._process is not None:
            try:
                self._process.wait(5)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
            self._process = None

    def _ensure(self) -> socket.socket:
        if self._control is not None and self._process is not None and self._process.poll() is None:
            return self._control
        self._drop()
        import_path = _import_path(self._launchers)
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_CLOEXEC)
        executable = _real_executable()
        sealed, how = seal_executable(executable, self._run)
        if how == "none":
            self._log.warning("the interpreter could not be sealed; containers' root could reach it (CVE-2019-5736)")
        # No site, no user's environment, no current directory on the path: only what stands here is imported.
        code = (
            "import sys, os; "
            f"sys.path[:0] = {import_path!r}; "
            f"{f'os.close({sealed}); ' if sealed >= 0 else ''}"
            f"from pyd_shim.zygote import main; main({theirs.fileno()}, {self._launchers!r})"
        )
        try:
            process = subprocess.Popen(
                [executable, "-I", "-S", "-B", "-X", "utf8", "-c", code],
                executable=f"/proc/self/fd/{sealed}" if sealed >= 0 else executable,
                pass_fds=(theirs.fileno(), *((sealed,) if sealed >= 0 else ())),
                start_new_session=True,
                stdin=subprocess.DEVNULL,
                env={"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"},
                cwd="/",
            )
        except OSError as error:
            ours.close()
            raise from_oserror(error, f"start the zygote ({executable})") from error
        finally:
            theirs.close()
            if sealed >= 0:
                os.close(sealed)
        ours.settimeout(_START_SECONDS)
        try:
            answer, _ = message.receive(ours)
        except OSError as error:
            process.kill()
            process.wait()
            ours.close()
            raise Unavailable(f"the zygote did not start within {_START_SECONDS:.0f} s") from error
        if answer is None:
            ours.close()
            raise DriverFault(
                f"the zygote ended at once with status {process.wait()}; its message is in the daemon's log"
            )
        ours.settimeout(None)
        message.make_roomy(ours)
        self._process, self._control = process, ours
        return ours


def _real_executable() -> str:
    """The interpreter itself, not a virtual environment's link to it: it finds its library by its own place."""
    return os.path.realpath(getattr(sys, "_base_executable", None) or sys.executable)


def _import_path(launchers: Sequence[str]) -> list[str]:
    """The directories that hold the top-level packages of *launchers* and of this library."""
    import importlib.util

    directories = []
    for package in dict.fromkeys(["pyd_shim", *(name.partition(".")[0] for name in launchers)]):
        spec = importlib.util.find_spec(package)
        if spec is None or not spec.submodule_search_locations:
            raise DriverFault(f"the package {package} of a launcher cannot be found")
        directories.append(os.path.dirname(next(iter(spec.submodule_search_locations))))
    return list(dict.fromkeys(directories))


def seal_executable(executable: str, run: Path) -> tuple[int, str]:
    """A descriptor of *executable* that can never be written through, and how: overlay, memfd or none.

    A container that gets hold of ``/proc/PID/exe`` could otherwise write the interpreter of the whole host once it is no
    longer running (CVE-2019-5736). First choice is a detached read-only overlay mount, which costs no copy; a sealed
    memfd (memfd_create(2), fcntl(2) F_ADD_SEALS) is the second.
    """
    try:
        return _seal_by_overlay(executable, run), "overlay"
    except OSError:
        pass  # no overlayfs over this file system, or no CAP_SYS_ADMIN: the copy works everywhere
    try:
        return _seal_by_memfd(executable), "memfd"
    except OSError:
        return -1, "none"


def _seal_by_overlay(executable: str, run: Path) -> int:
    directory, name = os.path.split(executable)
    empty = run / "empty"
    empty.mkdir(mode=0o700, exist_ok=True)
    try:
        mounted = _overlay_of(("lowerdir+", directory), ("lowerdir+", str(empty)))
    except OSError:  # before Linux 6.5; some of those take the option and refuse the mount
        mounted = _overlay_of(("lowerdir", ":".join(each.replace(":", "\\:") for each in (directory, str(empty)))))
    try:
        return os.open(name, os.O_PATH | os.O_CLOEXEC, dir_fd=mounted)
    finally:
        os.close(mounted)


def _overlay_of(*layers: tuple[str, str]) -> int:
    context = kernel.fsopen("overlay")
    try:
        for key, value in layers:
            kernel.fsconfig_string(context, key, value)
        kernel.fsconfig_flag(context, "ro")
        kernel.fsconfig_create(context)
        return kernel.fsmount(context, kernel.MOUNT_ATTR_RDONLY | kernel.MOUNT_ATTR_NODEV | kernel.MOUNT_ATTR_NOSUID)
    finally:
        os.close(context)


def _seal_by_memfd(executable: str) -> int:
    copy = os.memfd_create("pyd", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    try:
        with open(executable, "rb") as original:
            while os.sendfile(copy, original.fileno(), None, 1 << 30):
                pass
        fcntl.fcntl(copy, fcntl.F_ADD_SEALS, _SEALS)
    except OSError:
        os.close(copy)
        raise
    return copy
