"""File trees: read one into a value that compares, draw one that holds every kind of thing, change one.

Everything works on bytes names below a directory descriptor, so that names that are no UTF-8 and trees deeper than
PATH_MAX are trees like any others. A *change* is a plain function of a directory: the suites apply the same change to
a mounted snapshot and to a plain directory, and compare (after containerd's flat-copy check).
"""

from __future__ import annotations

import errno
import hashlib
import os
import random
import shutil
import stat
import subprocess
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path

from pyd_contracts.values import ChangeKind, TreeChange

__all__ = [
    "Change",
    "Node",
    "Tree",
    "apply_changes",
    "deep",
    "difference",
    "edit",
    "furnish",
    "layer",
    "mutate",
    "overwrite",
    "read_tree",
    "rename_directories",
]

Change = Callable[[Path], None]

_OLD_NS = 1_262_304_000 * 10**9  # 2010: times before it were set on purpose and are compared
_SET_NS = 981_173_106_123_456_789  # 2001-02-03, with nanoseconds that a float would lose


@dataclass(frozen=True, slots=True)
class Node:
    """One name of a tree. *twin* is the first name (in order) of the same inode, *mtime_ns* 0 when it is recent."""

    mode: str
    uid: int
    gid: int
    content: str
    rdev: int
    xattrs: tuple[tuple[str, bytes], ...]
    mtime_ns: int
    twin: bytes

    def alone(self) -> Node:
        """Without what other names have to do with it."""
        return replace(self, twin=b"")


Tree = dict[bytes, Node]


def read_tree(top: Path) -> Tree:
    """Read everything below and with *top* (``b"."``), without following links."""
    tree: Tree = {}
    twins: dict[tuple[int, int], bytes] = {}
    pending = [(b".", os.fsencode(top) + b"/.")]
    while pending:
        pending.sort(reverse=True)
        name, path = pending.pop()
        status = os.stat(path, follow_symlinks=False)
        tree[name] = _node(path, status, twins.setdefault((status.st_dev, status.st_ino), name))
        if stat.S_ISDIR(status.st_mode):
            pending.extend((name + b"/" + child, path + b"/" + child) for child in os.listdir(path))
    return tree


def _node(path: bytes, status: os.stat_result, twin: bytes) -> Node:
    content = ""
    if stat.S_ISREG(status.st_mode):
        with open(path, "rb") as file:
            content = f"{status.st_size} {hashlib.file_digest(file, 'sha256').hexdigest()}"
    elif stat.S_ISLNK(status.st_mode):
        content = os.fsdecode(os.readlink(path))
    return Node(
        mode=stat.filemode(status.st_mode),
        uid=status.st_uid,
        gid=status.st_gid,
        content=content,
        rdev=status.st_rdev if stat.S_IFMT(status.st_mode) in (stat.S_IFCHR, stat.S_IFBLK) else 0,
        xattrs=_xattrs(path),
        mtime_ns=status.st_mtime_ns if status.st_mtime_ns < _OLD_NS else 0,
        twin=twin if not stat.S_ISDIR(status.st_mode) else b"",
    )


def _xattrs(path: bytes) -> tuple[tuple[str, bytes], ...]:
    try:
        names = os.listxattr(path, follow_symlinks=False)
    except OSError as error:
        if error.errno == errno.EOPNOTSUPP:
            return ()
        raise
    # Labels come from the host's policy and overlay's own marks from overlayfs: neither is content.
    kept = sorted(name for name in names if name != "security.selinux" and not name.startswith("trusted.overlay."))
    return tuple((name, os.getxattr(path, name, follow_symlinks=False)) for name in kept)


def _write(path: bytes, data: bytes, mode: int = 0o644) -> None:
    with open(path, "wb") as file:
        file.write(data)
    os.chmod(path, mode)


