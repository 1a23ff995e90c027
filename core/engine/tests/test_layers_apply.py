"""Hostile and odd layers: what is refused, what the tree looks like afterwards, and that nothing outside it changes."""

from __future__ import annotations

import hashlib
import os
import stat
import struct
import subprocess
import tarfile
from collections.abc import Callable, Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest

from pyd_engine.layers.apply import LayerApplier
from pyd_engine.layers.below import NeedsLower
from pyd_engine.layers.settling import LeftOpen
from pyd_engine.layers.streams import StreamError, decompressed
from pyd_engine.layers.tar import Limits, Member, TarError, TarReader

pytestmark = [
    pytest.mark.root,
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root: layers set owners and make devices"),
]

Entry = bytes


def header(name: bytes, kind: bytes = b"0", *, size: int | bytes = 0, mode: int | bytes = 0o644, link: bytes = b"",
           uid: int = 0, gid: int = 0, mtime: int = 1, major: int = 0, minor: int = 0, magic: bytes = b"ustar\x0000",
           prefix: bytes = b"", checksum: bytes | None = None) -> bytes:  # fmt: skip
    head = bytearray(512)
    head[: len(name)] = name
    head[100:108] = mode if isinstance(mode, bytes) else b"%07o\0" % mode
    head[108:116], head[116:124] = b"%07o\0" % uid, b"%07o\0" % gid
    head[124:136] = size if isinstance(size, bytes) else b"%011o\0" % size
    head[136:148] = b"%011o\0" % mtime
    head[148:156] = b" " * 8
    head[156:157] = kind
    head[157 : 157 + len(link)] = link
    head[257:265] = magic
    head[329:337], head[337:345] = b"%07o\0" % major, b"%07o\0" % minor
    head[345 : 345 + len(prefix)] = prefix
    head[148:156] = b"%06o\0 " % sum(head) if checksum is None else checksum
    return bytes(head)


def file(name: bytes, data: bytes = b"", **more: object) -> Entry:
    return header(name, size=len(data), **more) + data + bytes(-len(data) % 512)  # type: ignore[arg-type]


def directory(name: bytes, mode: int = 0o755, **more: object) -> Entry:
    return header(name, b"5", mode=mode, **more)  # type: ignore[arg-type]


def symlink(name: bytes, target: bytes) -> Entry:
    return header(name, b"2", link=target, mode=0o777)


def hardlink(name: bytes, target: bytes) -> Entry:
    return header(name, b"1", link=target)


def extension(kind: bytes, data: bytes) -> Entry:
    return header(b"././@X", kind, size=len(data)) + data + bytes(-len(data) % 512)


def record(key: bytes, value: bytes) -> bytes:
    body = b" " + key + b"=" + value + b"\n"
    length = len(body) + 1
    while len(b"%d" % length) + len(body) != length:
        length = len(b"%d" % length) + len(body)
    return b"%d" % length + body


def pax(*pairs: tuple[bytes, bytes]) -> Entry:
    return extension(b"x", b"".join(record(key, value) for key, value in pairs))


END = bytes(1024)


def snapshot(root: Path) -> dict[str, tuple[object, ...]]:
    """Everything about a tree that a layer could change."""
    found: dict[str, tuple[object, ...]] = {}
    base = os.fsencode(root)
    for where, directories, files in os.walk(base):
        for name in (b".", *directories, *files):
            path = os.path.join(where, name)
            info = os.lstat(path)
            content: object = None
            if stat.S_ISREG(info.st_mode):
                content = hashlib.sha256(Path(os.fsdecode(path)).read_bytes()).hexdigest()
            elif stat.S_ISLNK(info.st_mode):
                content = os.readlink(path)
            xattrs = tuple(
                (key, os.getxattr(path, key, follow_symlinks=False))
                for key in os.listxattr(path, follow_symlinks=False)
            )
            found[os.fsdecode(os.path.relpath(path, base))] = (
                oct(info.st_mode), info.st_uid, info.st_gid, info.st_rdev, content, info.st_mtime_ns, xattrs,
                info.st_nlink if not stat.S_ISDIR(info.st_mode) else 0,
            )  # fmt: skip
    return found


