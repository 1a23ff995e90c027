"""Removing a tree by descriptors, however deep it is. Standard library only."""

from __future__ import annotations

import os

__all__ = ["remove_tree"]

_OPEN = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


def remove_tree(parent: int, name: bytes) -> None:
    """rm -r by descriptors, without recursion and with two of them open: depth is the layer's choice.

    Going up is ``..``: nobody else moves directories of a tree that is being unpacked.
    """
    current = os.open(name, _OPEN, dir_fd=parent)
    levels: list[tuple[bytes, list[bytes]]] = [(name, _unlink_files(current))]
    try:
        while True:
            here, directories = levels[-1]
            if directories:
                child = directories.pop()
                below = os.open(child, _OPEN, dir_fd=current)
                os.close(current)
                current = below
                levels.append((child, _unlink_files(current)))
                continue
            levels.pop()
            if not levels:
                break
            above = os.open(b"..", _OPEN, dir_fd=current)
            os.close(current)
            current = above
            os.rmdir(here, dir_fd=current)
    finally:
        os.close(current)
    os.rmdir(name, dir_fd=parent)


def _unlink_files(directory: int) -> list[bytes]:
    """Remove all but directories; their names are returned."""
    with os.scandir(directory) as found:
        names = [(os.fsencode(item.name), item.is_dir(follow_symlinks=False)) for item in found]
    for name, is_directory in names:
        if not is_directory:
            os.unlink(name, dir_fd=directory)
    return [name for name, is_directory in names if is_directory]