def furnish(top: Path) -> None:
    """Fill an empty directory.

    ::

        bin/su 4755   bin/wall 2755   bin/hard-1 = lib/hard-2 = hard-3
        dev/null c 1:3   dev/loop b 7:0   dev/fifo p   dev/sock s
        etc/passwd (uid 1000, gid 100000)   etc/caps (security.capability)   etc/notes (user., trusted. attributes)
        links/absolute -> /etc/passwd   links/dangling -> nowhere   links/parent -> ..
        names/ caf\\xe9, a newline, ":", ",", "\\", a blank, 255 times "n"
        tmp 1777   var/empty 0700   var/hole (1 MiB of nothing, then data)   var/old (2001, with nanoseconds)
        gone/{a,b/c}   turns/{file,dir/x}   keep/{one,two}   grow   touched
    """
    at = os.fsencode(top) + b"/"
    for each in (b"bin", b"lib", b"dev", b"etc", b"links", b"names", b"tmp", b"var", b"gone", b"turns", b"keep"):
        os.mkdir(at + each, 0o755)
        os.chmod(at + each, 0o755)
    for each in (b"var/empty", b"gone/b", b"turns/dir"):
        os.mkdir(at + each)
    os.chmod(at + b"tmp", 0o1777)
    os.chmod(at + b"var/empty", 0o700)
    _write(at + b"bin/hard-1", b"one inode, three names")
    os.link(at + b"bin/hard-1", at + b"lib/hard-2")
    os.link(at + b"bin/hard-1", at + b"hard-3")
    _special(at)
    _write(at + b"etc/passwd", b"root:x:0:0::/:/bin/sh\n")
    os.chown(at + b"etc/passwd", 1000, 100000)
    _write(at + b"bin/su", b"#!", 0o755)
    os.chown(at + b"bin/su", 0, 8)
    os.chmod(at + b"bin/su", 0o4755)
    _write(at + b"bin/wall", b"#!", 0o755)
    os.chmod(at + b"bin/wall", 0o2755)
    _write(at + b"etc/caps", b"")
    # VFS_CAP_REVISION_2 with CAP_NET_RAW permitted and effective: linux/capability.h
    os.setxattr(at + b"etc/caps", "security.capability", bytes.fromhex("0100000200200000000000000000000000000000"))
    _write(at + b"etc/notes", b"")
    os.setxattr(at + b"etc/notes", "user.note", b"\0binary\xff")
    os.setxattr(at + b"etc/notes", "trusted.pyd", b"")
    os.setxattr(at + b"keep", "user.dir", b"on a directory")
    for target, name in ((b"/etc/passwd", b"absolute"), (b"nowhere", b"dangling"), (b"..", b"parent")):
        os.symlink(target, at + b"links/" + name)
    os.chown(at + b"links/dangling", 7, 7, follow_symlinks=False)
    for name in (b"caf\xe9", b"a\nb", b"a:b", b"a,b", b"a\\b", b"a b", b"n" * 255):
        _write(at + b"names/" + name, name)
    with open(at + b"var/hole", "wb") as file:
        file.seek(1 << 20)
        file.write(b"after a hole")
    for name in (b"grow", b"touched", b"gone/a", b"gone/b/c", b"turns/file", b"turns/dir/x", b"keep/one", b"keep/two"):
        _write(at + name, name * 100)
    _write(at + b"var/old", b"old")
    for name in (b"var/old", b"links/dangling", b"var/empty", b"hard-3", b"dev/null", b"tmp"):
        os.utime(at + name, ns=(_SET_NS, _SET_NS), follow_symlinks=False)


def _special(at: bytes) -> None:
    os.mknod(at + b"dev/null", stat.S_IFCHR | 0o666, os.makedev(1, 3))
    os.chmod(at + b"dev/null", 0o666)
    os.mknod(at + b"dev/loop", stat.S_IFBLK | 0o660, os.makedev(7, 0))
    os.mkfifo(at + b"dev/fifo", 0o600)
    os.mknod(at + b"dev/sock", stat.S_IFSOCK | 0o755)


def edit(top: Path) -> None:
    """Change what `furnish` drew in every way a layer can: remove, replace, turn, grow, mark."""
    at = os.fsencode(top) + b"/"
    os.unlink(at + b"etc/notes")
    os.unlink(at + b"dev/null")
    shutil.rmtree(at + b"gone")
    shutil.rmtree(at + b"keep")  # and made again: nothing of the old directory may shine through
    os.mkdir(at + b"keep", 0o750)
    _write(at + b"keep/three", b"3")
    os.unlink(at + b"turns/file")
    os.mkdir(at + b"turns/file", 0o711)
    _write(at + b"turns/file/inside", b"a directory now")
    shutil.rmtree(at + b"turns/dir")
    _write(at + b"turns/dir", b"a file now")
    with open(at + b"grow", "ab") as file:
        file.write(b"grown")
    os.chmod(at + b"touched", 0o4700)
    os.chown(at + b"var/old", 12, 13)
    os.utime(at + b"var/old", ns=(_SET_NS + 1, _SET_NS + 1))
    os.unlink(at + b"links/parent")
    os.symlink(b"elsewhere", at + b"links/parent")
    os.unlink(at + b"names/caf\xe9")
    _write(at + b"names/caf\xe8", b"new")
    os.rename(at + b"names/a b", at + b"names/moved")
    os.setxattr(at + b"bin/su", "user.marked", b"yes")
    os.chmod(at + b"var/empty", 0o701)
    os.chmod(top, 0o711)
    os.chown(top, 3, 4)
    os.utime(at, ns=(_SET_NS, _SET_NS))


