"""Apply a layer's tar stream to a directory: OCI image-spec "Image Layer Filesystem Changeset".

Every name is resolved by the kernel inside the root (openat2 with RESOLVE_IN_ROOT): a symbolic link, absolute or full of
``..``, cannot lead out (CVE-2014-9356, CVE-2021-32760 and their kin). All operations are relative to descriptors of parent
directories; the last component of a name is never followed. Removals follow the target's dialect:

PLAIN    the directory holds the union: a whiteout deletes what came from lower layers
OVERLAY  the directory holds one layer: a whiteout is a character device 0:0, an opaque directory carries an attribute
         (Documentation/filesystems/overlayfs.rst)

A whiteout never touches what its own layer brings, before or after it. Standard library only.
"""

from __future__ import annotations

import errno
import os
import stat
from dataclasses import dataclass

from pyd_engine.layers import kernel
from pyd_engine.layers.below import DEFAULT_ACL, OVERLAY_OPAQUE, OVERLAYS_OWN, NeedsLower
from pyd_engine.layers.parents import RESOLVE, Parents
from pyd_engine.layers.removal import remove_tree
from pyd_engine.layers.settling import LeftOpen, Unnamed
from pyd_engine.layers.tar import Limits, Member, TarError, TarReader, shown, split_name

__all__ = ["Applied", "LayerApplier"]

_CREATE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_WHITEOUT = b".wh."
_META = b".wh..wh."
_OPAQUE = b".wh..wh..opq"
_FAULTS = frozenset({
    errno.ENOENT, errno.EEXIST, errno.ENOTDIR, errno.EISDIR, errno.ELOOP, errno.EINVAL, errno.ENAMETOOLONG, errno.EPERM,
    errno.EXDEV, errno.EMLINK, errno.ENOTEMPTY, errno.ERANGE, errno.E2BIG, errno.EFBIG,
})  # fmt: skip


@dataclass(slots=True)
class Applied:
    """What was written. *bytes* counts file bodies; *refused* counts extended attributes the file system does not take."""

    entries: int = 0
    bytes: int = 0
    refused: int = 0


