"""An archive into a directory of a container (``docker cp`` towards it)."""

from __future__ import annotations

import contextlib
import os
import shutil
import stat

from pyd_engine.files.paths import Refused, descriptor_path, resolve
from pyd_engine.layers.tar import Member, TarError, TarReader

__all__ = ["Extractor"]

_KEPT = 64
_NODES = {"char": stat.S_IFCHR, "block": stat.S_IFBLK, "fifo": stat.S_IFIFO}


class Extractor:
    """Writes the entries of an archive below the directory *base* of *root*.

    Parents are looked up inside *root* each time they change; names that leave *base* are refused. *owner* replaces the
    owners that the archive says; *keep_kinds*: a directory is not replaced by anything else, nor the other way round.
    """

    def __init__(self, root: int, base: int, *, owner: tuple[int, int] | None, keep_kinds: bool) -> None:
        self._root = root
        self._base = base
        self._owner = owner
        self._keep_kinds = keep_kinds
        self._times: list[tuple[bytes, int]] = []
        self._where = os.fsencode(descriptor_path(base, root))
        self._parents: dict[bytes, int] = {}

    def extract(self, reader: TarReader) -> None:
        """All entries. Raises TarError, OSError and Refused; what was written before stays."""
        try:
            while (member := reader.next()) is not None:
                self._entry(reader, member)
            reader.drain()
            self._set_times()
        finally:
            self._leave()

    def _entry(self, reader: TarReader, member: Member) -> None:
        parts = [part for part in member.name.split(b"/") if part and part != b"."]
        if b".." in parts:
            raise TarError(f"entry {os.fsdecode(member.name)!r}: '..' in the name would leave the directory")
        if not parts:
            return  # the directory itself, which is there
        parent = self._enter(b"/".join(parts[:-1]))
        name = parts[-1]
        if self._make_room(parent, parts, member):
            self._create(parent, name, reader, member)
        if member.kind == "dir":
            self._times.append((b"/".join(parts), member.mtime_ns))

    def _enter(self, directory: bytes) -> int:
        """The open parent directory; made when it is not there. Some are kept open: archives come back to them."""
        fd = self._parents.get(directory)
        if fd is None:
            if len(self._parents) >= _KEPT:
                self._leave()
            fd = self._parents[directory] = self._below(directory) if directory else os.dup(self._base)
        return fd

    def _below(self, directory: bytes) -> int:
        try:
            return resolve(self._root, self._where + b"/" + directory, os.O_RDONLY | os.O_DIRECTORY)
        except FileNotFoundError:
            parts = directory.split(b"/")
            at = os.dup(self._base)
            for index in range(1, len(parts) + 1):
                with contextlib.suppress(FileExistsError):
                    os.mkdir(parts[index - 1], 0o777, dir_fd=at)
                os.close(at)
                whole = self._where + b"/" + b"/".join(parts[:index])
                at = resolve(self._root, whole, os.O_RDONLY | os.O_DIRECTORY)
            return at

    def _leave(self) -> None:
        for fd in self._parents.values():
            os.close(fd)
        self._parents.clear()

    def _make_room(self, parent: int, parts: list[bytes], member: Member) -> bool:
        """Remove what is there unless it can stay; whether the entry is still to be made."""
        name = parts[-1]
        try:
            found = os.stat(name, dir_fd=parent, follow_symlinks=False)
        except FileNotFoundError:
            return True
        is_directory, wanted = stat.S_ISDIR(found.st_mode), member.kind == "dir"
        if self._keep_kinds and is_directory != wanted:
            shown = f'"{descriptor_path(parent, self._root)}/{os.fsdecode(name)}"'
            what = f"directory {shown} with non-directory" if is_directory else f"non-directory {shown} with directory"
            raise Refused("invalid-argument", f"cannot overwrite {what}")
        if is_directory and wanted:
            fd = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=parent)
            try:
                self._own(fd, member)
            finally:
                os.close(fd)
            return False
        if is_directory:
            gone = b"/".join(parts)
            for key in [each for each in self._parents if each == gone or each.startswith(gone + b"/")]:
                os.close(self._parents.pop(key))
            shutil.rmtree(os.fsdecode(name), dir_fd=parent)
        else:
            os.unlink(name, dir_fd=parent)
        return True

    def _create(self, parent: int, name: bytes, reader: TarReader, member: Member) -> None:
        if member.kind == "file":
            self._file(parent, name, reader, member)
        elif member.kind == "dir":
            os.mkdir(name, 0o700, dir_fd=parent)
            fd = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=parent)
            try:
                self._own(fd, member)
            finally:
                os.close(fd)
        elif member.kind == "hardlink":
            self._hardlink(parent, name, member)
        else:
            self._node(parent, name, member)

    def _file(self, parent: int, name: bytes, reader: TarReader, member: Member) -> None:
        fd = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600, dir_fd=parent)
        try:
            for piece in reader.body():
                view = piece
                while view:
                    view = view[os.write(fd, view) :]
            self._own(fd, member)
            os.utime(fd, ns=(member.mtime_ns, member.mtime_ns))
        finally:
            os.close(fd)

    def _own(self, fd: int, member: Member) -> None:
        uid, gid = self._owner or (member.uid, member.gid)
        os.fchown(fd, uid, gid)
        for key, value in member.xattrs.items():
            if key == b"security.capability" or key.startswith(b"user."):
                with contextlib.suppress(OSError):  # not every file system keeps them: as dockerd, go on
                    os.setxattr(fd, os.fsdecode(key), value)
        os.fchmod(fd, member.mode)

    def _hardlink(self, parent: int, name: bytes, member: Member) -> None:
        """To another entry of the archive, below *base*."""
        target = [part for part in member.link.split(b"/") if part and part != b"."]
        if not target or b".." in target:
            raise TarError(f"entry {os.fsdecode(member.name)!r}: its link target would leave the directory")
        source = self._below(b"/".join(target[:-1])) if len(target) > 1 else os.dup(self._base)
        try:
            os.link(target[-1], name, src_dir_fd=source, dst_dir_fd=parent, follow_symlinks=False)
        finally:
            os.close(source)

    def _node(self, parent: int, name: bytes, member: Member) -> None:
        if member.kind == "symlink":
            os.symlink(member.link, name, dir_fd=parent)
        else:
            device = os.makedev(member.major, member.minor) if member.kind != "fifo" else 0
            os.mknod(name, _NODES[member.kind] | member.mode, device, dir_fd=parent)
        uid, gid = self._owner or (member.uid, member.gid)
        os.chown(name, uid, gid, dir_fd=parent, follow_symlinks=False)
        if member.kind != "symlink":
            os.chmod(name, member.mode, dir_fd=parent)
        os.utime(name, ns=(member.mtime_ns, member.mtime_ns), dir_fd=parent, follow_symlinks=False)

    def _set_times(self) -> None:
        """Times of directories, when nothing is written into them any more."""
        for path, mtime_ns in reversed(self._times):
            fd = self._below(path)
            try:
                os.utime(fd, ns=(mtime_ns, mtime_ns))
            finally:
                os.close(fd)