class Room:
    """A root to apply layers to, and a sentinel tree beside it that must never change."""

    def __init__(self, path: Path) -> None:
        self.root = path / "root"
        self.root.mkdir(mode=0o755)
        self.outside = path / "outside"
        (self.outside / "directory").mkdir(parents=True)
        (self.outside / "file").write_text("sentinel")
        (self.outside / "directory" / "inner").write_text("sentinel")
        self.before = snapshot(self.outside)

    def apply(self, *entries: Entry, end: bytes = END, overlay: bool = False, lower: bool = False,
              limits: Limits | None = None) -> None:  # fmt: skip
        fd = os.open(self.root, os.O_RDONLY | os.O_DIRECTORY)
        limits = limits or Limits()
        data = b"".join(entries) + end
        mask = os.umask(0)
        try:
            # odd chunks, so that every field crosses a border in some test
            chunks = iter([data[i : i + 700] for i in range(0, len(data), 700)])
            applier = LayerApplier(fd, overlay=overlay, lower=lower, limits=limits)
            applier.apply(TarReader(chunks, limits))
            self.said = applier.left_open().said() if overlay else {}
        finally:
            os.umask(mask)
            os.close(fd)

    def left_open(self, *entries: Entry) -> dict[str, Any]:
        """What a layer over others leaves open."""
        self.apply(*entries, overlay=True, lower=True)
        return self.said

    def names(self) -> set[str]:
        return {name for name in snapshot(self.root) if name != "." and not name.endswith("/.")}


@pytest.fixture
def room(tmp_path: Path) -> Iterator[Room]:
    room = Room(tmp_path)
    yield room
    assert snapshot(room.outside) == room.before, "the layer reached outside its root"
    assert {entry.name for entry in tmp_path.iterdir()} == {"root", "outside"}


