"""Small files of the kernel: one read, one write, errors told."""

from __future__ import annotations

import os

__all__ = ["numbers", "read", "write"]


def write(path: str, value: str) -> None:
    """Write at once; a buffered file would lose the error at garbage collection, and the limit with it."""
    fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(fd, value.encode())
    except OSError as error:
        raise OSError(error.errno, error.strerror, path) from error
    finally:
        os.close(fd)


def read(path: str) -> str:
    """Up to 64 KiB."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return os.read(fd, 65536).decode()
    finally:
        os.close(fd)


def numbers(path: str) -> dict[str, int]:
    """A file of lines ``word number``; empty when it is not there."""
    try:
        lines = read(path).splitlines()
    except OSError:
        return {}
    pairs = (line.split() for line in lines)
    return {pair[0]: int(pair[1]) for pair in pairs if len(pair) == 2 and pair[1].isdecimal()}
