"""The zygote: one warm, single-threaded process that is forked for each container.

Started by `pyd_shim.launch` from a sealed copy of the interpreter, without site, with what a shim needs imported once.
A shim is one fork away: no interpreter start, no import, memory shared. It ends when the daemon closes its socket;
shims live on.
"""

from __future__ import annotations

import gc
import importlib
import os
import select
import signal
import socket
import sys
from typing import Any, NoReturn

from pyd_shim import kernel, message, supervisor

__all__ = ["Zygote", "main"]

_QUIET_SECONDS = 0.02
"""How long nothing is asked before the next spare is made."""
_POOL, _POOL_HEADER = 1 << 14, 48
"""Bytes of a pool of pymalloc and of its header (CPython's Objects/obmalloc.c). Where they are others, memory is all that
is lost."""
_MOST_FILLERS = 2000


def main(control: int, launchers: list[str]) -> NoReturn:
    """Serve spawn requests on the SOCK_SEQPACKET descriptor *control* until its other end is closed."""
    # Before anything else: nobody may look into this process or its forks through /proc (CVE-2016-9962, CVE-2019-5736).
    kernel.prctl(kernel.PR_SET_DUMPABLE, 0)
    kernel.set_process_name(b"pyd-zygote")
    os.umask(0o022)
    connection = socket.socket(fileno=control)
    message.make_roomy(connection)
    for name in launchers:
        importlib.import_module(name)
    # Children reap themselves: their parent has no interest in them.
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    for number in (signal.SIGINT, signal.SIGHUP, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)  # the daemon's terminal and its service manager mean the daemon
    gc.collect()
    gc.disable()
    gc.freeze()
    filler = _filled_pools()
    message.send(connection, {"ready": os.getpid()})
    Zygote(connection, launchers[0], filler).serve()


def _filled_pools() -> list[bytes]:
    """Objects that take the free places among those of this process, one size class of pymalloc after the other.

    What a fork makes would go there, and copy a page for each; now it goes to fresh pages, side by side: a tenth less
    memory per container.
    """
    filler = []
    header = sys.getsizeof(b"")
    for size in range(48, 513, 16):
        for _ in range(_MOST_FILLERS):
            block = bytes(size - header)
            if id(block) % _POOL == _POOL_HEADER:
                break  # the first of a new pool: there was no place left in the older ones
            filler.append(block)
    return filler


class Zygote:
    """Forks shims, one ahead of the need: a spare has its pages copied and its launcher warm when a request comes."""

    def __init__(self, control: socket.socket, launcher: str, filler: list[bytes]) -> None:
        self._filler = filler
        self._control = control
        self._launcher = launcher
        self._spare: socket.socket | None = None
        self._spare_pid = 0

    def serve(self) -> NoReturn:
        """Until the daemon closes its end."""
        while True:
            if self._spare is None and not self._asked():
                self._spare, self._spare_pid = self._fork(self._launcher)
            request, fds = message.receive(self._control)
            if request is None:
                self._end()
            spare = self._spare if request["launcher"] == self._launcher else None
            if spare is not None:
                self._spare = None
            if not (spare is not None and self._hand_over(spare, request, fds)):
                fresh, _ = self._fork(request["launcher"])
                self._hand_over(fresh, request, fds)
            for fd in fds:
                os.close(fd)

    def _end(self) -> NoReturn:
        """The daemon is gone: end, and see the spare out, which would be the host's init's to reap otherwise."""
        if self._spare is not None:
            self._spare.close()
            try:
                os.waitpid(self._spare_pid, 0)
            except ChildProcessError:
                pass  # ended, and nobody was told: that is what ignoring SIGCHLD means
        os._exit(0)

    def _asked(self) -> bool:
        """A request waits, or comes soon: it goes before making spares, and so does the container that was just begun."""
        return bool(select.select([self._control], [], [], _QUIET_SECONDS)[0])

    @staticmethod
    def _hand_over(spare: socket.socket, request: dict[str, Any], fds: list[int]) -> bool:
        """Make a spare the shim of a container; False when it was killed meanwhile."""
        try:
            message.send(spare, request, tuple(fds))
        except OSError:
            return False
        finally:
            spare.close()
        return True

    def _fork(self, launcher: str) -> tuple[socket.socket, int]:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_CLOEXEC)
        pid = os.fork()
        if pid == 0:
            ours.close()
            self._control.close()
            if self._spare is not None:
                self._spare.close()
            _become_shim(theirs, launcher)
        theirs.close()
        return ours, pid


def _become_shim(orders: socket.socket, launcher: str) -> NoReturn:
    request: dict[str, str] | None = {}
    try:
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        os.setsid()
        warmth = importlib.import_module(launcher).warm()
        request, fds = message.receive(orders)
        if request is None:  # the zygote ended; this spare was never needed
            del warmth
            _see_out()
            os._exit(0)
        orders.close()
        supervisor.run(socket.socket(fileno=fds[0]), request, warmth)
    except BaseException as error:  # noqa: BLE001 - the last chance to say something before the process ends
        name = (request or {}).get("container", "spare")[:12]
        sys.stderr.write(f"pyd-shim {name}: {type(error).__name__}: {error}\n")
        sys.stderr.flush()
    finally:
        os._exit(1)


def _see_out() -> None:
    """Wait for the processes that a launcher's `warm` began: they end when what it returned is gone."""
    while True:
        try:
            os.wait()
        except ChildProcessError:
            return