OUT = b"../outside"
REFUSED: dict[str, tuple[list[bytes], str]] = {
    "parent": ([file(b"../outside/file", b"x")], r"'\.\.' in the name"),
    "parent inside": ([file(b"a/../../outside/file", b"x")], r"'\.\.' in the name"),
    "parent at the end": ([directory(b"a/..")], r"'\.\.' in the name"),
    "absolute parent": ([file(b"/../outside/file", b"x")], r"'\.\.' in the name"),
    "pax path": ([pax((b"path", b"../outside/file")), file(b"innocent", b"x")], r"'\.\.' in the name"),
    "gnu long name": ([extension(b"L", b"../outside/file\0"), file(b"innocent", b"x")], r"'\.\.' in the name"),
    "ustar prefix": ([file(b"file", b"x", prefix=b"../outside")], r"'\.\.' in the name"),
    "hard link outside": ([hardlink(b"a", b"../outside/file")], r"'\.\.' in the name"),
    "hard link absolute": ([hardlink(b"a", b"/outside/file")], "hard link"),
    "hard link via link": ([symlink(b"s", b"/"), hardlink(b"a", b"s/outside/file")], "hard link"),
    "hard link via relative link": ([symlink(b"s", OUT), hardlink(b"a", b"s/file")], "hard link"),
    "hard link to directory": ([directory(b"d"), hardlink(b"a", b"d")], "directory"),
    "hard link to root": ([hardlink(b"a", b"/")], "hard link"),
    "hard link to nothing": ([hardlink(b"a", b"b")], "no such file"),
    "hard link without target": ([hardlink(b"a", b"")], "link target"),
    "pax linkpath": ([pax((b"linkpath", b"../outside/file")), hardlink(b"a", b"ok")], r"'\.\.' in the name"),
    "gnu long link": ([extension(b"K", b"../outside/file\0"), hardlink(b"a", b"ok")], r"'\.\.' in the name"),
    "file below a dangling link": ([symlink(b"s", b"nowhere"), file(b"s/file", b"x")], "symbolic link to nothing"),
    "file below a link loop": ([symlink(b"s", b"s"), file(b"s/file", b"x")], "symbolic link"),
    "file below a file": ([file(b"a"), file(b"a/b")], "not a directory"),
    "symlink without target": ([symlink(b"s", b"")], "link target"),
    "root as file": ([file(b"./", b"x")], "root can only be"),
    "root as symlink": ([symlink(b"/", b"/etc")], "root can only be"),
    "no name": ([file(b"", b"x")], "without a name"),
    "whiteout of nothing": ([file(b".wh.")], "whiteout of"),
    "whiteout of dot": ([file(b".wh..")], "whiteout of"),
    "whiteout of parent": ([file(b"d/.wh...")], "whiteout of"),
    "whiteout as directory": ([file(b".wh.d/file")], "whiteout cannot be"),
    "overlay's whiteout device": ([header(b"a", b"3")], "0:0"),
    "device numbers": ([header(b"a", b"3", major=0o777777)], "device number"),
    "long component": ([pax((b"path", b"a" * 256)), file(b"x")], "longer than 255"),
    "long path": ([pax((b"path", b"a/" * 2100)), file(b"x")], "over the limit of 4096"),
    "long target": ([pax((b"linkpath", b"a" * 4096)), symlink(b"s", b"x")], "link target"),
    "checksum": ([file(b"a"), header(b"b", checksum=b"000001\0 ")], "checksum"),
    "checksum no number": ([header(b"b", checksum=b"zzzzzz\0 ")], "checksum"),
    "negative size": ([header(b"a", size=b"\xff" * 12)], "bad size"),
    "huge size": ([header(b"a", size=b"\x80" + b"\x7f" + b"\xff" * 10)], "bad size"),
    "size with sign": ([header(b"a", size=b"-0000000001\0")], "bad size"),
    "size with underscore": ([header(b"a", size=b"0_000000001\0")], "bad size"),
    "size with prefix": ([header(b"a", size=b"0o000000001\0")], "bad size"),
    "size with nine": ([header(b"a", size=b"00000000009\0")], "bad size"),
    "pax size negative": ([pax((b"size", b"-1")), file(b"a")], "bad size"),
    "pax size huge": ([pax((b"size", b"9" * 20)), file(b"a")], "bad size"),
    "pax uid": ([pax((b"uid", b"-5")), file(b"a")], "bad uid"),
    "pax uid too large": ([pax((b"uid", b"4294967295")), file(b"a")], "uid out of range"),
    "pax mtime": ([pax((b"mtime", b"1e400")), file(b"a")], "bad mtime"),
    "mode": ([header(b"a", mode=b"\xff" * 8)], "bad mode"),
    "pax NUL in path": ([pax((b"path", b"a\0b")), file(b"a")], "NUL"),
    "pax without key": ([extension(b"x", b"6 =ab\n"), file(b"a")], "without a key"),
    "pax short record": ([extension(b"x", b"3 a=b\n"), file(b"a")], "malformed"),
    "pax long record": ([extension(b"x", b"99 a=b\n"), file(b"a")], "malformed"),
    "pax zero record": ([extension(b"x", b"0 a=b\n"), file(b"a")], "malformed"),
    "pax no length": ([extension(b"x", b"path=a\n"), file(b"a")], "malformed"),
    "pax unicode digits": ([extension(b"x", "\u0661\u0661 path=a\n".encode()), file(b"a")], "malformed"),
    "pax bomb": ([header(b"x", b"x", size=1 << 30)], "over the limit"),
    "gnu name bomb": ([header(b"x", b"L", size=64 << 20)], "over the limit"),
    "extension chain": ([extension(b"L", b"a\0")] * 1500, "in a row"),
    "extension at the end": ([extension(b"L", b"a\0")], "after an extension"),
    "xattr too large": ([pax((b"SCHILY.xattr.user.a", b"x" * 70000)), file(b"a")], "extended attribute"),
    "sparse": ([header(b"a", b"S")], "sparse"),
    "pax sparse": ([pax((b"GNU.sparse.major", b"1")), file(b"a")], "sparse"),
    "unknown type": ([header(b"a", b"Q")], "unknown entry type"),
    "lone zero block": ([bytes(512), file(b"a")], "lone zero block"),
}  # fmt: skip


@pytest.mark.parametrize("overlay", [False, True], ids=["plain", "overlay"])
@pytest.mark.parametrize("case", REFUSED)
def test_refused(room: Room, case: str, overlay: bool) -> None:
    entries, message = REFUSED[case]
    with pytest.raises(TarError, match=message):
        room.apply(*entries, overlay=overlay)


