"""The process that works on the files of one step, or of a context: untrusted bytes meet a file system here.

As `pyd_engine.files.worker`: one request a process, started without the environment, ends with the daemon; what it mounts is in
a mount namespace of its own. Standard input: one line of JSON, then the context's archive for ``unpack``. Request::

    op          unpack, copy
    directory   of the context          recipe      path of the recipe in it; empty: look for none
    archive     for unpack: there is one; else the directory is filled already
    origin      where sources are: [type, source, options] to mount; null: the context
    sources     paths, with wildcards   files       [path, name] of further ones that the engine has put there
    image       mounts of the image so far          target      an empty directory to mount below
    destination absolute                owner       as in the image; empty: root's; null: as the files have it
    mode        of all files, or null   unpack      a directory for archives that are to be unpacked; null: they are copied

``unpack`` answers ``{"recipe": name}`` and the recipe's bytes. ``copy`` answers ``{"digest": …}``, and, when somebody goes on
reading, ``{"done": true}`` and the layer. Failures are ``{"failed": kind, "message": text}``.
"""

from __future__ import annotations

import contextlib
import os
import stat
import sys
from typing import Any

from pyd_engine.builds.patterns import excluded
from pyd_engine.builds.placing import Placing, owner_in
from pyd_engine.builds.sources import Source, digest, find, whole
from pyd_engine.files.answering import say, serve
from pyd_engine.files.extract import Extractor
from pyd_engine.files.paths import Refused, cleaned, parent_and_base, resolve
from pyd_engine.files.tarwriter import TarWriter
from pyd_engine.layers import kernel
from pyd_engine.layers.streams import StreamError, decompressed
from pyd_engine.layers.tar import TarError, TarReader

__all__ = ["main"]

_RECIPE = 4 << 20
_FLAGS = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC


def main() -> None:
    """Do what is asked."""
    serve({"unpack": _unpack, "copy": _copy})


# --- the context ---------------------------------------------------------------------------------------------------


def _unpack(request: dict[str, Any]) -> None:
    root = os.open(request["directory"], _FLAGS)
    if request["archive"]:
        reader = TarReader(decompressed(lambda count: os.read(0, count)))
        Extractor(root, root, owner=(0, 0), keep_kinds=False).extract(reader)
    name = request["recipe"]
    if not name:
        say({"recipe": ""})
        return
    path = os.path.normpath(name)
    if path == ".." or path.startswith("../"):
        raise Refused("invalid-argument", f"forbidden path outside the build context: {name} ()")
    data = _read(root, path)
    if data is None and path == "Dockerfile":
        path = "dockerfile"
        data = _read(root, path)
    if data is None:
        raise Refused("invalid-argument", f"Cannot locate specified Dockerfile: {name}")
    _leave_out(root, path.lstrip("/"))
    say({"recipe": path})
    while data:
        data = data[os.write(1, data) :]


def _read(root: int, path: str) -> bytes | None:
    """A regular file; None when there is none."""
    try:
        fd = resolve(root, os.fsencode("/" + path), os.O_RDONLY | os.O_NONBLOCK)
    except OSError:
        return None
    with os.fdopen(fd, "rb") as file:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            raise Refused("invalid-argument", f"{path} is no file")
        data = file.read(_RECIPE + 1)
    if len(data) > _RECIPE:
        raise Refused("invalid-argument", f"{path}: more than {_RECIPE} bytes")
    return data


def _leave_out(root: int, recipe: str) -> None:
    """The recipe and ``.dockerignore`` are read in any case; the latter may say that they are no part of the context."""
    ignore = _read(root, ".dockerignore")
    if ignore is None:
        return
    text = ignore.decode("utf-8", "replace")
    for path in (".dockerignore", recipe):
        if excluded(path, text):
            with contextlib.suppress(OSError):
                parent, base = parent_and_base(root, cleaned(path))
                try:
                    os.unlink(base, dir_fd=parent)
                finally:
                    os.close(parent)


# --- a copy --------------------------------------------------------------------------------------------------------


def _copy(request: dict[str, Any]) -> None:
    kernel.private_mounts()
    context = request["origin"] is None
    origin = os.open(request["directory"], _FLAGS) if context else _mounted(request, "origin")
    sources = find(origin, request["sources"], context=context, wildcards=True)
    for path, name in request["files"]:
        directory = os.open(os.path.dirname(path), _FLAGS)
        sources.append(Source(directory, "/" + os.path.basename(path), name, is_directory=False, given=True))
    if not sources and (request["sources"] or request["files"]):
        raise Refused("invalid-argument", "no source files were specified")
    if len(sources) > 1 and not request["destination"].endswith("/"):
        raise Refused("conflict", "the destination must be a directory and end with a /")
    say({"digest": digest(sources)})
    image = _mounted(request, "image")
    owner = None if request["owner"] is None else owner_in(image, request["owner"]) if request["owner"] else (0, 0)
    trees = {index: tree for index, each in enumerate(sources) if (tree := _unpacked(request, index, each)) is not None}
    writer = _Late()
    placing = Placing(writer, image, owner, request["mode"])
    try:
        if not sources:
            placing.directory(request["destination"])
        for index, source in enumerate(sources):
            if index in trees:
                placing.merge(trees[index], request["destination"], None)
            else:
                placing.put(source, request["destination"])
        writer.finish()
    except BrokenPipeError:
        raise
    except (OSError, Refused) as error:
        if not writer.told:
            raise
        print(error, file=sys.stderr, flush=True)  # in the middle of the layer: the status tells that it is none
        os._exit(1)


class _Late(TarWriter):
    """Says that all is well before the first byte: what is refused until then has an answer of its own."""

    def __init__(self) -> None:
        super().__init__(1, nanoseconds=True)
        self.told = False

    def flush(self) -> None:
        if not self.told:
            self.told = True
            say({"done": True})
        super().flush()


def _mounted(request: dict[str, Any], what: str) -> int:
    place = f"{request['target']}/{what}"
    os.mkdir(place)
    kernel.mount_all([(kind, source, options) for kind, source, options in request[what]], os.fsencode(place))
    return os.open(place, _FLAGS)


def _unpacked(request: dict[str, Any], index: int, source: Source) -> Source | None:
    """What is in an archive; None when it is none, or is to be copied as it is."""
    if request["unpack"] is None or source.is_directory or source.given:
        return None
    parent, base = source.parent()
    fd = os.open(base, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=parent)
    os.close(parent)
    try:
        if not stat.S_ISREG(os.fstat(fd).st_mode) or not _is_archive(fd):
            return None
        os.lseek(fd, 0, os.SEEK_SET)
        place = f"{request['unpack']}/{index}"
        os.mkdir(place, 0o755)
        root = os.open(place, _FLAGS)
        Extractor(root, root, owner=None, keep_kinds=False).extract(
            TarReader(decompressed(lambda count: os.read(fd, count)))
        )
        return whole(root)
    finally:
        os.close(fd)


def _is_archive(fd: int) -> bool:
    try:
        return TarReader(decompressed(lambda count: os.read(fd, count))).next() is not None
    except (TarError, StreamError):
        return False
