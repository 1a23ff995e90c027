"""The base of all records of the container API: how Go writes and reads structures, in msgspec's words.

Docker's clients depend on Go's habits: keys match whatever their case, ``null`` means "leave the default", a list that
was never given is shown as ``null``, and fields marked *omitempty* disappear while they are empty. The first two are
the business of `pyd_engine.containers.decoding`; the last two are here.
"""

from __future__ import annotations

import functools
from typing import Annotated, Any, ClassVar, get_args

import msgspec

__all__ = ["Int64", "Record", "Strings", "StringsOrString", "shown"]

Int64 = Annotated[int, msgspec.Meta(ge=-(2**63), le=2**63 - 1)]
"""A whole number that fits Go's int64."""

Strings = tuple[str, ...]

StringsOrString = Annotated[tuple[str, ...], msgspec.Meta(extra={"string-is-list": True})]
"""Docker's `strslice`: a list of strings, or one string that means a list of one."""


class Record(msgspec.Struct, frozen=True, kw_only=True, rename="pascal"):
    """A frozen JSON object with Docker's field names; unknown keys are ignored, as Go ignores them."""

    omitempty: ClassVar[frozenset[str]] = frozenset()
    """Wire names of the fields that `shown` leaves out while they are empty (nil, zero, "", no items)."""


def shown(record: Record) -> dict[str, Any]:
    """The JSON object of *record* as Docker shows it: all fields, without those that are *omitempty* and empty.

    For storing use ``msgspec.json.encode(record)``: it keeps everything and reads back to an equal record.
    """
    document: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(record))
    pointers = _pointers(type(record))
    for name in record.omitempty:
        value = document.get(name)
        if value is None or (not value and name not in pointers):
            document.pop(name, None)
    return document


@functools.cache
def _pointers(record: type[Record]) -> frozenset[str]:
    """Fields that are pointers to numbers or booleans in Go (StopTimeout, Init): shown when they point at zero."""
    return frozenset(
        each.encode_name for each in msgspec.structs.fields(record) if each.default is None and _is_scalar(each.type)
    )


def _is_scalar(kind: Any) -> bool:
    return any(part in (bool, int, Int64) for part in get_args(kind))