@pytest.mark.parametrize(
    "data",
    [
        file(b"a", b"x" * 600)[:1111],
        file(b"a", b"x" * 600)[:700],
        header(b"a", size=1 << 40),
        header(b"a")[:100],
        extension(b"x", record(b"path", b"b"))[:520],
    ],
    ids=["last byte", "body", "body missing", "header", "extension"],
)
def test_truncated(room: Room, data: bytes) -> None:
    with pytest.raises(TarError, match=r"truncated|ends \d+ bytes before"):
        room.apply(data, end=b"")


def test_limits_are_named(room: Room) -> None:
    with pytest.raises(TarError, match="more than 3 entries"):
        room.apply(*[file(b"%d" % i) for i in range(5)], limits=Limits(entries=3))
    with pytest.raises(TarError, match="limit of 4096 bytes"):
        room.apply(file(b"a", b"x" * 8192), limits=Limits(total=4096))


@pytest.mark.parametrize("end", [END, b"", bytes(512), END + b"garbage"], ids=["two", "none", "one", "garbage"])
def test_ends_that_are_fine(room: Room, end: bytes) -> None:
    room.apply(file(b"a", b"x"), end=end)
    assert (room.root / "a").read_bytes() == b"x"


@pytest.mark.parametrize("padding", [0, 1, 423])
def test_the_last_body_may_have_no_padding(room: Room, padding: int) -> None:
    room.apply(file(b"a", b"x" * 600)[: 1112 + padding], end=b"")
    assert (room.root / "a").stat().st_size == 600


STAYS_INSIDE: dict[str, tuple[list[bytes], set[str]]] = {
    "absolute": ([file(b"/etc/x", b"1")], {"etc", "etc/x"}),
    "many slashes": ([file(b"//etc///./x", b"1")], {"etc", "etc/x"}),
    "absolute link as parent": ([directory(b"outside"), symlink(b"s", b"/outside"), file(b"s/f", b"1")],
                                {"outside", "s", "outside/f"}),
    "relative link as parent": ([directory(b"outside"), symlink(b"s", OUT), file(b"s/f", b"1")],
                                {"outside", "s", "outside/f"}),
    "links through proc": ([directory(b"proc"), symlink(b"s", b"/proc/self/cwd"), directory(b"proc/self"),
                            directory(b"proc/self/cwd"), file(b"s/f")],
                           {"proc", "proc/self", "proc/self/cwd", "proc/self/cwd/f", "s"}),
    "file over a link": ([symlink(b"f", b"/outside/file"), file(b"f", b"1")], {"f"}),
    "file over a relative link": ([symlink(b"f", b"../outside/file"), file(b"f", b"1")], {"f"}),
    "directory over a link": ([symlink(b"d", b"../outside/directory"), directory(b"d", 0o777), file(b"d/inner", b"1")],
                              {"d", "d/inner"}),
    "device over a link": ([symlink(b"f", b"../outside/file"), header(b"f", b"6", mode=0o666)], {"f"}),
    "link over a cached parent": ([directory(b"d"), file(b"d/a"), symlink(b"d", b"../outside/directory"),
                                   directory(b"directory"), directory(b"outside"), directory(b"outside/directory"),
                                   file(b"d/inner", b"1")],
                                  {"d", "directory", "outside", "outside/directory", "outside/directory/inner"}),
    "link over a parent's parent": ([directory(b"a"), directory(b"a/b"), file(b"a/b/c"), symlink(b"a", b"x"), directory(b"x"),
                                     file(b"a/b/d")], {"a", "x", "x/b", "x/b/d"}),
    "hard link to a link": ([symlink(b"s", b"../outside/file"), hardlink(b"h", b"s")], {"s", "h"}),
    "hard link to itself": ([file(b"a", b"1"), hardlink(b"a", b"./a")], {"a"}),
    "hard link over a file": ([file(b"a", b"1"), file(b"b", b"2"), hardlink(b"b", b"a")], {"a", "b"}),
    "tree to file": ([directory(b"d"), file(b"d/a"), directory(b"d/e"), file(b"d/e/f"), file(b"d", b"1")], {"d"}),
    "file to tree": ([file(b"d", b"1"), directory(b"d"), file(b"d/a")], {"d", "d/a"}),
    "trusted.overlay": ([pax((b"SCHILY.xattr.trusted.overlay.redirect", b"/etc"),
                             (b"SCHILY.xattr.trusted.overlay.opaque", b"y"),
                             (b"SCHILY.xattr.user.overlay.opaque", b"y")), directory(b"d")], {"d"}),
    "aufs leftovers": ([file(b".wh..wh.plnk/1.2"), file(b".wh..wh.aufs"), file(b"a")], {"a"}),
    "whiteouts without lower": ([file(b".wh.gone"), directory(b"d"), file(b"d/.wh..wh..opq"), file(b"d/a")], {"d", "d/a"}),
    "v7 directory": ([header(b"d/", b"\0", magic=b"\0" * 8, mode=0o755), file(b"d/a")], {"d", "d/a"}),
    "global header": ([extension(b"g", record(b"path", b"../outside/file")), file(b"a", b"1")], {"a"}),
    "size on a link": ([header(b"s", b"2", link=b"x", size=512), file(b"a", b"1")], {"s", "a"}),
    "mtime before 1970": ([pax((b"mtime", b"-1.5")), file(b"a")], {"a"}),
}  # fmt: skip


