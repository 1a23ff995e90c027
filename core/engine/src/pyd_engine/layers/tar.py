"""A strict, streaming tar reader for layers and image archives.

`tarfile` is no reader for what strangers send: it ends silently at a damaged header, accepts truncated archives and negative
sizes, and recurses per extension header. This one knows ustar, pax (with ``SCHILY.xattr.*``), GNU long names and base-256
numbers, checks every header's sum, bounds everything before it is read, and never recurses. It works on chunks and hands file
bodies out as slices of them. Standard library only: the unpack worker runs without our other packages.

Sources: POSIX.1-2017 pax "ustar Interchange Format" and "pax Extended Header"; GNU tar manual "Basic Tar Format".
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

__all__ = ["BLOCK", "Limits", "Member", "TarError", "TarReader", "shown", "split_name"]

BLOCK = 512
_ZERO = bytes(BLOCK)
_EXTENSIONS_IN_A_ROW = 16
_MAX_SECONDS = (1 << 63) // 1_000_000_000 - 1
_KINDS = {
    b"0": "file", b"\0": "file", b"7": "file", b"1": "hardlink", b"2": "symlink",
    b"3": "char", b"4": "block", b"5": "dir", b"6": "fifo",
}  # fmt: skip
_DECIMAL = re.compile(rb"([0-9]{1,20})")
_TIME = re.compile(rb"(-?)([0-9]{1,20})(?:\.([0-9]{0,40}))?")
_XATTR = b"SCHILY.xattr."


class TarError(ValueError):
    """The archive breaks a rule. The message names the entry and the rule."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What one archive may ask for. Bytes unless said otherwise."""

    entries: int = 4_000_000
    total: int = 256 << 30
    header: int = 1 << 20
    xattr: int = 64 << 10
    path: int = 4096
    component: int = 255


@dataclass(slots=True)
class Member:
    """One entry. *name* and *link* are raw bytes without NUL; *kind* is file, hardlink, symlink, char, block, dir or fifo.

    size      bytes of body; 0 for everything that is no file
    mode      permission bits with setuid, setgid and sticky
    mtime_ns  nanoseconds since the epoch, never negative
    """

    name: bytes
    kind: str
    size: int
    mode: int
    uid: int
    gid: int
    mtime_ns: int
    link: bytes
    major: int
    minor: int
    xattrs: dict[bytes, bytes] = field(default_factory=dict)


def shown(name: bytes) -> str:
    """A name fit for a message: quoted, control characters and non-UTF-8 bytes escaped, at most 200 characters."""
    text = name[:600].decode("utf-8", "backslashreplace")
    text = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
    return f'"{text}"' if len(text) <= 200 else f'"{text[:197]}..."'


def split_name(name: bytes, limits: Limits) -> tuple[bytes, ...]:
    """The components of a name below the root: leading slashes, ``.`` and empty ones dropped.

    Raises TarError for ``..`` anywhere (a layer has no use for it) and for what no file system holds.
    """
    parts = tuple([part for part in name.split(b"/") if part and part != b"."])
    for part in parts:
        if part == b"..":
            raise TarError(f"entry {shown(name)}: '..' in the name would leave the root")
        if len(part) > limits.component:
            raise TarError(f"entry {shown(name)}: a part of the name is longer than {limits.component} bytes")
    return parts


