"""JSON bodies read as Go's encoding/json reads them, without its surprises becoming ours.

Constraint: clients are written against Go. Keys match in any case; ``null`` leaves a default and is the zero value
inside lists and maps; a string may stand where `strslice` expects a list. Whatever does not fit raises InvalidArgument
with the path of the field; no input makes a traceback (wrong types, NaN, numbers beyond int64, nesting without end).
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Hashable
from typing import Any, TypeVar, cast

import msgspec
from msgspec import inspect

from pyd_contracts.errors import InvalidArgument

__all__ = ["fit", "parse"]

_T = TypeVar("_T")
_Shape = Callable[[Any], Any]

_PATH = re.compile(r"^(?P<what>.*?)(?: - at `(?:key in )?\$(?P<path>[^`]*)`)?$", re.DOTALL)


def parse(body: bytes) -> Any:
    """Decode one JSON document.

    Raises InvalidArgument with Docker's prefix ``invalid JSON:``.
    """
    if not body.strip():
        raise InvalidArgument("invalid JSON: got EOF while reading request body")
    try:
        return msgspec.json.decode(body)
    except RecursionError as error:
        raise InvalidArgument("invalid JSON: nested too deep") from error
    except (msgspec.DecodeError, UnicodeDecodeError, ValueError, OverflowError) as error:
        raise InvalidArgument(f"invalid JSON: {error}") from error


def fit(document: Any, record: type[_T], prefix: str = "invalid JSON") -> _T:
    """Make a *record* of a parsed *document*, by Go's rules for keys and null.

    Raises InvalidArgument ``<prefix>: <field>: expected …, got …``.
    """
    try:
        return msgspec.convert(_shape_of(cast("Hashable", record))(document), record)
    except msgspec.ValidationError as error:
        found = _PATH.match(str(error))
        what, path = (found["what"], found["path"]) if found else (str(error), None)
        where = f"{path.lstrip('.')}: " if path else ""
        raise InvalidArgument(f"{prefix}: {where}{what[:1].lower()}{what[1:].replace('`', '')}") from error


@functools.cache
def _shape_of(record: Hashable) -> _Shape:
    return _shape(inspect.type_info(record))


def _shape(kind: inspect.Type) -> _Shape:
    """A function that brings a value nearer to *kind*; what it does not understand it passes on to be refused."""
    if isinstance(kind, inspect.Metadata):
        inner = _shape(kind.type)
        return _string_or_list if kind.extra and kind.extra.get("string-is-list") else inner
    if isinstance(kind, inspect.UnionType):
        (inner_kind,) = (part for part in kind.types if not isinstance(part, inspect.NoneType))
        return _shape(inner_kind)
    if isinstance(kind, inspect.StructType):
        return _struct({f.encode_name.lower(): (f.encode_name, _shape(f.type)) for f in kind.fields})
    if isinstance(kind, inspect.VarTupleType | inspect.ListType):
        return _sequence(_shape(kind.item_type), _zero(kind.item_type))
    if isinstance(kind, inspect.DictType):
        return _mapping(_shape(kind.value_type), _zero(kind.value_type))
    return _same


def _zero(kind: inspect.Type) -> Any:
    """What Go makes of ``null`` inside a list or a map."""
    if isinstance(kind, inspect.Metadata):
        return _zero(kind.type)
    if isinstance(kind, inspect.StrType):
        return ""
    if isinstance(kind, inspect.IntType):
        return 0
    if isinstance(kind, inspect.StructType | inspect.DictType):
        return {}
    if isinstance(kind, inspect.VarTupleType | inspect.ListType):
        return []
    return None


def _same(value: Any) -> Any:
    return value


def _string_or_list(value: Any) -> Any:
    if isinstance(value, str):
        return [value]
    return ["" if item is None else item for item in value] if isinstance(value, list) else value


def _struct(fields: dict[str, tuple[str, _Shape]]) -> _Shape:
    def shape(value: Any) -> Any:
        if not isinstance(value, dict):
            return value
        result = {}
        for key, item in value.items():
            known = fields.get(key.lower())
            if known is not None and item is not None:
                result[known[0]] = known[1](item)
        return result

    return shape


def _sequence(item_shape: _Shape, zero: Any) -> _Shape:
    def shape(value: Any) -> Any:
        if not isinstance(value, list | tuple):
            return value
        return [zero if item is None else item_shape(item) for item in value]

    return shape


def _mapping(value_shape: _Shape, zero: Any) -> _Shape:
    def shape(value: Any) -> Any:
        if not isinstance(value, dict):
            return value
        return {key: zero if item is None else value_shape(item) for key, item in value.items()}

    return shape
