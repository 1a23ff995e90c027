"""The process that works on the files of one container, for one request.

It sees the container's files in one of two ways: it enters the mount namespace of the container's init, or it mounts the root
file system and what is mounted into it in a mount namespace of its own; the host's mount table shows neither. Everything it
needs is imported before, for afterwards an import would find the container's code (CVE-2019-14271).

Standard input: one line of JSON, then an archive for ``put``. Standard output: one line of JSON, then an archive for ``get``,
``export`` and ``layer``. Request::

    op        stat, get, put, export, changes, layer
    pidfd     of the init whose namespace is to be entered; -1: mount        bare      without what is mounted into it
    mounts    [type, source, options] of the root file system   target  where to mount
    binds     [source, destination, read-only, whether it is the host's] to mount into it
    known     for layer: [kind, path] of what the storage driver says is different; null: compare
    users     the init has a user namespace: enter it too
    ids       [users, groups] of the user namespace that a container would have, to show the host's files so; or null
    parent    mounts of the image's file system, for changes and layer; below *target*
    path      in the container     owner  [uid, gid] or null    keep_kinds

Answer: ``{"stat": …}``, ``{"changes": [[kind, path], …]}``, ``{"done": true}``, or ``{"failed": kind, "message": text}``.
"""

from __future__ import annotations

import errno
import os
import posixpath
import stat
import sys
from typing import Any

from pyd_engine.files.answering import say, serve
from pyd_engine.files.changes import DELETED, Change, changes
from pyd_engine.files.extract import Extractor
from pyd_engine.files.paths import Refused, cleaned, parent_and_base, path_stat, resolve
from pyd_engine.files.tarwriter import TarWriter
from pyd_engine.files.tree import Archiver
from pyd_engine.layers import kernel
from pyd_engine.layers.streams import decompressed
from pyd_engine.layers.tar import TarReader
from pyd_shim import idmaps
from pyd_shim import kernel as calls

__all__ = ["main"]


def main() -> None:
    """Do what is asked."""
    serve(_OPERATIONS)


# --- the container's root ----------------------------------------------------------------------------------------