class TarReader:
    """Entries of one archive, in order, from an iterator of non-empty chunks of bytes.

    >>> reader = TarReader(iter([bytes(1024)]))
    >>> reader.next() is None
    True
    """

    def __init__(self, chunks: Iterator[bytes], limits: Limits | None = None) -> None:
        self.limits = limits or Limits()
        self.entries = 0
        self.offset = 0
        self._chunks = chunks
        self._view = memoryview(b"")
        self._left = 0
        self._padding = 0
        self._current = b""
        self._done = False

    def next(self) -> Member | None:
        """The next entry; None after the last. What was not read of the body before is skipped."""
        if self._done:
            return None
        self._skip_body()
        overrides: dict[bytes, bytes] = {}
        for _ in range(_EXTENSIONS_IN_A_ROW):
            block = self._block()
            if block is None:
                if overrides:
                    raise TarError(f"archive: ends after an extension header at offset {self.offset}")
                self._done = True
                return None
            kind = block[156:157]
            if kind not in b"xgLKX" or kind == b"\0":
                return self._member(block, kind, overrides)
            size = self._size(block[124:136], b"extension header")
            if size > self.limits.header:
                raise TarError(
                    f"archive: an extension header of {size} bytes at offset {self.offset} is over the limit "
                    f"of {self.limits.header}"
                )
            data = self._take(size, b"extension header")
            self._take(-size % BLOCK, b"extension header")
            if kind in b"xX":
                overrides.update(_pax(data, self.limits))
            elif kind == b"L":
                overrides[b"path"] = data.split(b"\0", 1)[0]
            elif kind == b"K":
                overrides[b"linkpath"] = data.split(b"\0", 1)[0]
        raise TarError(f"archive: more than {_EXTENSIONS_IN_A_ROW} extension headers in a row at offset {self.offset}")

    def body(self) -> Iterator[memoryview]:
        """What is left of the current file's body, in slices that are valid until the next call on this reader."""
        while self._left:
            if not self._view and not self._fill():
                raise TarError(f"entry {shown(self._current)}: the archive ends {self._left} bytes before its end")
            piece = self._view[: self._left]
            self._view = self._view[len(piece) :]
            self._left -= len(piece)
            self.offset += len(piece)
            yield piece

    def read(self, most: int) -> bytes:
        """The whole body, which must not be longer than *most* bytes."""
        if self._left > most:
            raise TarError(f"entry {shown(self._current)}: {self._left} bytes are over the limit of {most}")
        return b"".join(self.body())

    def drain(self) -> None:
        """Read to the end of the stream. What follows the end mark is ignored: POSIX lets writers leave garbage there."""
        while self.next() is not None:
            pass
        self._view = memoryview(b"")
        for chunk in self._chunks:
            self.offset += len(chunk)

    # --- blocks --------------------------------------------------------------------------------------------------

    def _fill(self) -> bool:
        for chunk in self._chunks:
            if chunk:
                self._view = memoryview(chunk)
                return True
        return False

    def _take(self, count: int, what: bytes) -> bytes:
        if count <= len(self._view):
            piece = bytes(self._view[:count])
            self._view = self._view[count:]
            self.offset += count
            return piece
        pieces = []
        missing = count
        while missing:
            if not self._view and not self._fill():
                raise TarError(f"archive: truncated in {shown(what)} at offset {self.offset}")
            piece = bytes(self._view[:missing])
            self._view = self._view[len(piece) :]
            self.offset += len(piece)
            missing -= len(piece)
            pieces.append(piece)
        return b"".join(pieces)

    def _skip_body(self) -> None:
        left = self._left + self._padding
        while left:
            if not self._view and not self._fill():
                if left > self._padding:
                    raise TarError(f"entry {shown(self._current)}: the archive ends {left} bytes before its end")
                break  # the last body has no padding: so docker's client sends a recipe that it adds to a context
            step = min(left, len(self._view))
            self._view = self._view[step:]
            self.offset += step
            left -= step
        self._left = self._padding = 0

    def _block(self) -> bytes | None:
        """The next header block, its sum checked; None at the end mark or a clean end of the stream."""
        if not self._view and not self._fill():
            return None
        block = self._take(BLOCK, b"header")
        if block == _ZERO:
            if not self._view and not self._fill():
                return None
            if self._take(BLOCK, b"end mark") != _ZERO:
                raise TarError(f"archive: a lone zero block before offset {self.offset}")
            return None
        stored = _number(block[148:156])
        field_sum = sum(block[148:156])
        if stored != sum(block) - field_sum + 256:
            signed = sum(byte - 256 if byte > 127 else byte for byte in block[:148] + block[156:]) + 256
            if stored != signed:
                raise TarError(f"archive: wrong header checksum at offset {self.offset - BLOCK}")
        return block

    # --- headers -------------------------------------------------------------------------------------------------

    def _size(self, raw: bytes, name: bytes) -> int:
        size = _number(raw)
        if size is None or size < 0 or size >= 1 << 62:
            raise TarError(f"entry {shown(name)}: bad size field {shown(raw)}")
        return size

    def _member(self, block: bytes, kind: bytes, overrides: dict[bytes, bytes]) -> Member:
        self.entries += 1
        if self.entries > self.limits.entries:
            raise TarError(f"archive: more than {self.limits.entries} entries")
        name = overrides.get(b"path")
        if name is None:
            name = block[:100].split(b"\0", 1)[0]
            if block[257:263] == b"ustar\0" and block[345]:
                name = block[345:500].split(b"\0", 1)[0] + b"/" + name
        self._current = name
        if not name:
            raise TarError(f"archive: an entry without a name at offset {self.offset - BLOCK}")
        if len(name) > self.limits.path:
            raise TarError(f"entry {shown(name)}: name of {len(name)} bytes is over the limit of {self.limits.path}")
        word = _KINDS.get(kind)
        if word is None:
            reason = "sparse files are not supported" if kind == b"S" else f"unknown entry type {shown(kind)}"
            raise TarError(f"entry {shown(name)}: {reason}")
        if kind == b"\0" and name.endswith(b"/"):
            word = "dir"
        link = b""
        if word in ("hardlink", "symlink"):
            link = overrides.get(b"linkpath") or block[157:257].split(b"\0", 1)[0]
            if not link or len(link) >= self.limits.path:
                raise TarError(f"entry {shown(name)}: a link target of {len(link)} bytes")
        size = self._size(block[124:136], name)
        if b"size" in overrides:
            size = _unsigned(overrides[b"size"], "size", name)
        if word != "file":
            size = 0
        if self.offset + size > self.limits.total:
            raise TarError(
                f"entry {shown(name)}: the archive unpacks to more than the limit of {self.limits.total} bytes"
            )
        mode = _number(block[100:108])
        uid = _unsigned(overrides[b"uid"], "uid", name) if b"uid" in overrides else _number(block[108:116])
        gid = _unsigned(overrides[b"gid"], "gid", name) if b"gid" in overrides else _number(block[116:124])
        major = minor = 0
        if word in ("char", "block"):
            major, minor = _number(block[329:337]) or 0, _number(block[337:345]) or 0
            if not (0 <= major < 1 << 12 and 0 <= minor < 1 << 20):
                raise TarError(f"entry {shown(name)}: device number {major}:{minor} out of range")
        if mode is None or not 0 <= mode < 1 << 32:
            raise TarError(f"entry {shown(name)}: bad mode field {shown(block[100:108])}")
        for value, what in ((uid, "uid"), (gid, "gid")):
            if value is None or not 0 <= value < (1 << 32) - 1:
                raise TarError(f"entry {shown(name)}: {what} out of range")
        self._left, self._padding = size, -size % BLOCK
        mtime = _time(overrides[b"mtime"], name) if b"mtime" in overrides else _epoch(_number(block[136:148]))
        xattrs = {key[len(_XATTR) :]: value for key, value in overrides.items() if key.startswith(_XATTR)}
        return Member(name, word, size, mode & 0o7777, uid or 0, gid or 0, mtime, link, major, minor, xattrs)


