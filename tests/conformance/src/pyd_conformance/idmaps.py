"""Id-mapped mounts, as an engine with user namespaces makes them of what a driver describes (mount_setattr(2)).

A bind mount's source is cloned and mapped itself, and so is a mount of a device. overlayfs cannot be: its lower layers are
(Linux 5.19), while the upper one holds ids as the container has them on the host, for overlayfs works there as who mounted it.
Before Linux 6.15 a layer must be a mount that stands somewhere, in the mount namespace of who makes the overlay.
"""

from __future__ import annotations

import os
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path

from pyd_conformance.mounting import attach, clone, enter, mounted, private_namespace, set_attributes, unmount
from pyd_contracts.values import Mount

__all__ = ["id_mapped"]

_MOUNT_ATTR_IDMAP = 0x00100000


@contextmanager
def id_mapped(mounts: Sequence[Mount], shift: int) -> Iterator[Path]:
    """The one mount of *mounts* with ids 0 to 65535 shown as *shift* and up. OSError when the kernel refuses."""
    (mount,) = mounts
    with ExitStack() as held:
        space = _user_namespace(shift)
        held.callback(os.close, space)
        if mount.type == "overlay":
            fd = _elsewhere(lambda: _overlay(mount, space))
        elif mount.type == "bind":
            fd = _mapped(mount.source, space)
        else:  # itself, as nobody has seen it yet: before Linux 6.15 a mount that stands nowhere cannot be cloned
            fd = os.open(held.enter_context(mounted(mounts)), os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
            set_attributes(fd, _MOUNT_ATTR_IDMAP, userns=space)
        held.callback(os.close, fd)
        yield Path(f"/proc/{os.getpid()}/fd/{fd}")


def _mapped(path: str, space: int) -> int:
    fd = clone(path)
    try:
        set_attributes(fd, _MOUNT_ATTR_IDMAP, userns=space)
    except OSError:
        os.close(fd)
        raise
    return fd


def _overlay(mount: Mount, space: int) -> int:
    """A descriptor of an overlay whose lower layers are id-mapped. Its place is a mount namespace of ours."""
    with ExitStack() as held:
        place = Path(tempfile.mkdtemp(prefix="pyd-kit-"))
        held.callback(place.rmdir)

        def layer(path: str) -> str:
            fd = _mapped(path, space)
            held.callback(os.close, fd)
            attach(fd, place)
            held.callback(unmount, place)
            return f"/proc/self/fd/{fd}"

        options = []
        for option in mount.options:
            key, _, value = option.partition("=")
            assert key != "lowerdir", "a list of layers in one value cannot be id-mapped"
            options.append(f"{key}={layer(value)}" if key == "lowerdir+" else option)
        with mounted((Mount("overlay", mount.source, tuple(options)),)) as top:
            return os.open(top, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)


def _elsewhere(make: Callable[[], int]) -> int:
    """Call *make* in a thread that has a mount namespace of its own: nothing of it stays or shows."""

    def apart() -> int:
        before = os.open("/proc/thread-self/ns/mnt", os.O_RDONLY | os.O_CLOEXEC)
        try:
            private_namespace()
            try:
                return make()
            finally:
                enter(before)  # the other one ends here, and not some time after the thread
        finally:
            os.close(before)

    with ThreadPoolExecutor(1) as other:
        return other.submit(apart).result()


def _user_namespace(shift: int) -> int:
    """A descriptor of a new user namespace that maps 0..65535 to *shift* and up."""
    command = ["unshare", "--user", "sh", "-c", "echo made; read end"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        if holder.stdout.readline() != b"made\n":
            raise OSError("a user namespace cannot be made here")
        for name in ("uid_map", "gid_map"):
            Path(f"/proc/{holder.pid}/{name}").write_text(f"0 {shift} 65536\n", encoding="ascii")
        return os.open(f"/proc/{holder.pid}/ns/user", os.O_RDONLY | os.O_CLOEXEC)
