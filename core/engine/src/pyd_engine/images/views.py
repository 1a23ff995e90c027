"""Images as the Docker API shows them: ImageInspect, ImageSummary, history, and the list's filters."""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from pyd_contracts.errors import InvalidArgument
from pyd_engine import filters
from pyd_engine.images.documents import ImageConfig
from pyd_engine.images.records import ImageRecord
from pyd_engine.images.reference import Reference

__all__ = ["history", "inspect", "keep", "named_like", "nanoseconds", "seconds", "summary"]

_ZERO = "0001-01-01T00:00:00Z"
_STAMP = re.compile(r"(\d{4}-\d\d-\d\d)[Tt](\d\d:\d\d:\d\d)(?:\.(\d{1,9}))?(Z|z|[+-]\d\d:\d\d)", re.ASCII)


def seconds(stamp: str) -> int:
    """RFC 3339 text to seconds since the epoch; 0 for what is no time (the text is a stranger's)."""
    match = _STAMP.fullmatch(stamp)
    if match is None:
        return 0
    try:
        zone = "+00:00" if match[4] in "Zz" else match[4]
        return int(dt.datetime.fromisoformat(f"{match[1]}T{match[2]}{zone}").timestamp())
    except (ValueError, OverflowError):
        return 0


def nanoseconds(text: str) -> int:
    """The same with its fraction."""
    match = _STAMP.fullmatch(text)
    return seconds(text) * 10**9 + int(f"{match[3] or 0:0<9}") if match else 0