def _root(request: dict[str, Any]) -> int:
    """An open descriptor of the container's root, its files in sight."""
    if request["pidfd"] >= 0:
        _enter(request["pidfd"], users=request["users"])
        _forget_imports()
        if request["bare"]:
            return calls.open_tree(-100, "/", calls.OPEN_TREE_CLONE)  # AT_FDCWD
        return os.open("/", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    kernel.private_mounts()
    target = os.fsencode(request["target"])
    _mount(request["mounts"], target)
    root = os.open(target, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    users = _inverse(*request["ids"]) if request["ids"] else -1
    for source, destination, read_only, is_host in request["binds"]:
        _bind(root, source, destination, read_only, users if is_host else -1)
    return root


def _enter(pidfd: int, *, users: bool) -> None:
    """Be where the container is; in a user namespace of its own be its root, who sees its ids and has no power elsewhere."""
    calls.setns(pidfd, calls.CLONE_NEWNS | (calls.CLONE_NEWUSER if users else 0))
    if users:
        os.setgroups([])
        os.setresgid(0, 0, 0)
        os.setresuid(0, 0, 0)
        calls.prctl(1, 9)  # PR_SET_PDEATHSIG: with the daemon; new ids have cleared it


def _inverse(users: list[idmaps.Extent], groups: list[idmaps.Extent]) -> int:
    """A user namespace through which the host's files look as they do in the container."""
    return idmaps.user_namespace(idmaps.inverse(users), idmaps.inverse(groups))


def _mount(mounts: list[list[Any]], target: bytes) -> None:
    kernel.mount_all([(kind, source, options) for kind, source, options in mounts], target)


def _bind(root: int, source: str, destination: str, read_only: bool, users: int) -> None:
    """Mount *source* where the container has it, its ids shown through the user namespace *users* (-1: as they are); its place
    is made when it is not there."""
    try:
        place = resolve(root, os.fsencode(destination))
    except FileNotFoundError:
        _make_place(root, destination, is_directory=os.path.isdir(source))
        place = resolve(root, os.fsencode(destination))
    if users >= 0:
        mount = idmaps.id_mapped(lambda: calls.open_tree(-100, source, calls.OPEN_TREE_CLONE), users)
        calls.move_mount(mount, place)
        os.close(mount)
    else:
        calls.mount(source, f"/proc/self/fd/{place}", None, calls.MS_BIND | calls.MS_REC)
    if read_only:
        mounted = resolve(root, os.fsencode(destination))
        calls.mount_setattr(mounted, calls.MOUNT_ATTR_RDONLY, recursive=True)
        os.close(mounted)
    os.close(place)


def _make_place(root: int, destination: str, *, is_directory: bool) -> None:
    parts = [part for part in destination.split("/") if part]
    for depth in range(len(parts)):
        parent = resolve(root, os.fsencode("/" + "/".join(parts[:depth])), os.O_RDONLY | os.O_DIRECTORY)
        last = depth == len(parts) - 1
        try:
            if last and not is_directory:
                os.close(
                    os.open(parts[depth], os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o644, dir_fd=parent)
                )
            else:
                os.mkdir(parts[depth], 0o755, dir_fd=parent)
        except FileExistsError:
            pass
        finally:
            os.close(parent)


def _forget_imports() -> None:
    """From here on an import fails instead of finding the container's files."""
    sys.meta_path.clear()
    sys.path.clear()
    sys.path_hooks.clear()
    sys.path_importer_cache.clear()


def _not_found(request: dict[str, Any], error: OSError) -> Exception:
    if error.errno in (errno.ENOENT, errno.ENOTDIR):
        return Refused("not-found", f"Could not find the file {request['path']} in container {request['container']}")
    return error


# --- operations --------------------------------------------------------------------------------------------------


def _stat(request: dict[str, Any]) -> None:
    root, path = _root(request), cleaned(request["path"])
    try:
        found, _ = path_stat(root, path)
    except OSError as error:
        raise _not_found(request, error) from error
    say({"stat": found})


def _get(request: dict[str, Any]) -> None:
    """One file, or a directory with all that is in it, under the name the path ends in."""
    root, path = _root(request), cleaned(request["path"])
    try:
        found, status = path_stat(root, path)
        parent, base = parent_and_base(root, path)
    except OSError as error:
        raise _not_found(request, error) from error
    if path.endswith("/") and path != "/" and not stat.S_ISDIR(status.st_mode):
        raise Refused("invalid-argument", f"extraction point is not a directory: {path}")
    name = "." if path.endswith("/.") else posixpath.basename(path.rstrip("/"))
    say({"stat": found})
    writer = TarWriter(1)
    if name:
        Archiver(writer).tree(parent, base, os.fsencode(name))
    else:
        Archiver(writer).tree(parent, b".", b"/")
    writer.finish()


def _put(request: dict[str, Any]) -> None:
    root, path = _root(request), cleaned(request["path"])
    try:
        base = resolve(root, os.fsencode(path))
    except OSError as error:
        raise _not_found(request, error) from error
    if not stat.S_ISDIR(os.fstat(base).st_mode):
        raise Refused("invalid-argument", "extraction point is not a directory")
    directory = resolve(root, os.fsencode(path), os.O_RDONLY | os.O_DIRECTORY)
    owner = tuple(request["owner"]) if request["owner"] else None
    reader = TarReader(decompressed(lambda count: os.read(0, count)))
    Extractor(root, directory, owner=owner, keep_kinds=request["keep_kinds"]).extract(reader)
    say({"done": True})


def _export(request: dict[str, Any]) -> None:
    root = _root(request)
    top = resolve(root, b"/", os.O_RDONLY | os.O_DIRECTORY)
    say({"done": True})
    writer = TarWriter(1)
    archiver = Archiver(writer)
    for name in sorted(map(os.fsencode, os.listdir(top))):
        archiver.tree(top, name, name)
    writer.finish()


def _changed(request: dict[str, Any]) -> tuple[int, list[Change]]:
    """The new tree, and what is different in it."""
    target = request["target"]
    flags = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
    known = request["known"]
    if known is not None:
        new = resolve(_root(request), b"/", flags)
        return new, [Change(kind, os.fsencode(path)) for kind, path in known]
    kernel.private_mounts()
    old = None
    if request["parent"]:
        os.mkdir(f"{target}/old")
        _mount(request["parent"], os.fsencode(f"{target}/old"))
        old = os.open(f"{target}/old", flags)
    if request["pidfd"] >= 0:
        new = resolve(_root(request), b"/", os.O_RDONLY | os.O_DIRECTORY)
    else:
        os.mkdir(f"{target}/new")
        _mount(request["mounts"], os.fsencode(f"{target}/new"))
        new = os.open(f"{target}/new", flags)
    return new, changes(new, old)


def _changes(request: dict[str, Any]) -> None:
    _, found = _changed(request)
    say({"changes": [[each.kind, os.fsdecode(each.path)] for each in found]})


def _layer(request: dict[str, Any]) -> None:
    """The changes as a layer (OCI image-spec, layer.md)."""
    new, found = _changed(request)
    say({"done": True})
    writer = TarWriter(1, nanoseconds=True)
    archiver = Archiver(writer)
    for change in found:
        directory, _, base = change.path[1:].rpartition(b"/")
        if change.kind == DELETED:
            writer.whiteout((directory + b"/" if directory else b"") + b".wh." + base)
            continue
        try:
            parent = resolve(new, b"/" + directory, os.O_RDONLY | os.O_DIRECTORY)
        except FileNotFoundError:  # a container at work
            continue
        try:
            archiver.entry(parent, base, change.path[1:], os.stat(base, dir_fd=parent, follow_symlinks=False))
        except FileNotFoundError:
            continue
        finally:
            os.close(parent)
    writer.finish()


_OPERATIONS = {
    "stat": _stat, "get": _get, "put": _put, "export": _export, "changes": _changes, "layer": _layer,
}  # fmt: skip
