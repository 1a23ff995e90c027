"""File systems in user space (fuse(4)): their process outside, their mount inside.

A mount of the type ``fuse.PROGRAM``, as fstab(5) writes it, needs a process that answers for it. It has to run outside of the
mount namespace that has the mount: inside, it would keep the namespace, and with it itself, for ever. Outside it ends by
itself when the last mount of its file system goes, whatever killed those who used it: read(2) of its descriptor says ENODEV.
So whoever performs mounts makes this one detached, starts the process, and takes the mount along by descriptor. Nobody has
to end the process, and nothing has to be remembered.

Imported by shims and workers: nothing but what they have imported anyway.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterable
from typing import NoReturn

from pyd_shim import kernel as k

__all__ = ["TYPE", "mount"]

TYPE = "fuse."
"""What the type of such a mount begins with; the program's name follows."""
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_ATTRIBUTES = {
    "ro": k.MOUNT_ATTR_RDONLY, "nosuid": k.MOUNT_ATTR_NOSUID, "nodev": k.MOUNT_ATTR_NODEV, "noexec": k.MOUNT_ATTR_NOEXEC,
    "rw": 0, "suid": 0, "dev": 0, "exec": 0,
}  # fmt: skip


def mount(kind: str, source: str, options: Iterable[str], outside: int | None = None) -> int:
    """A detached mount (fsmount(2)) of the type *kind*, whose process is there and answers; the caller moves and closes it.

    The program gets all *options* that are not the kernel's own. *outside* is a descriptor of the mount namespace to start it
    in, should that not be the caller's. OSError when there is no such program, no fuse in this kernel, or no answer: then with
    what the program wrote to its standard error.
    """
    name = kind.removeprefix(TYPE)
    program = next((path for folder in _PATH.split(":") if os.access(path := f"{folder}/{name}", os.X_OK)), None)
    if program is None:
        raise FileNotFoundError(2, f"there is no program {name} in {_PATH}", name)
    given = list(options)
    words = ",".join(_escaped(each) for each in given if each not in _ATTRIBUTES)
    said = os.memfd_create("fuse-said", os.MFD_CLOEXEC)
    try:
        device = os.open("/dev/fuse", os.O_RDWR | os.O_CLOEXEC)
        try:
            made = _detached(name, source, device, sum(_ATTRIBUTES.get(each, 0) for each in set(given)))
            try:
                # libfuse takes a descriptor for one that is mounted when the mount point is called /dev/fd/N (mount.fuse3(8))
                arguments = [name, "-f", *(["-o", words] if words else []), f"/dev/fd/{device}"]
                _start(program, arguments, device, said, outside)
            except BaseException:
                os.close(made)
                raise
        finally:
            os.close(device)  # a process that has ended would be waited for, not noticed, as long as somebody has it
        try:
            os.stat(".", dir_fd=made)
        except OSError as error:
            os.close(made)
            text = os.pread(said, 2000, 0).decode(errors="replace").strip().replace("\n", "; ")
            raise OSError(error.errno, f"{name} ended: {text or 'without a word'}", source) from error
    finally:
        os.close(said)
    return made


def _detached(name: str, source: str, device: int, attributes: int) -> int:
    context = k.fsopen("fuse")
    try:
        for key, value in (
            ("source", source), ("subtype", name), ("fd", str(device)), ("rootmode", "40000"), ("user_id", "0"),
            ("group_id", "0"),
        ):  # fmt: skip
            k.fsconfig_string(context, key, value)
        for flag in ("allow_other", "default_permissions"):
            k.fsconfig_flag(context, flag)
        k.fsconfig_create(context)
        return k.fsmount(context, attributes)
    finally:
        os.close(context)


def _escaped(option: str) -> str:
    """An item of libfuse's ``-o``, where a backslash goes before what is meant as it stands."""
    return option.replace("\\", "\\\\").replace(",", "\\,")


def _start(program: str, arguments: list[str], device: int, said: int, outside: int | None) -> None:
    """Run a program as nobody's child: the child in between ends at once, and with it what would have to be waited for."""
    between = os.fork()
    if between == 0:
        if os.fork() == 0:
            _become(program, arguments, device, said, outside)
        os._exit(0)
    os.waitpid(between, 0)


def _become(program: str, arguments: list[str], device: int, said: int, outside: int | None) -> NoReturn:
    try:
        if outside is not None:
            k.setns(outside, k.CLONE_NEWNS)
        os.setsid()
        signal.pthread_sigmask(signal.SIG_SETMASK, ())
        null = os.open("/dev/null", os.O_RDWR)
        for number, fd in enumerate((null, null, said)):
            os.dup2(fd, number)
        os.set_inheritable(device, True)
        if device > 3:
            k.close_range(3, device - 1)
        k.close_range(device + 1)
        os.execve(program, arguments, {"PATH": _PATH, "LC_ALL": "C"})  # noqa: S606  # no shell is wanted
    except OSError as error:
        os.write(said, f"{program}: {error.strerror}".encode())
    finally:
        os._exit(127)