def stamp(moment: int) -> str:
    """Nanoseconds since the epoch as RFC 3339 text."""
    whole = dt.datetime.fromtimestamp(moment // 10**9, dt.UTC).strftime("%Y-%m-%dT%H:%M:%S")
    return f"{whole}.{moment % 10**9:09d}Z"


def _container_config(config: ImageConfig) -> dict[str, Any]:
    found: dict[str, Any] = {
        "Hostname": "", "Domainname": "", "User": config.user, "AttachStdin": False, "AttachStdout": False,
        "AttachStderr": False, "Tty": False, "OpenStdin": False, "StdinOnce": False, "Env": list(config.env) or None,
        "Cmd": _list(config.cmd), "Image": "", "Volumes": {name: {} for name in config.volumes} or None,
        "WorkingDir": config.working_dir, "Entrypoint": _list(config.entrypoint),
        "OnBuild": list(config.on_build) or None, "Labels": dict(config.labels) or None,
    }  # fmt: skip
    if config.exposed_ports:
        found["ExposedPorts"] = {port: {} for port in config.exposed_ports}
    if config.stop_signal:
        found["StopSignal"] = config.stop_signal
    if config.shell is not None:
        found["Shell"] = list(config.shell)
    if config.healthcheck is not None:
        found["Healthcheck"] = dict(config.healthcheck)
    return found


def _list(words: Sequence[str] | None) -> list[str] | None:
    return list(words) if words is not None else None


def inspect(record: ImageRecord, config: ImageConfig, size: int, driver: str) -> dict[str, Any]:
    """ImageInspect."""
    comment = config.document.get("comment")
    found = {
        "Id": record.id,
        "RepoTags": [name.familiar for name in record.tags],
        "RepoDigests": [name.familiar for name in record.digests],
        "Parent": record.parent,
        "Comment": comment if isinstance(comment, str) else (config.history[-1].comment if config.history else ""),
        "Created": config.created or _ZERO,
        "DockerVersion": "",
        "Author": config.author,
        "Config": _container_config(config),
        "Architecture": config.architecture,
        "Os": config.os or "linux",
        "Size": size,
        "GraphDriver": {"Data": None, "Name": driver},
        "RootFS": {"Type": "layers", "Layers": list(config.diff_ids)},
        "Metadata": {"LastTagTime": stamp(record.tagged_at) if record.tags else _ZERO},
    }
    if config.variant:
        found["Variant"] = config.variant
    if config.os_version:
        found["OsVersion"] = config.os_version
    return found


def summary(record: ImageRecord, config: ImageConfig, size: int) -> dict[str, Any]:
    """ImageSummary. SharedSize and Containers are -1: not counted."""
    return {
        "Containers": -1,
        "Created": seconds(config.created),
        "Id": record.id,
        "Labels": dict(config.labels) or None,
        "ParentId": record.parent,
        "RepoDigests": [name.familiar for name in record.digests],
        "RepoTags": [name.familiar for name in record.tags],
        "SharedSize": -1,
        "Size": size,
    }


def history(family: Sequence[ImageRecord], config: ImageConfig, sizes: Sequence[int]) -> list[dict[str, Any]]:
    """The lines of ``docker history``, newest first. *sizes* are those of the layers, lowest first; *family* is the image and
    those that it was built on, newest first: what a build makes adds one line each."""
    lines: list[dict[str, Any]] = []
    used = 0
    for entry in config.history:
        size = 0
        if not entry.empty_layer and used < len(sizes):
            size = sizes[used]
            used += 1
        lines.append({
            "Comment": entry.comment, "Created": seconds(entry.created), "CreatedBy": entry.created_by,
            "Id": "<missing>", "Size": size, "Tags": None,
        })  # fmt: skip
    if not lines:
        lines = [{
            "Comment": "", "Created": seconds(config.created), "CreatedBy": "", "Id": "<missing>", "Size": sum(sizes),
            "Tags": None,
        }]  # fmt: skip
    lines.reverse()
    for line, record in zip(lines, family, strict=False):
        line["Id"] = record.id
        line["Tags"] = [name.familiar for name in record.tags] or None
    return lines


def keep(
    wanted: Mapping[str, Sequence[str]], resolve: Callable[[str], ImageRecord], created: Callable[[ImageRecord], int]
) -> Callable[[ImageRecord, ImageConfig], bool]:
    """A predicate for the filters of ``GET /images/json``: dangling, label, reference, before, since, until. *created* is in
    nanoseconds."""
    known = {"dangling", "label", "reference", "before", "since", "until"}
    for name in wanted:
        if name not in known:
            raise InvalidArgument(f"invalid filter '{name}'")
    dangling = filters.boolean(wanted, "dangling")
    until = min((_moment(value) for value in wanted.get("until", ())), default=None)
    before = min((created(resolve(value)) for value in wanted.get("before", ())), default=None)
    since = max((created(resolve(value)) for value in wanted.get("since", ())), default=None)
    for pattern in wanted.get("reference", ()):
        filters.resembles(pattern)  # refuses one that is none, also where there is no image

    def fits(record: ImageRecord, config: ImageConfig) -> bool:
        at = nanoseconds(config.created)
        if dangling is not None and (not record.tags) is not dangling:
            return False
        if (
            (before is not None and at >= before)
            or (since is not None and at <= since)
            or (until is not None and at >= until * 10**9)
        ):
            return False
        for label in wanted.get("label", ()):
            key, equals, value = label.partition("=")
            if key not in config.labels or (equals and config.labels[key] != value):
                return False
        patterns = wanted.get("reference", ())
        named = named_like(patterns, record)
        return not patterns or bool(named.tags or named.digests)

    return fits


def named_like(patterns: Sequence[str], record: ImageRecord) -> ImageRecord:
    """The record with those of its names alone that match a ``reference`` filter; unchanged without one."""
    if not patterns:
        return record

    def matching(names: Sequence[Reference]) -> tuple[Reference, ...]:
        return tuple(
            name
            for name in names
            if any(filters.resembles(pattern, name.familiar, name.familiar_name) for pattern in patterns)
        )

    return replace(record, tags=matching(record.tags), digests=matching(record.digests))


def _moment(text: str) -> int:
    """A Unix time, an RFC 3339 time, or a duration back from now (``24h``)."""
    if re.fullmatch(r"[0-9]{1,12}(\.[0-9]{1,9})?", text, re.ASCII):
        return int(float(text))
    found = re.findall(r"([0-9]{1,9})(s|m|h|d)", text, re.ASCII)
    if found and "".join(number + unit for number, unit in found) == text:
        back = sum(int(number) * {"s": 1, "m": 60, "h": 3600, "d": 86400}[unit] for number, unit in found)
        return int(dt.datetime.now(dt.UTC).timestamp()) - back
    moment = seconds(text)
    if not moment:
        raise InvalidArgument(f"invalid filter 'until={text[:100]}': want a time or a duration")
    return moment
