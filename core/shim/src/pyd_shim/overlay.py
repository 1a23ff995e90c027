"""Overlay mounts of any number of layers with paths of any length and any characters, on every kernel.

Drivers say one ``lowerdir+`` a layer. Linux takes that from 6.5, 255 bytes each: a longer path goes by its descriptor. Before
6.5 all layers are one value and all options one page: there they are named by descriptors alone, relative to
``/proc/self/fd``, so that the 500 layers which overlayfs stacks fit. Standard library only.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Sequence
from contextlib import ExitStack

from pyd_shim import kernel

__all__ = ["mount_overlay"]

_MOST = 255  # bytes that fsconfig(2) takes of a value
_PATHS = frozenset({"lowerdir+", "upperdir", "workdir"})


def mount_overlay(
    source: str, target: bytes | str, options: Sequence[str], attributes: int, *, old: bool = False
) -> int:
    """A detached overlay with *options* (``key=value`` or ``flag``); -1 when it is at *target* already, on an older kernel.

    *attributes* are MOUNT_ATTR_*, of which older kernels take the first four; *old* takes their way. One thread only: that way
    changes the working directory for a moment.
    """
    with ExitStack() as held:
        context = kernel.fsopen("overlay")
        held.callback(os.close, context)
        kernel.fsconfig_string(context, "source", source)
        for option in options:
            key, equals, value = option.partition("=")
            if not equals:
                kernel.fsconfig_flag(context, key)
                continue
            try:
                if old and key == "lowerdir+":
                    raise OSError(errno.EINVAL, "not asked")
                kernel.fsconfig_string(context, key, _short(held, value) if key in _PATHS else value)
            except OSError as error:
                if key == "lowerdir+" and error.errno == errno.EINVAL:
                    return _older(source, target, options, attributes)
                raise
        try:
            kernel.fsconfig_create(context)
        except OSError as error:
            refused = OSError(error.errno, f"{error.strerror}{_said(context)}")
            if error.errno == errno.EINVAL and any(option.startswith("lowerdir+=") for option in options):
                # Before 6.5 overlayfs reads its options only now: fsconfig(2) collected them, unknown ones too.
                try:
                    return _older(source, target, options, attributes)
                except OSError:
                    raise refused from error
            raise refused from error
        return kernel.fsmount(context, attributes)


def _said(context: int) -> str:
    """What the kernel wrote about its refusal (fsopen(2), "message retrieval")."""
    try:
        return f" ({os.read(context, 4096).decode(errors='replace').strip()})"
    except OSError as error:
        if error.errno == errno.ENODATA:
            return ""
        raise


def _short(held: ExitStack, path: str) -> str:
    """The path itself, or where it is too long or holds what overlayfs would take for an escape, its descriptor."""
    if len(os.fsencode(path)) <= _MOST and "\\" not in path:
        return path
    return f"/proc/self/fd/{_opened(held, path)}"


def _opened(held: ExitStack, path: str) -> int:
    fd = os.open(path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    held.callback(os.close, fd)
    return fd


def _older(source: str, target: bytes | str, options: Sequence[str], attributes: int) -> int:
    with ExitStack() as held:
        data = []
        lowers = []
        for option in options:
            key, _, value = option.partition("=")
            if key == "lowerdir+":
                lowers.append(str(_opened(held, value)))
            else:
                data.append(f"{key}={_opened(held, value)}" if key in _PATHS else option)
        data.append("lowerdir=" + ":".join(lowers))
        into = f"/proc/self/fd/{_opened(held, os.fsdecode(target))}"
        back = os.open(".", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        held.callback(os.close, back)
        os.chdir("/proc/self/fd")
        held.callback(os.fchdir, back)
        # MS_RDONLY, MS_NOSUID, MS_NODEV and MS_NOEXEC have the values of their MOUNT_ATTR_*.
        kernel.mount(source, into, "overlay", attributes & 0xF, ",".join(data))
    return -1
