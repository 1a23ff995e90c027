"""Overlay mount options an operator may set, checked by name and value before any mount is tried."""

from __future__ import annotations

import contextlib
import difflib
import os
from collections.abc import Sequence

from pyd_contracts.errors import InvalidArgument

__all__ = ["borne", "check_options", "for_view"]

# Documentation/filesystems/overlayfs.rst. Layers, ro and the like are the driver's own to say; userxattr would give opaque
# directories a mark that layers, as they are written here, do not have.
_VALUES: dict[str, frozenset[str]] = {
    "metacopy": frozenset({"on", "off"}),
    "redirect_dir": frozenset({"on", "off", "follow", "nofollow"}),
    "index": frozenset({"on", "off"}),
    "xino": frozenset({"on", "off", "auto"}),
    "nfs_export": frozenset({"on", "off"}),
    "volatile": frozenset(),
}
_NEEDS_UPPER = frozenset({"volatile", "index", "nfs_export"})


def check_options(options: Sequence[str]) -> tuple[str, ...]:
    """The same options as a tuple. InvalidArgument lists every fault."""
    faults = []
    seen: set[str] = set()
    for option in options:
        key, equals, value = option.partition("=")
        values = _VALUES.get(key)
        if values is None:
            near = difflib.get_close_matches(key, _VALUES, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"known: {', '.join(sorted(_VALUES))}"
            faults.append(f"unknown option {option!r} ({hint})")
        elif bool(equals) != bool(values) or (equals and value not in values):
            takes = f"takes {' or '.join(sorted(values))}" if values else "takes no value"
            faults.append(f"{option!r}: {key} {takes}")
        elif key in seen:
            faults.append(f"{key} is given twice")
        seen.add(key)
    if faults:
        raise InvalidArgument("overlay options: " + "; ".join(faults))
    return tuple(options)


def borne(root: str, options: tuple[str, ...]) -> tuple[str, ...]:
    """The options with what layers below *root* need that were written with others: marks of ``metacopy`` and ``redirect_dir``
    stay in layers, and overlayfs refuses such files and directories, or shows them empty, once the option is gone.

    ``<root>/marks`` is a symbolic link to the words that were ever on.
    """
    marks = set()
    with contextlib.suppress(FileNotFoundError):
        marks = set(os.readlink(f"{root}/marks").split(","))
    wanted = marks | {key for key in ("metacopy", "redirect_dir") if f"{key}=on" in options}
    if wanted != marks:
        fresh = f"{root}/new/marks.{os.getpid()}"
        with contextlib.suppress(FileNotFoundError):
            os.unlink(fresh)
        os.symlink(",".join(sorted(wanted)), fresh)
        os.rename(fresh, f"{root}/marks")
    needs: dict[str, str] = {}
    if "metacopy" in wanted:
        needs = {"metacopy": "on", "redirect_dir": "on"}  # the one is not to be had without the other
    elif wanted:
        needs = {"redirect_dir": "follow"}
    missing = {key: value for key, value in needs.items() if not {f"{key}={value}", f"{key}=on"} & set(options)}
    kept = [option for option in options if option.partition("=")[0] not in missing]
    return (*kept, *(f"{key}={value}" for key, value in missing.items()))


def for_view(options: Sequence[str]) -> tuple[str, ...]:
    """Those that mean something without an upper layer."""
    return tuple(option for option in options if option.partition("=")[0] not in _NEEDS_UPPER)
