"""The process that fills empty volumes with what the image has at their places.

It mounts the container's root file system in a mount namespace of its own, so that the host's mount table never shows it, and
finds the places with openat2(2) RESOLVE_IN_ROOT: a symbolic link in an image leads nowhere but into that image
(CVE-2022-23648, CVE-2017-1002101). Links inside what is copied stay links.

Standard input brings one JSON object: ``mounts`` ([type, source, options] triples), ``target`` (an empty directory to mount
on), ``copies`` ([path in the container, directory of the volume] pairs). Standard output gives one: ``{"done": [word, ...]}``
with a word for each copy - ``copied``, ``missing`` (nothing is there), ``file`` (no directory is there), ``full`` (the volume
is not empty) - or ``{"failed": text}``.
"""

from __future__ import annotations

import errno
import json
import os
import stat
import sys
from typing import Any

from pyd_engine.layers import kernel

__all__ = ["copy_into", "main"]

_CHUNK = 1 << 24
_Links = dict[tuple[int, int], str]


def main() -> None:
    """Read the request, copy, answer."""
    os.umask(0)
    kernel.prctl(kernel.PR_SET_PDEATHSIG, 9)
    kernel.prctl(kernel.PR_SET_NO_NEW_PRIVS, 1)
    request: dict[str, Any] = json.loads(sys.stdin.buffer.readline())
    try:
        answer: dict[str, object] = {"done": _serve(request)}
    except OSError as error:
        where = f" ({os.fsdecode(error.filename)})" if isinstance(error.filename, str | bytes) else ""
        answer = {"failed": f"{(error.strerror or '').lower()}{where}"}
    sys.stdout.buffer.write(json.dumps(answer).encode() + b"\n")
    sys.stdout.buffer.flush()


def _serve(request: dict[str, Any]) -> list[str]:
    flags = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
    volumes = [
        os.open(directory, flags) for _, directory in request["copies"]
    ]  # before anything of the image is in sight
    kernel.private_mounts()
    target = os.fsencode(request["target"])
    kernel.mount_all([(kind, source, options) for kind, source, options in request["mounts"]], target)
    root = os.open(target, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    return [copy_into(root, path, fd) for (path, _), fd in zip(request["copies"], volumes, strict=True)]


def copy_into(root: int, path: str, volume: int) -> str:
    """Copy the directory *path* below *root* into the empty directory *volume*, with its own mode, owner and times."""
    if os.listdir(volume):
        return "full"
    resolve = kernel.RESOLVE_IN_ROOT | kernel.RESOLVE_NO_MAGICLINKS
    try:
        source = kernel.openat2(root, os.fsencode(path), os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK, resolve)
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ENOTDIR):
            return "missing"
        if error.errno in (errno.ENXIO, errno.ENODEV, errno.EACCES):
            return "file"  # a socket, a device without a driver
        raise
    try:
        if not stat.S_ISDIR(os.fstat(source).st_mode):
            return "file"
        _copy_directory(source, volume, volume, "", {})
    finally:
        os.close(source)
    return "copied"


def _copy_directory(source: int, target: int, top: int, below: str, links: _Links) -> None:
    """All entries, then the directory's own attributes, which the entries would have changed."""
    for name in os.listdir(source):
        _copy_entry(name, source, target, top, f"{below}{name}", links)
    _copy_attributes(source, target, os.fstat(source))


def _copy_entry(name: str, source: int, target: int, top: int, path: str, links: _Links) -> None:
    found = os.stat(name, dir_fd=source, follow_symlinks=False)
    kind = stat.S_IFMT(found.st_mode)
    if kind == stat.S_IFDIR:
        os.mkdir(name, 0o700, dir_fd=target)
        inner, outer = _open_directory(name, source), _open_directory(name, target)
        try:
            _copy_directory(inner, outer, top, f"{path}/", links)
        finally:
            os.close(inner)
            os.close(outer)
        return
    key = found.st_dev, found.st_ino
    if found.st_nlink > 1 and key in links:
        os.link(links[key], name, src_dir_fd=top, dst_dir_fd=target, follow_symlinks=False)
        return
    if kind == stat.S_IFREG:
        _copy_file(name, source, target, found)
    elif kind == stat.S_IFLNK:
        os.symlink(os.readlink(name, dir_fd=source), name, dir_fd=target)
    else:
        os.mknod(name, found.st_mode, found.st_rdev, dir_fd=target)
    if kind != stat.S_IFREG:
        os.chown(name, found.st_uid, found.st_gid, dir_fd=target, follow_symlinks=False)
        if kind != stat.S_IFLNK:
            os.chmod(name, stat.S_IMODE(found.st_mode), dir_fd=target)
        os.utime(name, ns=(found.st_atime_ns, found.st_mtime_ns), dir_fd=target, follow_symlinks=False)
    if found.st_nlink > 1:
        links[key] = path


def _open_directory(name: str, parent: int) -> int:
    return os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=parent)


def _copy_file(name: str, source: int, target: int, found: os.stat_result) -> None:
    inner = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=source)
    try:
        outer = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600, dir_fd=target)
        try:
            _copy_bytes(inner, outer)
            _copy_attributes(inner, outer, found)
        finally:
            os.close(outer)
    finally:
        os.close(inner)


def _copy_bytes(inner: int, outer: int) -> None:
    try:
        while os.copy_file_range(inner, outer, _CHUNK):
            pass
    except OSError as error:
        if error.errno not in (errno.EXDEV, errno.EINVAL, errno.EOPNOTSUPP, errno.ENOSYS):
            raise
        while os.sendfile(outer, inner, None, _CHUNK):
            pass


def _copy_attributes(inner: int, outer: int, found: os.stat_result) -> None:
    """Owner first: chown(2) clears setuid bits and file capabilities, which follow."""
    os.fchown(outer, found.st_uid, found.st_gid)
    for name in os.listxattr(inner):
        try:
            os.setxattr(outer, name, os.getxattr(inner, name))
        except OSError as error:
            if error.errno not in (errno.EOPNOTSUPP, errno.EPERM, errno.ENODATA):
                raise
    os.fchmod(outer, stat.S_IMODE(found.st_mode))
    os.utime(outer, ns=(found.st_atime_ns, found.st_mtime_ns))
