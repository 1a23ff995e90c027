"""Process 1 of an engine under measurement: ``namespace_init.py COMMAND...`` in new pid, mount and net namespaces.

Being process 1 it inherits every daemonised helper of the engine, reaps it, and takes all of them along at its end: so
the engine's memory is that of this process's descendants. Where its standard input is a pipe, which the bench's is, it
ends with that: so nothing of the engine can outlive the bench, however that ends.
"""

from __future__ import annotations

import fcntl
import os
import signal
import socket
import stat
import struct
import sys
import threading

SIOCSIFFLAGS, IFF_UP = 0x8914, 1  # netdevice(7)


def _end_with_the_bench() -> None:
    while os.read(0, 1):
        pass
    os._exit(1)  # process 1: the kernel ends all others of the namespace


def main(command: list[str]) -> int:
    """Run *command*, hand SIGTERM on to it, reap everything; its exit status."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        fcntl.ioctl(any_socket, SIOCSIFFLAGS, struct.pack("16sH14x", b"lo", IFF_UP))
    nothing = (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0)
    engine = os.posix_spawnp(command[0], command, os.environ, file_actions=[nothing])
    if stat.S_ISFIFO(os.fstat(0).st_mode):
        threading.Thread(target=_end_with_the_bench, daemon=True).start()
    signal.signal(signal.SIGTERM, lambda *_: os.kill(engine, signal.SIGTERM))
    while True:
        pid, status = os.wait()
        if pid == engine:
            return abs(os.waitstatus_to_exitcode(status))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
