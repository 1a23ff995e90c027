"""The context of a build as a tar, made while it is read: what is sent is never whole in memory.

The archive is written here and not by tarfile, which takes four times as long for many small files. Headers are
those of docker's command line: everything belongs to root, times are whole seconds, names that do not fit (or are
not ASCII) go in a pax record, as do file capabilities.
"""

from __future__ import annotations

import os
import stat
import time
from collections.abc import Iterator, Mapping, Sequence

from pyd_cli.dockerignore import NAME as IGNORE_NAME
from pyd_cli.dockerignore import Ignore
from pyd_cli.errors import CliError

BLOCK = 512
PIECE = 65536
RECORD = 20 * BLOCK
CAPABILITY = "security.capability"
_LIMIT = 8 << 30  # what eleven octal digits do not hold

REGULAR, HARD, SYMBOLIC, CHARACTER, BLOCK_DEVICE, DIRECTORY, FIFO = b"0", b"1", b"2", b"3", b"4", b"5", b"6"


def header(
    name: bytes, kind: bytes, mode: int, size: int = 0, mtime: int = 0, link: bytes = b"", device: int = 0,
    extra: Mapping[str, bytes] | None = None,
) -> bytes:  # fmt: skip
    """The blocks before a member's content."""
    records = {key.encode(): value for key, value in (extra or {}).items()}
    if len(name) > 100 or not name.isascii():
        records[b"path"] = name
    if len(link) > 100 or not link.isascii():
        records[b"linkpath"] = link
    if size >= _LIMIT:
        records[b"size"] = b"%d" % size
    if not 0 <= mtime < _LIMIT:
        records[b"mtime"] = b"%d" % mtime
    before = b""
    if records:
        content = b"".join(_record(key, value) for key, value in records.items())
        before = _plain(b"PaxHeaders/member", b"x", 0o644, len(content), 0, b"", 0) + padded(content)
    return before + _plain(name, kind, mode, size % _LIMIT, mtime if b"mtime" not in records else 0, link, device)


def _record(key: bytes, value: bytes) -> bytes:
    """`LENGTH KEY=VALUE`, where the length counts its own digits."""
    rest = len(key) + len(value) + 3
    length = rest + len(str(rest))
    length = rest + len(str(length))
    return b"%d %b=%b\n" % (length, key, value)


def _plain(name: bytes, kind: bytes, mode: int, size: int, mtime: int, link: bytes, device: int) -> bytes:
    head = b"%b%07o\x000000000\x000000000\x00%011o\x00%011o\x00" % (
        name[:100].ljust(100, b"\0"), mode & 0o7777, size, mtime,
    )  # fmt: skip
    tail = b"%b%bustar\x0000%b%07o\x00%07o\x00%b" % (
        kind, link[:100].ljust(100, b"\0"), bytes(64), os.major(device), os.minor(device), bytes(167),
    )  # fmt: skip
    checksum = sum(head) + sum(tail) + 8 * 32
    return b"%b%06o\x00 %b" % (head, checksum, tail)


def padded(content: bytes) -> bytes:
    return content + bytes(-len(content) % BLOCK)


END = bytes(2 * BLOCK)


def single(name: str, content: bytes, mode: int = 0o600, mtime: int | None = None) -> bytes:
    """A regular file as member; of now, when it has no time."""
    mtime = int(time.time()) if mtime is None else mtime
    return header(os.fsencode(name), REGULAR, mode, len(content), mtime) + padded(content)


class Stream:
    """An iterator of pieces as the file that an HTTP body is read from; `sent` counts what was handed out."""

    def __init__(self, pieces: Iterator[bytes]) -> None:
        self._pieces = pieces
        self.sent = 0

    def read(self, _size: int = -1) -> bytes:
        """The next piece, of some 64 KiB; b"" at the end."""
        gathered: list[bytes] = []
        length = 0
        for piece in self._pieces:
            gathered.append(piece)
            length += len(piece)
            if length >= PIECE:
                break
        self.sent += length
        return b"".join(gathered)


