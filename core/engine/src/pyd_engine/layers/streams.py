"""Compressed streams as bounded chunks: gzip, zstd, bzip2, xz and plain, told apart by their first bytes as Docker does.

Output comes in pieces of at most a mebibyte, whatever the ratio; a zstd window is at most 128 MiB (``windowLog`` 27, what
RFC 8878 asks decoders to limit), xz gets the same memory. A stream that ends early is an error, not a short file. Standard
library, isal and backports.zstd only: the unpack worker runs this.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Protocol

__all__ = ["CHUNK", "StreamError", "compression", "decompressed", "preload"]

CHUNK = 256 << 10
_PIECE = 1 << 20
_WINDOW = 27


class StreamError(ValueError):
    """The compressed data is damaged, ends early, or asks for too much memory."""


class _Decoder(Protocol):
    @property
    def eof(self) -> bool: ...
    @property
    def needs_input(self) -> bool: ...
    @property
    def unused_data(self) -> bytes: ...
    def decompress(self, data: bytes, max_length: int) -> bytes: ...


def compression(head: bytes) -> str:
    """Name what *head*, the first bytes of a stream, starts: gzip, zstd, bzip2, xz or plain."""
    if head.startswith(b"\x1f\x8b\x08"):
        return "gzip"
    if head.startswith(b"\x28\xb5\x2f\xfd") or (head[1:4] == b"\x2a\x4d\x18" and head[0] & 0xF0 == 0x50):
        return "zstd"
    if head.startswith(b"BZh") and head[4:10] in (b"\x31\x41\x59\x26\x53\x59", b"\x17\x72\x45\x38\x50\x90"):
        return "bzip2"
    if head.startswith(b"\xfd7zXZ\0"):
        return "xz"
    return "plain"


def decompressed(read: Callable[[int], bytes]) -> Iterator[bytes]:
    """Chunks of what *read* gives, decompressed. *read(n)* gives up to n bytes, empty at the end. Raises StreamError."""
    head = b""
    while len(head) < 10:
        piece = read(CHUNK)
        if not piece:
            break
        head += piece
    kind = compression(head)
    if kind == "plain":
        return _plain(head, read)
    if kind == "gzip":
        return _gzip(head, read)
    return _framed(kind, head, read)


def preload() -> None:
    """Import every decompressor now: later, files of that name may be a container's."""
    import bz2  # noqa: F401
    import lzma  # noqa: F401

    from isal import isal_zlib  # noqa: F401

    _decoders("zstd")


def _plain(data: bytes, read: Callable[[int], bytes]) -> Iterator[bytes]:
    while data:
        yield data
        data = read(CHUNK)


def _gzip(data: bytes, read: Callable[[int], bytes]) -> Iterator[bytes]:
    """Members one after the other (RFC 1952); zero padding after the last is accepted, other bytes are not."""
    from isal import isal_zlib

    damaged: Any = isal_zlib.error  # its stubs call the class an instance
    while data:
        decoder = isal_zlib.decompressobj(31)
        full = False
        while not decoder.eof:
            if not data and not full:
                data = read(CHUNK)
                if not data:
                    raise StreamError("gzip data ends early")
            try:
                piece = decoder.decompress(data, _PIECE)
            except damaged as error:
                raise StreamError(f"damaged gzip data: {error}") from error
            data = decoder.unconsumed_tail
            full = len(piece) >= _PIECE
            if piece:
                yield piece
        data = _next_frame(decoder.unused_data, read)


def _framed(kind: str, data: bytes, read: Callable[[int], bytes]) -> Iterator[bytes]:
    make, faults = _decoders(kind)
    while data:
        decoder = make()
        while not decoder.eof:
            if decoder.needs_input and not data:
                data = read(CHUNK)
                if not data:
                    raise StreamError(f"{kind} data ends early")
            try:
                piece = decoder.decompress(data, _PIECE)
            except faults as error:
                raise StreamError(f"damaged {kind} data: {error}") from error
            data = b""
            if piece:
                yield piece
        data = _next_frame(decoder.unused_data, read)


def _next_frame(data: bytes, read: Callable[[int], bytes]) -> bytes:
    while True:
        data = data.lstrip(b"\0")
        if data:
            return data
        data = read(CHUNK)
        if not data:
            return b""


def _decoders(kind: str) -> tuple[Callable[[], _Decoder], tuple[type[Exception], ...]]:
    if kind == "zstd":
        from backports import zstd

        options: dict[int, int] = {zstd.DecompressionParameter.window_log_max: _WINDOW}
        return (lambda: zstd.ZstdDecompressor(options=options)), (zstd.ZstdError,)
    if kind == "bzip2":
        import bz2

        return bz2.BZ2Decompressor, (OSError, ValueError)
    import lzma

    return (lambda: lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=(1 << _WINDOW) + (16 << 20))), (lzma.LZMAError,)
