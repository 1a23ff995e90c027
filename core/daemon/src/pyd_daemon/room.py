"""Space on the data root's file system: enough to start, and some kept back for the day when there is none.

A disk that has filled up is freed by the daemon's own commands (`docker system prune`), so the daemon has to start on it. It
gives up a file then that it made while there was space; everything it writes while it starts fits in there.
"""

from __future__ import annotations

import logging
import os
from pathlib import Path

from pyd_contracts.errors import PermissionDenied, ResourceExhausted, from_oserror

__all__ = ["RESERVE", "make_room", "set_aside"]

RESERVE = "reserve"
_LEAST = 1 << 20  # bytes: less than that and SQLite's log cannot be written
_ASIDE = 8 << 20
_PLENTY = 32 << 20  # free beside it, or it is not made


def make_room(root: Path, log: logging.Logger) -> None:
    """See to it that a daemon can start on *root*. Raises ResourceExhausted when it cannot, PermissionDenied when *root* is on
    a read-only file system."""
    missing = _missing(root)
    if missing:
        try:
            (root / RESERVE).unlink()
        except FileNotFoundError:
            pass
        except OSError as error:
            raise from_oserror(error, f"remove {root / RESERVE}") from error
        else:
            log.warning("the file system of %s has no %s left: the reserve is given up; free some", root, missing)
            missing = _missing(root)
    if missing:
        raise ResourceExhausted(
            f"the file system of the data root {root} has no {missing} left; free some, or choose another with --data-root"
        )
    if os.statvfs(root).f_flag & os.ST_RDONLY:
        raise PermissionDenied(f"the data root {root} is on a read-only file system")


def set_aside(root: Path, log: logging.Logger) -> None:
    """Make the reserve, if it is not there and there is plenty. That it cannot be made is logged."""
    path, space = root / RESERVE, os.statvfs(root)
    if path.exists() or space.f_bavail * space.f_frsize < _PLENTY:
        return
    try:
        with path.open("xb") as file:
            os.posix_fallocate(file.fileno(), 0, _ASIDE)
    except OSError as error:
        path.unlink(missing_ok=True)
        log.warning("no space is set aside at %s: %s", path, error.strerror)


def _missing(root: Path) -> str:
    try:
        space = os.statvfs(root)
    except OSError as error:
        raise from_oserror(error, f"look at the data root {root}") from error
    if space.f_files and not space.f_favail:
        return "inodes"
    return "space" if space.f_bavail * space.f_frsize < _LEAST else ""
