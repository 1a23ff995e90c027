"""A streaming tar writer: ustar headers, pax extended headers where those do not suffice (POSIX.1-2017 pax).

Standard library only, no codecs looked up, nothing imported later: it runs in a container's mount namespace.
"""

from __future__ import annotations

import os
import stat
import struct

__all__ = ["BLOCK", "TarWriter"]

BLOCK = 512
_HEADER = struct.Struct("100s8s8s8s12s12s8s1s100s6s2s32s32s8s8s155s12x")
_SMALL = 1 << 16
_BUFFER = 1 << 18
_OCTAL_ID = 1 << 21
_OCTAL_SIZE = 1 << 33
_KINDS = {
    stat.S_IFREG: b"0", stat.S_IFLNK: b"2", stat.S_IFCHR: b"3", stat.S_IFBLK: b"4", stat.S_IFDIR: b"5", stat.S_IFIFO: b"6",
}  # fmt: skip


class TarWriter:
    """Writes an archive to the descriptor *out*. *nanoseconds*: times are kept whole, in pax headers.

    `owner` and `mode`, where they are set, replace what files have.
    """

    def __init__(self, out: int, *, nanoseconds: bool = False) -> None:
        self._out = out
        self._nanoseconds = nanoseconds
        self._buffer = bytearray()
        self.owner: tuple[int, int] | None = None
        self.mode: int | None = None

    def add(
        self, name: bytes, found: os.stat_result, *, body: int = -1, link: bytes = b"", hard: bool = False,
        xattrs: dict[bytes, bytes] | None = None,
    ) -> None:  # fmt: skip
        """One entry. *body* is a descriptor of a regular file; *link* is the target of a symbolic or *hard* link."""
        kind = stat.S_IFMT(found.st_mode)
        size = found.st_size if kind == stat.S_IFREG and not hard else 0
        self._header(name, found, b"1" if hard else _KINDS[kind], size, link, xattrs or {})
        if size:
            self._body(body, size)

    def directory(self, name: bytes, mtime_ns: int) -> None:
        """A directory that is nowhere yet; *name* ends with a slash."""
        uid, gid = self.owner or (0, 0)
        prefix, short = _split(name)
        records = {b"uid": b"%d" % uid, b"gid": b"%d" % gid, **({b"path": name} if short is None else {})}
        self._records(short or name[:100], records)
        mode = 0o755 if self.mode is None else self.mode
        self._buffer += _block(
            short or name[:100],
            b"5",
            mode,
            uid % _OCTAL_ID,
            gid % _OCTAL_ID,
            0,
            mtime_ns // 1_000_000_000,
            prefix=prefix,
        )
        self._spill()

    def whiteout(self, name: bytes) -> None:
        """An empty file of that name, for "this is gone" in a layer (OCI image-spec, layer.md "Whiteouts")."""
        self._buffer += _block(name, b"0", 0, 0, 0, 0, 0)
        self._spill()

    def finish(self) -> None:
        """The end of the archive; everything is written."""
        self._buffer += bytes(2 * BLOCK)
        self.flush()

    def flush(self) -> None:
        """Write what is held back."""
        view = memoryview(self._buffer)
        position = 0
        while position < len(view):
            position += os.write(self._out, view[position:])
        view.release()
        self._buffer.clear()

    def _spill(self) -> None:
        if len(self._buffer) >= _BUFFER:
            self.flush()

    def _header(
        self, name: bytes, found: os.stat_result, kind: bytes, size: int, link: bytes, xattrs: dict[bytes, bytes]
    ) -> None:
        records = {b"SCHILY.xattr." + key: value for key, value in xattrs.items()}
        prefix, short = _split(name)
        if short is None:
            records[b"path"], prefix, short = name, b"", name[:100]
        if len(link) > 100:
            records[b"linkpath"] = link
        if size >= _OCTAL_SIZE:
            records[b"size"] = b"%d" % size
        uid, gid = self.owner or (found.st_uid, found.st_gid)
        mode = stat.S_IMODE(found.st_mode) if self.mode is None or kind == b"2" else self.mode
        for key, number in ((b"uid", uid), (b"gid", gid)):
            if number >= _OCTAL_ID:
                records[key] = b"%d" % number
        seconds, fraction = divmod(self._time(found), 1_000_000_000)
        if (self._nanoseconds and fraction) or not 0 <= seconds < _OCTAL_SIZE:
            records[b"mtime"] = b"%d.%09d" % (seconds, fraction)
        if records:
            self._records(short, records)
        major, minor = (os.major(found.st_rdev), os.minor(found.st_rdev)) if kind in b"34" else (0, 0)
        self._buffer += _block(
            short, kind, mode, uid % _OCTAL_ID, gid % _OCTAL_ID,
            size % _OCTAL_SIZE, min(max(0, seconds), _OCTAL_SIZE - 1), link[:100], major, minor, prefix,
        )  # fmt: skip
        self._spill()

    def _records(self, short: bytes, records: dict[bytes, bytes]) -> None:
        data = b"".join(_record(key, value) for key, value in records.items())
        self._buffer += _block(b"PaxHeaders/" + short[-80:], b"x", 0o644, 0, 0, len(data), 0)
        self._buffer += data + bytes(-len(data) % BLOCK)

    def _time(self, found: os.stat_result) -> int:
        return found.st_mtime_ns

    def _body(self, fd: int, size: int) -> None:
        """The bytes of a file as long as its header says: it may shrink or grow meanwhile."""
        left = size
        if size > _SMALL:
            self.flush()
            try:
                while left and (sent := os.sendfile(self._out, fd, None, min(left, 1 << 24))):
                    left -= sent
            except OSError as error:
                if left != size or error.errno != 22:  # EINVAL: not every file system can
                    raise
        while left and (piece := os.read(fd, min(left, _BUFFER))):
            self._buffer += piece
            left -= len(piece)
            self._spill()
        while left:
            zeros = min(left, _BUFFER)
            self._buffer += bytes(zeros)
            left -= zeros
            self._spill()
        self._buffer += bytes(-size % BLOCK)
        self._spill()


def _split(name: bytes) -> tuple[bytes, bytes | None]:
    """Prefix and name of a ustar header; None when it does not fit."""
    if len(name) <= 100:
        return b"", name
    if len(name) <= 256:
        cut = name.rfind(b"/", 0, 156)
        if cut > 0 and 0 < len(name) - cut - 1 <= 100:
            return name[:cut], name[cut + 1 :]
    return b"", None


def _block(
    name: bytes, kind: bytes, mode: int, uid: int, gid: int, size: int, seconds: int, link: bytes = b"", major: int = 0,
    minor: int = 0, prefix: bytes = b"",
) -> bytes:  # fmt: skip
    block = bytearray(
        _HEADER.pack(
            name, b"%07o" % mode, b"%07o" % uid, b"%07o" % gid, b"%011o" % size, b"%011o" % seconds, b" " * 8, kind, link,
            b"ustar", b"00", b"", b"", b"%07o" % major, b"%07o" % minor, prefix,
        )
    )  # fmt: skip
    block[148:156] = b"%06o\0 " % sum(block)
    return bytes(block)


def _record(key: bytes, value: bytes) -> bytes:
    """``LENGTH key=value\\n``, where the length counts itself."""
    rest = b" " + key + b"=" + value + b"\n"
    length = len(rest) + 1
    while len(b"%d" % length) + len(rest) != length:
        length = len(b"%d" % length) + len(rest)
    return b"%d" % length + rest