@pytest.mark.parametrize("case", STAYS_INSIDE)
def test_stays_inside(room: Room, case: str) -> None:
    entries, names = STAYS_INSIDE[case]
    room.apply(*entries)
    assert room.names() == names
    for name in names:
        keys = os.listxattr(room.root / name, follow_symlinks=False)
        assert not [key for key in keys if ".overlay." in key]


def test_metadata(room: Room) -> None:
    capability = struct.pack("<IIIII", 0x02000001, 1 << 10, 0, 0, 0)
    room.apply(
        directory(b"./", 0o711),
        directory(b"d", 0o1777, mtime=1000),
        pax((b"SCHILY.xattr.security.capability", capability), (b"mtime", b"1500000000.123456789")),
        file(b"d/suid", b"x", mode=0o4755, uid=7, gid=8),
        header(b"d/fifo", b"6", mode=0o620, uid=1, gid=2, mtime=5),
        header(b"d/null", b"3", mode=0o666, major=1, minor=3, mtime=6),
        symlink(b"d/link", b"/absolute"),
        pax((b"path", "d/ü".encode()), (b"uid", b"100000")),
        file(b"x"),
        file(b"d/\xff\xfe"),
        extension(b"L", b"d/" + b"n" * 200 + b"\0"),
        file(b"short", b"long"),
        file(b"e", prefix=b"d/p"),
    )
    suid = os.lstat(room.root / "d/suid")
    assert stat.S_IMODE(suid.st_mode) == 0o4755
    assert (suid.st_uid, suid.st_gid, suid.st_mtime_ns) == (7, 8, 1500000000_123456789)
    assert os.getxattr(room.root / "d/suid", "security.capability")[:8] == capability[:8]
    folder = os.lstat(room.root / "d")
    assert (stat.S_IMODE(folder.st_mode), folder.st_mtime) == (0o1777, 1000)
    fifo = os.lstat(room.root / "d/fifo")
    assert (stat.filemode(fifo.st_mode), fifo.st_uid, fifo.st_mtime) == ("prw--w----", 1, 5)
    null = os.lstat(room.root / "d/null")
    assert (stat.filemode(null.st_mode), null.st_rdev) == ("crw-rw-rw-", os.makedev(1, 3))
    assert os.readlink(room.root / "d/link") == "/absolute"
    assert os.lstat(room.root / "d/ü").st_uid == 100000
    assert b"\xff\xfe" in os.listdir(os.fsencode(room.root / "d"))
    assert (room.root / "d" / ("n" * 200)).read_bytes() == b"long"
    assert (room.root / "d/p/e").exists()
    assert stat.S_IMODE(room.root.stat().st_mode) == 0o711