def layer(number: int) -> Change:
    """One layer of many: adds a file, changes the shared one, removes the one that the layer before it added."""

    def change(top: Path) -> None:
        at = os.fsencode(top) + b"/"
        os.makedirs(at + b"d/e", exist_ok=True)
        _write(at + b"d/shared", b"%d" % number)
        _write(at + b"d/e/added-%d" % number, b"x" * number)
        if number > 1:
            os.unlink(at + b"d/e/added-%d" % (number - 1))

    return change


def overwrite(top: Path) -> None:
    """Replace files by rename, links by files and files by links, as package managers do; mark and unmark; link anew."""
    at = os.fsencode(top) + b"/"
    _write(at + b"etc/.passwd+", b"root:x:0:0:new:/:/bin/sh\n", 0o600)
    os.rename(at + b"etc/.passwd+", at + b"etc/passwd")
    os.link(at + b"etc/passwd", at + b"etc/passwd-")
    os.unlink(at + b"links/absolute")
    _write(at + b"links/absolute", b"no link any more")
    os.unlink(at + b"touched")
    os.symlink(b"grow", at + b"touched")
    if b"keep" in os.listdir(at):
        os.setxattr(at + b"keep", "user.dir", b"another")
    os.unlink(at + b"bin/hard-1")
    os.mkdir(at + b"new")
    os.mkdir(at + b"new/dev")
    _special(at + b"new/")
    os.truncate(at + b"var/hole", 0)


def rename_directories(top: Path) -> None:
    """Rename directories that have content: with names of their own, over empty ones, into each other, and back."""
    at = os.fsencode(top) + b"/"
    for source, target in (
        (b"gone", b"came"), (b"turns", b"var/empty/turns"), (b"etc", b"aside"), (b"aside", b"etc"),
    ):  # fmt: skip
        _rename(at + source, at + target)
    os.mkdir(at + b"turns", 0o700)
    _write(at + b"turns/file", b"another")
    os.unlink(at + b"came/b/c")
    _write(at + b"came/b/d", b"after the move")


def _rename(source: bytes, target: bytes) -> None:
    """rename(2), and what mv(1) does where overlayfs refuses it (EXDEV: a directory of a lower layer)."""
    try:
        os.rename(source, target)
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
        subprocess.run(["mv", "-T", "--", source, target], check=True)


def mutate(seed: int) -> Change:
    """Sixty changes at random, the same for the same tree. Files with several names are replaced and not written to: overlayfs
    takes such names apart (overlayfs.rst, "Non-standard behavior").
    """

    def change(top: Path) -> None:
        chance = random.Random(seed)  # to be repeatable is the point
        at = os.fsencode(top)
        for number in range(60):
            paths = _paths(at)
            directories = [path for path, mode in paths if stat.S_ISDIR(mode)]
            name = at + chance.choice([b"", *directories]) + b"/%d-%d" % (seed, number)
            path, mode = chance.choice(paths)
            _one_change(chance, at + path, mode, name)

    return change


def _paths(top: bytes) -> list[tuple[bytes, int]]:
    """Every path below *top*, and whether it is S_IFDIR, S_IFREG or else (0): as directories tell, no file is looked at."""
    found: list[tuple[bytes, int]] = []
    pending = [top]
    while pending:
        with os.scandir(pending.pop()) as entries:
            for entry in entries:
                kind = stat.S_IFREG if entry.is_file(follow_symlinks=False) else 0
                if entry.is_dir(follow_symlinks=False):
                    kind = stat.S_IFDIR
                    pending.append(entry.path)
                found.append((entry.path[len(top) :], kind))
    return sorted(found)