class Walk:
    """The members of a directory that `ignore` does not leave out, sorted, each with its content.

    `replaced` is content that stands in the archive instead of what the directory has under that name in its root, or
    at the end, for root alone, where it has nothing.
    """

    def __init__(self, root: str, ignore: Ignore, replaced: Mapping[str, bytes] | None = None) -> None:
        self.root = root
        self.ignore = ignore
        self.replaced = dict(replaced or {})
        self._links: dict[tuple[int, int], bytes] = {}

    def archive(self) -> Iterator[bytes]:
        yield from self._directory(self.root, "", None)
        for name, content in self.replaced.items():
            yield single(name, content)
        yield END

    def _directory(self, path: str, below: str, verdicts: Sequence[bool] | None) -> Iterator[bytes]:
        try:
            with os.scandir(path) as listing:
                entries = sorted(listing, key=lambda entry: os.fsencode(entry.name))
        except PermissionError:
            raise CliError(f"error checking context: can't stat '{path}'") from None
        except OSError as fault:
            raise vanished(path, fault) from fault
        for entry in entries:
            name = f"{below}{entry.name}"
            left_out, found = self.ignore.judge(name, verdicts)
            if name in self.replaced:
                status = entry.stat()
                content = self.replaced.pop(name)
                yield single(name, content, status.st_mode, status.st_mtime_ns // 10**9)
                continue
            directory = entry.is_dir(follow_symlinks=False)
            if not left_out:
                yield from self._member(entry, name)
            elif not directory or not self.ignore.may_hold_exceptions(name):
                continue
            if directory:
                yield from self._directory(entry.path, f"{name}/", found)

    def _member(self, entry: os.DirEntry[str], name: str) -> Iterator[bytes]:
        raw = os.fsencode(name)
        try:
            status = entry.stat(follow_symlinks=False)
            mode, mtime = status.st_mode, status.st_mtime_ns // 10**9
            if stat.S_ISREG(mode):
                yield from self._regular(entry.path, raw)
            elif stat.S_ISDIR(mode):
                yield header(raw + b"/", DIRECTORY, mode, 0, mtime)
            elif stat.S_ISLNK(mode):
                yield header(raw, SYMBOLIC, mode, 0, mtime, os.fsencode(os.readlink(entry.path)))
            elif stat.S_ISFIFO(mode):
                yield header(raw, FIFO, mode, 0, mtime)
            elif stat.S_ISCHR(mode) or stat.S_ISBLK(mode):
                kind = CHARACTER if stat.S_ISCHR(mode) else BLOCK_DEVICE
                yield header(raw, kind, mode, 0, mtime, b"", status.st_rdev)
            # a socket has no place in an archive; docker leaves it out, too
        except OSError as fault:
            raise vanished(entry.path, fault) from fault

    def _regular(self, path: str, raw: bytes) -> Iterator[bytes]:
        """A file, with the size it has when it is opened: the header cannot be taken back."""
        try:
            # the name can have become a pipe by now, whose open(2) would wait for a writer
            descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
        except PermissionError:
            raise CliError(f"error checking context: no permission to read from '{path}'") from None
        try:
            status = os.fstat(descriptor)
            if not stat.S_ISREG(status.st_mode):
                raise CliError(f"error reading the context: {path}: is no regular file any more")
            mtime = status.st_mtime_ns // 10**9
            if status.st_nlink > 1:
                key = (status.st_dev, status.st_ino)
                if key in self._links:
                    yield header(raw, HARD, status.st_mode, 0, mtime, self._links[key])
                    return
                self._links[key] = raw
            try:
                extra = {f"SCHILY.xattr.{CAPABILITY}": os.getxattr(descriptor, CAPABILITY)}
            except OSError:
                extra = None  # it has none, or the file system keeps none
            yield header(raw, REGULAR, status.st_mode, status.st_size, mtime, extra=extra)
            left = status.st_size
            while left:
                data = os.read(descriptor, min(left, PIECE))
                if not data:
                    size = status.st_size
                    raise CliError(f"error reading the context: {path}: shrank from {size} to {size - left} bytes")
                left -= len(data)
                yield data
            if status.st_size % BLOCK:
                yield bytes(-status.st_size % BLOCK)
        finally:
            os.close(descriptor)


def vanished(path: str, fault: OSError) -> CliError:
    return CliError(f"error reading the context: {path}: {(fault.strerror or str(fault)).lower()}")


def with_recipe(root: str, ignore: Ignore, name: str, recipe: bytes) -> Walk:
    """The context with a recipe of elsewhere in it, under `name`, which the build's own copies shall not see."""
    try:
        with open(os.path.join(root, IGNORE_NAME), "rb") as file:
            lines = file.read()
    except FileNotFoundError:
        lines = IGNORE_NAME.encode()
    except OSError as fault:
        raise vanished(os.path.join(root, IGNORE_NAME), fault) from fault
    return Walk(root, ignore, {name: recipe, IGNORE_NAME: lines + f"\n{name}\n".encode()})


def is_archive(start: bytes) -> bool:
    """Whether a stream that begins with these 512 bytes is a tar, plain or compressed, and not a recipe."""
    if start.startswith((b"BZh", b"\x1f\x8b\x08", b"\xfd7zXZ\x00", b"\x28\xb5\x2f\xfd")):
        return True
    if len(start) < BLOCK:
        return False
    try:
        expected = int(start[148:156].strip(b" \0") or b"0", 8)
    except ValueError:
        return False
    return not any(start) or expected == sum(start[:148]) + 8 * 32 + sum(start[156:BLOCK])


def compressed(source: Stream) -> Iterator[bytes]:
    """The stream in gzip."""
    import zlib

    packer = zlib.compressobj(6, zlib.DEFLATED, 31)
    while data := source.read():
        yield packer.compress(data)
    yield packer.flush()