def lower(room: Room) -> None:
    room.apply(
        directory(b"d"), file(b"d/a", b"1"), file(b"d/b", b"2"), directory(b"d/sub"), file(b"d/sub/x", b"3"),
        file(b"f", b"4"), symlink(b"link", b"../outside/directory"),
    )  # fmt: skip


@pytest.mark.parametrize(
    ("entries", "names"),
    [
        ([file(b".wh.f"), file(b"d/.wh.a")], {"d", "d/b", "d/sub", "d/sub/x", "link"}),
        ([file(b".wh.d")], {"f", "link"}),
        ([file(b".wh.missing")], {"d", "d/a", "d/b", "d/sub", "d/sub/x", "f", "link"}),
        ([directory(b"d"), file(b"d/.wh..wh..opq"), file(b"d/new")], {"d", "d/new", "f", "link"}),
        ([directory(b"d"), file(b"d/new"), file(b"d/.wh..wh..opq")], {"d", "d/new", "f", "link"}),
        ([file(b"d/sub/new"), file(b"d/.wh..wh..opq")], {"d", "d/sub", "d/sub/new", "f", "link"}),
        ([file(b".wh.f"), file(b"f", b"5")], {"d", "d/a", "d/b", "d/sub", "d/sub/x", "f", "link"}),
        ([file(b"f", b"5"), file(b".wh.f")], {"d", "d/a", "d/b", "d/sub", "d/sub/x", "f", "link"}),
        ([directory(b"d"), file(b"d/new"), file(b".wh.d")], {"d", "d/new", "f", "link"}),
        ([file(b".wh.d"), directory(b"d"), file(b"d/new")], {"d", "d/new", "f", "link"}),
        ([file(b".wh..wh..opq"), file(b"new")], {"new"}),
        ([file(b".wh.link")], {"d", "d/a", "d/b", "d/sub", "d/sub/x", "f"}),
    ],
)
def test_whiteouts_in_the_union(room: Room, entries: list[bytes], names: set[str]) -> None:
    lower(room)
    room.apply(*entries, lower=True)
    assert room.names() == names


def test_whiteout_below_a_link_that_leads_out_is_harmless(room: Room) -> None:
    lower(room)
    with pytest.raises(TarError):  # resolved in the root the link leads nowhere
        room.apply(file(b"link/.wh.inner"), file(b"link/.wh..wh..opq"), lower=True)


def test_whiteouts_in_overlay_dialect(room: Room) -> None:
    room.apply(
        directory(b"d"), file(b"d/.wh..wh..opq"), file(b"d/a"), file(b".wh.gone"),
        file(b".wh.turned"), directory(b"turned"), file(b"turned/a"),
        file(b"kept", b"1"), file(b".wh.kept"), directory(b"own"), file(b".wh.own"), file(b".wh.f"), file(b"f", b"2"),
        overlay=True, lower=True,
    )  # fmt: skip
    gone = os.lstat(room.root / "gone")
    assert stat.S_ISCHR(gone.st_mode)
    assert gone.st_rdev == 0
    opaque = {
        name for name in ("d", "turned", "own") if os.getxattr(room.root / name, "trusted.overlay.opaque") == b"y"
    }
    assert opaque == {"d", "turned", "own"}
    assert (room.root / "kept").read_bytes() == b"1"
    assert (room.root / "f").read_bytes() == b"2"


@pytest.mark.parametrize(
    "entries",
    [
        [hardlink(b"a", b"bin/sh")],
        [file(b".wh..wh..opq")],
        [symlink(b"lib", b"usr/lib"), file(b"lib/new")],
        [file(b"%d/" % number + b"x" * 90 + b"/f") for number in range(2800)],
    ],
    ids=["hard link", "opaque root", "parent behind a link", "too many parents"],
)
def test_overlay_dialect_asks_for_the_union(room: Room, entries: list[bytes]) -> None:
    with pytest.raises(NeedsLower):
        room.left_open(*entries)


