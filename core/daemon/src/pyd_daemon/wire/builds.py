"""The query of ``POST /build``: Docker's ImageBuildOptions, part by part."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from multidict import MultiMapping

from pyd_contracts.errors import InvalidArgument, Unsupported
from pyd_daemon import requests
from pyd_engine.builds.request import BuildRequest
from pyd_engine.containers.decoding import fit, parse
from pyd_engine.containers.host_config import HostConfig, Ulimit

__all__ = ["FIELDS", "read_build"]

T = TypeVar("T")
Query = MultiMapping[str]


def read_build(query: Query) -> BuildRequest:
    """What is asked. InvalidArgument and Unsupported in dockerd's words."""
    if query.get("version", "") not in ("", "1"):
        raise Unsupported("build with BuildKit (version=2): this daemon has none; set DOCKER_BUILDKIT=0")
    if query.get("outputs", "") not in ("", "null", "[]"):
        raise Unsupported(
            "export the result of a build (outputs): that takes BuildKit, which this daemon does not have"
        )
    if requests.flag(query.get("squash")):
        raise InvalidArgument("squash is only supported with experimental mode")
    if "securityopt" in query:
        raise InvalidArgument("The daemon on this platform does not support setting security options on build")
    forced = requests.flag(query.get("forcerm"))
    return BuildRequest(
        recipe=query.get("dockerfile", ""),
        remote=query.get("remote", ""),
        tags=tuple(query.getall("t", [])),
        target=query.get("target", ""),
        arguments=_json(query, "buildargs", dict[str, str | None], "error reading build args", {}),
        labels=_json(query, "labels", dict[str, str], "error reading labels", {}),
        platform=requests.platform(query.get("platform")) or "",
        cache_from=_json(query, "cachefrom", tuple[str, ...], "error reading cachefrom", ()),
        no_cache=requests.flag(query.get("nocache")),
        pull=requests.flag(query.get("pull")),
        quiet=requests.flag(query.get("q")),
        keep=not (forced or requests.flag(query.get("rm") or None, default=True)),
        keep_failed=not forced,
        limits=HostConfig(**{field: read(query, name) for name, (field, read) in _LIMITS.items()}),
    )


def _json(query: Query, name: str, kind: type[T], what: str, default: T) -> T:
    text = query.get(name, "")
    if not text:
        return default
    try:
        given: Any = parse(text.encode("utf-8", "surrogateescape"))
    except InvalidArgument as error:
        raise InvalidArgument(f"{what}: {error}") from error
    return default if given is None else fit(given, kind, what)


def _number(query: Query, name: str) -> int:
    return requests.integer(query.get(name), name, 0) or 0


def _text(query: Query, name: str) -> str:
    return query.get(name, "")


def _texts(query: Query, name: str) -> tuple[str, ...] | None:
    """Repeated, or a comma between them."""
    return tuple(part for each in query.getall(name, []) for part in each.split(",") if part) or None


def _ulimits(query: Query, name: str) -> tuple[Ulimit, ...] | None:
    given: tuple[Ulimit, ...] = _json(query, name, tuple[Ulimit, ...], "error reading ulimit settings", ())
    return given or None


_LIMITS: Mapping[str, tuple[str, Callable[[Query, str], Any]]] = {
    "memory": ("memory", _number),
    "memswap": ("memory_swap", _number),
    "cpushares": ("cpu_shares", _number),
    "cpusetcpus": ("cpuset_cpus", _text),
    "cpusetmems": ("cpuset_mems", _text),
    "cpuperiod": ("cpu_period", _number),
    "cpuquota": ("cpu_quota", _number),
    "shmsize": ("shm_size", _number),
    "ulimits": ("ulimits", _ulimits),
    "networkmode": ("network_mode", _text),
    "extrahosts": ("extra_hosts", _texts),
    "cgroupparent": ("cgroup_parent", _text),
}
FIELDS = (
    "dockerfile", "remote", "t", "target", "buildargs", "labels", "platform", "cachefrom", "nocache", "pull", "q", "rm",
    "forcerm", *_LIMITS,
)  # fmt: skip
"""What is honoured of the query."""