def _one_change(chance: random.Random, path: bytes, mode: int, new: bytes) -> None:
    """One change to *path*, or *new* made."""
    choice = chance.randrange(11)
    alone = stat.S_ISREG(mode) and os.lstat(path).st_nlink == 1
    if choice == 0:
        os.mkdir(new, 0o755)
    elif choice == 1:
        shutil.rmtree(path) if stat.S_ISDIR(mode) and b"names" not in path else None
    elif choice == 2:
        os.symlink(b"/" + os.path.basename(path), new)
    elif choice == 3 and alone:
        with open(path, "ab") as file:
            file.write(b"more")
    elif choice == 4 and (alone or stat.S_ISDIR(mode)):
        os.chmod(path, chance.choice((0o700, 0o4755, 0o755)))
    elif choice == 5 and (alone or stat.S_ISDIR(mode)):
        os.setxattr(path, "user.change", new[-4:])
    elif choice == 6 and not new.startswith(path + b"/"):
        _rename(path, new)
    elif choice == 7 and not stat.S_ISDIR(mode):
        os.unlink(path)
        os.mkdir(path, 0o755)
    elif choice == 8 and stat.S_ISDIR(mode):
        shutil.rmtree(path)
        _write(path, b"was a directory")
    elif choice == 9 and not stat.S_ISDIR(mode):
        os.unlink(path)
    else:
        _write(new, new[-4:] * chance.randrange(2000))


def difference(old: Tree, new: Tree) -> list[TreeChange]:
    """What `pyd_contracts.storage.DiffSource` has to say of two trees."""
    kinds: dict[bytes, ChangeKind] = {}
    for path in old.keys() | new.keys():
        if path not in new:
            kinds[path] = ChangeKind.DELETED
        elif path not in old:
            kinds[path] = ChangeKind.ADDED
        elif _said(old[path]) != _said(new[path]):
            kinds[path] = ChangeKind.MODIFIED
    hidden = {
        path
        for path, kind in kinds.items()
        if kind is ChangeKind.DELETED and (above := path.rpartition(b"/")[0]) and not _is_directory(new, above)
    }
    for path in [path for path in kinds if path not in hidden]:
        while path := path.rpartition(b"/")[0]:
            kinds.setdefault(path, ChangeKind.MODIFIED)
    return [TreeChange(kind, path[2:]) for path, kind in kinds.items() if path not in hidden]


def _is_directory(tree: Tree, path: bytes) -> bool:
    return path in tree and tree[path].mode.startswith("d")


def _said(node: Node) -> Node:
    return replace(node.alone(), mtime_ns=0) if node.mode.startswith("d") else node.alone()


def apply_changes(changes: Iterable[TreeChange], source: Path, target: Path) -> None:
    """Make *target*, a plain copy of the old tree, into the new tree *source* by what the changes say and nothing else."""
    times = []
    for change in changes:
        old, new = (os.fsencode(top) + b"/" + change.path for top in (target, source))
        there = os.stat(old, follow_symlinks=False) if os.path.lexists(old) else None
        if change.kind is ChangeKind.DELETED:
            shutil.rmtree(old) if there and stat.S_ISDIR(there.st_mode) else os.unlink(old)
            continue
        assert (there is None) == (change.kind is ChangeKind.ADDED), change
        wanted = os.stat(new, follow_symlinks=False)
        if there is not None and not (stat.S_ISDIR(there.st_mode) and stat.S_ISDIR(wanted.st_mode)):
            shutil.rmtree(old) if stat.S_ISDIR(there.st_mode) else os.unlink(old)
            there = None
        if there is not None:
            for name, _ in _xattrs(old):
                os.removexattr(old, name)
        elif stat.S_ISDIR(wanted.st_mode):
            os.mkdir(old)
        elif stat.S_ISLNK(wanted.st_mode):
            os.symlink(os.readlink(new), old)
        elif stat.S_ISREG(wanted.st_mode):
            shutil.copyfile(new, old, follow_symlinks=False)
        else:
            os.mknod(old, wanted.st_mode, wanted.st_rdev)
        os.chown(old, wanted.st_uid, wanted.st_gid, follow_symlinks=False)
        if not stat.S_ISLNK(wanted.st_mode):
            os.chmod(old, stat.S_IMODE(wanted.st_mode))
        for name, value in _xattrs(new):
            os.setxattr(old, name, value, follow_symlinks=False)
        times.append((old, wanted.st_mtime_ns))
    for path, time in reversed(times):
        os.utime(path, ns=(time, time), follow_symlinks=False)


def deep(levels: int) -> Change:
    """A chain of directories ``d/d/d/...`` with a file at its end, made without long paths."""

    def change(top: Path) -> None:
        fd = os.open(top, os.O_RDONLY | os.O_DIRECTORY)
        for _ in range(levels):
            os.mkdir("d", dir_fd=fd)
            inner = os.open("d", os.O_RDONLY | os.O_DIRECTORY, dir_fd=fd)
            os.close(fd)
            fd = inner
        os.close(os.open("end", os.O_CREAT | os.O_WRONLY, 0o600, dir_fd=fd))
        os.close(fd)

    return change