@pytest.mark.parametrize(
    ("entries", "directories"),
    [
        ([file(b"etc/new/passwd", b"x"), file(b"etc/group")], [b"etc", b"etc/new"]),
        ([file(b"etc/.wh.passwd")], [b"etc"]),
        ([file(b"a/b/c"), directory(b"a/b")], [b"a"]),
        ([file(b"a/b/c"), file(b"a/b")], [b"a"]),
        ([file(b"a/b/c"), file(b"a/b"), directory(b"a/b"), directory(b"a")], []),
        ([file(b"a/b/c"), symlink(b"a", b"d"), file(b"d/e")], [b"d"]),
        ([file(b"a/b/c"), symlink(b"l", b"a/b"), directory(b"l/"), symlink(b"m", b"a"), directory(b"m/b")], [b"a"]),
    ],
    ids=[
        "parents",
        "whiteout's parent",
        "named later",
        "replaced",
        "replaced and named",
        "by a link",
        "by another way",
    ],
)
def test_what_an_overlay_layer_leaves_open(room: Room, entries: list[bytes], directories: list[bytes]) -> None:
    assert room.left_open(*entries)["directories"] == [os.fsdecode(path) for path in directories]


def test_an_entry_for_the_root_is_left_open(room: Room) -> None:
    top = pax((b"SCHILY.xattr.user.x", b"\xff")) + directory(b"./", mode=0o1750, uid=5, gid=6, mtime=7)
    assert room.left_open(top, file(b"a"))["root"] == {
        "uid": 5, "gid": 6, "mode": 0o1750, "mtime_ns": 7_000_000_000, "xattrs": {"user.x": "\udcff"},
    }  # fmt: skip
    assert room.left_open(file(b"b"))["root"] is None
    much = {b"user.%d" % number: bytes(60 << 10) for number in range(5)}  # more than most file systems take
    with pytest.raises(NeedsLower):
        LeftOpen(root=Member(b".", "dir", 0, 0o755, 0, 0, 0, b"", 0, 0, much)).said()


def test_default_acl_is_not_inherited(room: Room) -> None:
    acl = struct.pack("<I", 2) + b"".join(
        struct.pack("<HHI", tag, perm, 0xFFFFFFFF) for tag, perm in ((1, 7), (4, 0), (32, 0))
    )
    try:
        os.setxattr(room.outside.parent / "root", "system.posix_acl_default", acl)
        os.removexattr(room.outside.parent / "root", "system.posix_acl_default")
    except OSError:
        pytest.skip("this file system has no ACLs")
    room.apply(pax((b"SCHILY.xattr.system.posix_acl_default", acl)), directory(b"d"), directory(b"d/sub"), file(b"d/f"))
    assert os.getxattr(room.root / "d", "system.posix_acl_default") == acl
    assert os.listxattr(room.root / "d/sub") == []


def test_deep_trees_are_replaced_without_recursion(room: Room) -> None:
    parts = 1500
    entries = [directory(b"d")]
    entries += [pax((b"path", b"d/" + b"e/" * depth)) + directory(b"x") for depth in range(100, parts, 100)]
    room.apply(*entries, file(b"d", b"1"))
    assert room.names() == {"d"}


def test_descriptors_are_not_kept(room: Room) -> None:
    before = len(os.listdir("/proc/self/fd"))
    room.apply(*[entry for i in range(400) for entry in (directory(b"d%d" % i), file(b"d%d/f" % i))])
    with pytest.raises(TarError):
        room.apply(symlink(b"s", b"nowhere"), file(b"s/f"))
    assert len(os.listdir("/proc/self/fd")) == before


# --- against other readers ---------------------------------------------------------------------------------------


def build_tree(root: Path) -> None:
    for number in range(30):
        folder = root / f"d{number % 5}" / f"e{number}"
        folder.mkdir(parents=True)
        (folder / "file").write_bytes(bytes([number]) * (number * 997))
        (folder / ("n" * 150)).write_text("long")
        os.link(folder / "file", folder / "hard")
        (folder / "soft").symlink_to("../file")
        os.chown(folder / "file", number, number + 1)
        (folder / "file").chmod(0o4711)
        os.utime(folder / "file", ns=(10**18 + number, 10**18 + number))
    os.mkfifo(root / "fifo", 0o640)
    os.mknod(root / "null", stat.S_IFCHR | 0o666, os.makedev(1, 3))
    (root / "ünï").write_text("name")
    Path(os.fsdecode(os.fsencode(root) + b"/\xff")).write_text("bytes")
    for where, directories, _ in os.walk(root, topdown=False):
        for name in directories:
            os.utime(os.path.join(where, name), ns=(5 * 10**17, 5 * 10**17))