def _number(raw: bytes) -> int | None:
    """Octal digits padded with spaces or NUL, or base-256 when the first bit is set; None when it is neither."""
    if raw[0] & 0x80:
        value = int.from_bytes(bytes([raw[0] & 0x7F]) + raw[1:], "big")
        return value - (1 << (8 * len(raw) - 1)) if raw[0] & 0x40 else value
    digits = raw.strip(b" \0").split(b"\0", 1)[0].rstrip(b" ")
    if not digits:
        return 0
    if not digits.isdigit():
        return None
    try:
        return int(digits, 8)
    except ValueError:
        return None


def _unsigned(raw: bytes, what: str, name: bytes) -> int:
    match = _DECIMAL.fullmatch(raw)
    if match is None or int(raw) >= 1 << 62:
        raise TarError(f"entry {shown(name)}: bad {what} {shown(raw)} in the pax header")
    return int(raw)


def _epoch(seconds: int | None) -> int:
    """Nanoseconds; what lies before 1970 or beyond the kernel's range becomes 1970, as Docker does."""
    return seconds * 1_000_000_000 if seconds is not None and 0 <= seconds <= _MAX_SECONDS else 0


def _time(raw: bytes, name: bytes) -> int:
    match = _TIME.fullmatch(raw)
    if match is None:
        raise TarError(f"entry {shown(name)}: bad mtime {shown(raw)} in the pax header")
    if match[1]:
        return 0
    nanoseconds = int((match[3] or b"")[:9].ljust(9, b"0"))
    whole = _epoch(int(match[2]))
    return whole + nanoseconds if whole or int(match[2]) == 0 else 0


def _pax(data: bytes, limits: Limits) -> dict[bytes, bytes]:
    """``"%d %s=%s\\n"`` records; an empty value takes an override back."""
    records: dict[bytes, bytes] = {}
    position = 0
    while position < len(data):
        space = data.find(b" ", position, position + 21)
        match = _DECIMAL.fullmatch(data, position, space) if space > 0 else None
        end = position + int(match[1]) if match else 0
        if match is None or not space < end - 1 < len(data) or data[end - 1] != 0x0A:
            raise TarError(f"archive: malformed pax record {shown(data[position : position + 40])}")
        key, equals, value = data[space + 1 : end - 1].partition(b"=")
        if not key or not equals:
            raise TarError(f"archive: pax record without a key {shown(data[position:end][:40])}")
        if key.startswith(b"GNU.sparse."):
            raise TarError("archive: sparse files (GNU.sparse in a pax header) are not supported")
        if key.startswith(_XATTR):
            if len(value) > limits.xattr or not 0 < len(key) - len(_XATTR) <= 255 or b"\0" in key:
                raise TarError(f"archive: extended attribute {shown(key)} of {len(value)} bytes is over the limit")
        elif b"\0" in value and key in (b"path", b"linkpath"):
            raise TarError(f"archive: a NUL byte in the pax record {shown(key)}")
        if value or key.startswith(_XATTR):
            records[key] = value
        else:
            records.pop(key, None)
        position = end
    return records