class LayerApplier:
    """Applies one layer.

    root    an open directory; borrowed
    overlay the target's dialect is OVERLAY, else PLAIN
    lower   there are layers below, or will be; in the OVERLAY dialect they are not looked at: `apply` raises NeedsLower when
            the layer names things that only they have (a hard link's target, a marker on the root), and what else depends
            on them is `left_open`

    The process' umask must be 0 and it must have one thread.
    """

    def __init__(self, root: int, *, overlay: bool, lower: bool, limits: Limits | None = None) -> None:
        self._root = root
        self._overlay = overlay
        self._lower = lower
        self._limits = limits or Limits()
        self._parents = Parents(root, self._mark)
        self._made: set[bytes] = set()
        self._above_made: set[bytes] = set()
        self._track = lower and not overlay
        self._over = lower and overlay
        self._unnamed = Unnamed(root)
        self._top: Member | None = None
        self._times: dict[bytes, int] = {}
        self._acls: dict[bytes, bytes] = {}
        self.applied = Applied()

    def apply(self, reader: TarReader) -> Applied:
        """Apply all entries. Raises TarError that names the entry, NeedsLower, or OSError when the disk fails."""
        try:
            while (member := reader.next()) is not None:
                try:
                    self._entry(reader, member)
                except OSError as error:
                    if error.errno not in _FAULTS:
                        raise
                    reason = os.strerror(error.errno or 0).lower()
                    raise TarError(f"entry {shown(member.name)}: {_DOING[member.kind]}: {reason}") from error
            self._finish()
        finally:
            self._parents.forget()
        return self.applied

    def left_open(self) -> LeftOpen:
        """After `apply`: what is to be settled once the layers below are there."""
        return LeftOpen(self._unnamed.left(), self._top)

    # --- entries -------------------------------------------------------------------------------------------------

    def _entry(self, reader: TarReader, member: Member) -> None:
        parts = split_name(member.name, self._limits)
        if not parts:
            if member.kind != "dir":
                raise TarError(f"entry {shown(member.name)}: the root can only be a directory")
            self._directory_metadata(self._root, b"", member)
            self._top = member
            return
        base = parts[-1]
        if any(part.startswith(_WHITEOUT) for part in parts):
            self._whiteout(member, parts)
            return
        above = b"/".join(parts[:-1])
        parent = self._parent(above, member)
        place = self._parents.place(parent) + b"/" + base if self._track else b""
        self.applied.entries += 1
        if member.kind == "file":
            self._file(parent, base, reader, member)
        elif member.kind == "dir":
            self._directory(parent, base, parts, member)
        elif member.kind == "symlink":
            self._clear(parent, base)
            os.symlink(member.link, base, dir_fd=parent)
            os.chown(base, member.uid, member.gid, dir_fd=parent, follow_symlinks=False)
            self._path_xattrs(parent, base, member)
            os.utime(base, ns=(member.mtime_ns, member.mtime_ns), dir_fd=parent, follow_symlinks=False)
        elif member.kind == "hardlink":
            self._hardlink(parent, base, member)
        else:
            self._node(parent, base, member)
        if self._track:
            self._mark(place)

    def _mark(self, place: bytes) -> None:
        """Remember that this layer made *place*, and so for all directories above it that they hold something of it."""
        self._made.add(place)
        above = place.rpartition(b"/")[0]
        while above and above not in self._above_made:
            self._above_made.add(above)
            above = above.rpartition(b"/")[0]

    def _ours(self, place: bytes) -> bool:
        return place in self._made or place in self._above_made

    def _file(self, parent: int, base: bytes, reader: TarReader, member: Member) -> None:
        try:
            fd = os.open(base, _CREATE, 0o600, dir_fd=parent)
        except FileExistsError:
            self._clear(parent, base)
            fd = os.open(base, _CREATE, 0o600, dir_fd=parent)
        try:
            for piece in reader.body():
                written = os.write(fd, piece)
                while written < len(piece):
                    written += os.write(fd, piece[written:])
            os.fchown(fd, member.uid, member.gid)
            os.fchmod(fd, member.mode)
            for key, value in member.xattrs.items():
                self._xattr(fd, key, value)
            os.utime(fd, ns=(member.mtime_ns, member.mtime_ns))
        finally:
            os.close(fd)
        self.applied.bytes += member.size

    def _directory(self, parent: int, base: bytes, parts: tuple[bytes, ...], member: Member) -> None:
        hidden = False
        try:
            os.mkdir(base, 0o700, dir_fd=parent)
        except FileExistsError:
            there = os.stat(base, dir_fd=parent, follow_symlinks=False)
            if not stat.S_ISDIR(there.st_mode):
                hidden = self._overlay and _is_whiteout(there)
                self._clear(parent, base)
                os.mkdir(base, 0o700, dir_fd=parent)
        fd = os.open(base, _DIRECTORY, dir_fd=parent)
        try:
            if hidden:  # the whiteout came first: without this the directory below would shine through
                os.setxattr(fd, OVERLAY_OPAQUE, b"y")
            if self._over:
                self._unnamed.named(fd)
            self._directory_metadata(fd, b"/".join(parts), member)
        finally:
            os.close(fd)

    def _directory_metadata(self, fd: int, path: bytes, member: Member) -> None:
        os.fchown(fd, member.uid, member.gid)
        os.fchmod(fd, member.mode)
        for key, value in member.xattrs.items():
            if key == DEFAULT_ACL:  # set last: entries made below it would inherit it
                self._acls[path] = value
            else:
                self._xattr(fd, key, value)
        self._times[path] = member.mtime_ns

    def _hardlink(self, parent: int, base: bytes, member: Member) -> None:
        target = split_name(member.link, self._limits)
        if not target or any(part.startswith(_WHITEOUT) for part in target):
            raise TarError(f"entry {shown(member.name)}: hard link to {shown(member.link)}")
        try:
            source = kernel.openat2(self._root, b"/".join(target[:-1]) or b".", os.O_PATH | os.O_DIRECTORY, RESOLVE)
        except OSError as error:
            raise self._no_target(member, error) from error
        try:
            try:
                found = os.stat(target[-1], dir_fd=source, follow_symlinks=False)
            except OSError as error:
                raise self._no_target(member, error) from error
            if self._overlay and _is_whiteout(found):
                raise TarError(f"entry {shown(member.name)}: hard link to {shown(member.link)}, which is removed")
            if stat.S_ISDIR(found.st_mode):
                raise TarError(f"entry {shown(member.name)}: hard link to the directory {shown(member.link)}")
            try:
                there = os.stat(base, dir_fd=parent, follow_symlinks=False)
            except FileNotFoundError:
                pass
            else:
                if (there.st_ino, there.st_dev) == (found.st_ino, found.st_dev):
                    return
                self._clear(parent, base)
            os.link(target[-1], base, src_dir_fd=source, dst_dir_fd=parent, follow_symlinks=False)
        finally:
            os.close(source)

    def _no_target(self, member: Member, error: OSError) -> Exception:
        if self._overlay and self._lower and error.errno in (errno.ENOENT, errno.ENOTDIR):
            return NeedsLower(f"{shown(member.name)} is a hard link to {shown(member.link)} of a lower layer")
        return TarError(
            f"entry {shown(member.name)}: hard link to {shown(member.link)}: {os.strerror(error.errno or 0).lower()}"
        )

    def _node(self, parent: int, base: bytes, member: Member) -> None:
        kind = {"char": stat.S_IFCHR, "block": stat.S_IFBLK, "fifo": stat.S_IFIFO}[member.kind]
        if member.kind == "char" and member.major == member.minor == 0:
            raise TarError(f"entry {shown(member.name)}: the character device 0:0 is overlayfs' mark for removed names")
        self._clear(parent, base)
        os.mknod(base, kind | member.mode, os.makedev(member.major, member.minor), dir_fd=parent)
        fd = os.open(base, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=parent)
        try:
            os.chown(f"/proc/self/fd/{fd}", member.uid, member.gid)
            os.chmod(f"/proc/self/fd/{fd}", member.mode)
        finally:
            os.close(fd)
        self._path_xattrs(parent, base, member)
        os.utime(base, ns=(member.mtime_ns, member.mtime_ns), dir_fd=parent, follow_symlinks=False)

    # --- extended attributes -------------------------------------------------------------------------------------

    def _path_xattrs(self, parent: int, base: bytes, member: Member) -> None:
        for key, value in member.xattrs.items():
            self._xattr(b"/proc/self/fd/%d/%s" % (parent, base), key, value)

    def _xattr(self, where: int | bytes, key: bytes, value: bytes) -> None:
        if key.startswith(OVERLAYS_OWN):
            return
        try:
            if isinstance(where, int):
                os.setxattr(where, key, value)
            else:
                os.setxattr(where, key, value, follow_symlinks=False)
        except OSError as error:
            if error.errno not in (errno.ENOTSUP, errno.EPERM):
                raise
            self.applied.refused += 1

    # --- whiteouts -----------------------------------------------------------------------------------------------

    def _whiteout(self, member: Member, parts: tuple[bytes, ...]) -> None:
        base = parts[-1]
        if base != _OPAQUE and any(part.startswith(_META) for part in parts):
            return  # bookkeeping of AUFS (.wh..wh.plnk, .wh..wh.orph): not part of the tree
        if any(part.startswith(_WHITEOUT) for part in parts[:-1]):
            raise TarError(f"entry {shown(member.name)}: a whiteout cannot be a directory of the path")
        name = base[len(_WHITEOUT) :]
        if base != _OPAQUE and name in (b"", b".", b".."):
            raise TarError(f"entry {shown(member.name)}: whiteout of {shown(name)}")
        if not self._lower:
            return
        if base == _OPAQUE and self._overlay and len(parts) == 1:
            raise NeedsLower("the root is marked opaque; overlayfs has no such mark on a root")
        parent = self._parent(b"/".join(parts[:-1]), member)
        if base == _OPAQUE:
            if self._overlay:
                fd = os.open(b".", _DIRECTORY, dir_fd=parent)
                try:
                    os.setxattr(fd, OVERLAY_OPAQUE, b"y")
                finally:
                    os.close(fd)
            else:
                self._empty(parent, self._parents.place(parent))
            return
        try:
            there = os.stat(name, dir_fd=parent, follow_symlinks=False)
        except FileNotFoundError:
            if self._overlay:
                os.mknod(name, stat.S_IFCHR, 0, dir_fd=parent)
            return
        if self._overlay:
            if stat.S_ISDIR(there.st_mode):  # this layer's own directory came first: it hides what is below
                fd = os.open(name, _DIRECTORY, dir_fd=parent)
                try:
                    os.setxattr(fd, OVERLAY_OPAQUE, b"y")
                finally:
                    os.close(fd)
            return
        self._delete_lower(parent, name, there.st_mode, self._parents.place(parent) + b"/" + name)

    def _delete_lower(self, parent: int, name: bytes, mode: int, place: bytes) -> None:
        """Delete what lower layers brought under a name; entries of this layer stay."""
        if not stat.S_ISDIR(mode):
            if place not in self._made:
                self._clear(parent, name)
            return
        if not self._ours(place):
            self._clear(parent, name)
            return
        fd = os.open(name, _DIRECTORY, dir_fd=parent)
        try:
            self._empty(fd, place)
        finally:
            os.close(fd)

    def _empty(self, directory: int, place: bytes) -> None:
        """Delete all children that lower layers brought. A work list, not recursion: depth is the layer's choice."""
        pending = [(os.open(b".", _DIRECTORY, dir_fd=directory), place)]
        try:
            while pending:
                fd, where = pending.pop()
                try:
                    with os.scandir(fd) as found:
                        names = [(os.fsencode(item.name), item.is_dir(follow_symlinks=False)) for item in found]
                    for name, is_directory in names:
                        child = where + b"/" + name
                        if not self._ours(child):
                            self._clear(fd, name)
                        elif is_directory:
                            pending.append((os.open(name, _DIRECTORY, dir_fd=fd), child))
                finally:
                    os.close(fd)
        finally:
            for fd, _ in pending:
                os.close(fd)

    def _parent(self, path: bytes, member: Member) -> int:
        """A descriptor of the directory *path* (joined components); made when it is missing."""
        try:
            try:
                return self._parents.get(path)
            except FileNotFoundError:
                if self._over:
                    return self._parents.make_over(path, self._unnamed.made)
                return self._parents.make(path)
        except FileExistsError:
            raise TarError(f"entry {shown(member.name)}: a parent is a symbolic link to nothing") from None
        except OSError as error:
            if error.errno not in (errno.ENOTDIR, errno.ELOOP):
                raise
            reason = os.strerror(error.errno).lower()
            raise TarError(f"entry {shown(member.name)}: its parent directory: {reason}") from error

    # --- removal and the end -------------------------------------------------------------------------------------

    def _clear(self, parent: int, name: bytes) -> None:
        """Remove whatever has this name. Cached parents may have led through it, so they are all forgotten but *parent*."""
        try:
            mode = os.stat(name, dir_fd=parent, follow_symlinks=False).st_mode
        except FileNotFoundError:
            return
        if stat.S_ISDIR(mode):
            remove_tree(parent, name)
        else:
            os.unlink(name, dir_fd=parent)
        if stat.S_ISDIR(mode) or stat.S_ISLNK(mode):
            self._parents.forget(but=parent)

    def _finish(self) -> None:
        """Times of directories, and default ACLs: after all entries, which would change or inherit them."""
        for path in {**self._times, **self._acls}:
            try:
                fd = kernel.openat2(self._root, path or b".", os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, RESOLVE)
            except OSError as error:
                if error.errno in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP):
                    continue  # replaced or removed by a later entry
                raise
            try:
                if path in self._acls:
                    self._xattr(fd, DEFAULT_ACL, self._acls[path])
                if path in self._times:
                    os.utime(fd, ns=(self._times[path], self._times[path]))
            finally:
                os.close(fd)


_DOING = {
    "file": "create the file", "dir": "create the directory", "symlink": "create the symbolic link",
    "hardlink": "create the hard link", "char": "create the device", "block": "create the device",
    "fifo": "create the fifo",
}  # fmt: skip


def _is_whiteout(found: os.stat_result) -> bool:
    return stat.S_ISCHR(found.st_mode) and found.st_rdev == 0