@pytest.mark.parametrize("form", ["gnu", "pax", "ustar"])
def test_equals_gnu_tar(tmp_path: Path, form: str) -> None:
    source, theirs, ours = tmp_path / "source", tmp_path / "theirs", tmp_path / "ours"
    for folder in (source, theirs, ours):
        folder.mkdir()
    build_tree(source)
    archive = tmp_path / "layer.tar"
    subprocess.run(["tar", f"--format={form}", "--xattrs", "-C", source, "-cf", archive, "."], check=True)
    subprocess.run(["tar", "--xattrs", "--numeric-owner", "--same-owner", "-C", theirs, "-xpf", archive], check=True)
    fd = os.open(ours, os.O_RDONLY)
    mask = os.umask(0)
    try:
        with archive.open("rb") as stream:
            LayerApplier(fd, overlay=False, lower=False).apply(TarReader(decompressed(stream.read)))
    finally:
        os.umask(mask)
        os.close(fd)
    assert snapshot(ours) == snapshot(theirs)
    assert len(snapshot(ours)) > 150


def test_reads_what_tarfile_writes(tmp_path: Path) -> None:
    for form in (tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT):
        out = BytesIO()
        with tarfile.open(fileobj=out, mode="w", format=form) as archive:
            info = tarfile.TarInfo("a/" * 40 + "name")
            info.size, info.uid, info.mtime = 3, 70000, 1234567890
            archive.addfile(info, BytesIO(b"abc"))
        reader = TarReader(iter([out.getvalue()]))
        member = reader.next()
        assert member is not None
        assert (member.name, member.uid, member.size, reader.read(10)) == (b"a/" * 40 + b"name", 70000, 3, b"abc")
        assert reader.next() is None


# --- compressed streams ------------------------------------------------------------------------------------------


def packers() -> dict[str, Callable[[bytes], bytes]]:
    import bz2
    import gzip
    import lzma

    from backports import zstd

    return {
        "gzip": gzip.compress,
        "zstd": zstd.compress,
        "bzip2": bz2.compress,
        "xz": lzma.compress,
        "plain": lambda data: data,
    }


DATA = b"".join(b"%d" % i for i in range(200_000)) + bytes(5 << 20)


@pytest.mark.parametrize("kind", packers())
@pytest.mark.parametrize("step", [77, 1 << 20])
def test_streams(kind: str, step: int) -> None:
    pack = packers()[kind]
    packed = BytesIO(pack(DATA) + (pack(b"second") if kind != "plain" else b"second"))
    pieces = list(decompressed(lambda count: packed.read(min(count, step) if kind == "plain" or step > 77 else 7777)))
    assert b"".join(pieces) == DATA + b"second"
    assert max(len(piece) for piece in pieces) <= 1 << 20


@pytest.mark.parametrize("kind", ["gzip", "zstd", "bzip2", "xz"])
def test_damaged_streams(kind: str) -> None:
    packed = packers()[kind](DATA)
    with pytest.raises(StreamError, match="ends early"):
        list(decompressed(BytesIO(packed[:-3]).read))
    with pytest.raises(StreamError):
        list(decompressed(BytesIO(packed + b"garbage").read))
    wrong = bytearray(packed)
    wrong[len(wrong) // 2] ^= 0xFF
    if kind == "zstd":  # its frames carry no checksum here: the layer's diff id is what notices
        assert b"".join(decompressed(BytesIO(bytes(wrong)).read)) != DATA
        return
    with pytest.raises(StreamError):
        list(decompressed(BytesIO(bytes(wrong)).read))


def test_zstd_windows_are_bounded() -> None:
    from backports import zstd

    names = zstd.CompressionParameter
    options: dict[int, int] = {names.window_log: 30, names.content_size_flag: 0}
    compressor = zstd.ZstdCompressor(options=options)
    packed = compressor.compress(os.urandom(1 << 16)) + compressor.flush()
    with pytest.raises(StreamError):
        list(decompressed(BytesIO(packed).read))
