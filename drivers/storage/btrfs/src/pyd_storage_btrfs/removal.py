"""Delete entries: their subvolumes are destroyed, the little around them is unlinked.

Nothing inside a subvolume is looked at, however deep or locked a container's root has made it. A mount point inside one
would vanish with it; the catalog looks for one before.
"""

from __future__ import annotations

import os

from pyd_snapshots.trees import DIRECTORY, opened

from . import kernel
from .subvolumes import destroy

__all__ = ["remove_entry"]


def remove_entry(bin_fd: int, name: str) -> None:
    """Remove *name* of the open directory *bin_fd*: a link, or an entry's directory. OSError when something stays."""
    try:
        fd = os.open(name, DIRECTORY, dir_fd=bin_fd)
    except FileNotFoundError:
        return
    except OSError:
        os.unlink(name, dir_fd=bin_fd)  # not a directory: a record on its way to its entry
        return
    with opened(fd):
        for child in os.listdir(fd):
            status = os.stat(child, dir_fd=fd, follow_symlinks=False)
            if kernel.is_subvolume(status):
                destroy(fd, child)
            else:
                os.unlink(child, dir_fd=fd)
    os.rmdir(name, dir_fd=bin_fd)
