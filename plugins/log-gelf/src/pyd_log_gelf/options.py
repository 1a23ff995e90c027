"""The options of the gelf driver, in dockerd's words (daemon/logger/gelf)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit

from pyd_contracts.errors import InvalidArgument
from pyd_contracts.log_details import DETAILS, check_details
from pyd_contracts.log_sinks import split_host

__all__ = ["Options", "read"]

_KNOWN = DETAILS | {
    "gelf-address",
    "gelf-compression-level",
    "gelf-compression-type",
    "gelf-tcp-max-reconnect",
    "gelf-tcp-reconnect-delay",
}
_SCHEMES = ("tcp", "tcp+tls", "udp", "unix", "unixgram")


@dataclass(frozen=True, slots=True)
class Options:
    """What they come to: ``udp`` or ``tcp``, (host, port), ``gzip``, ``zlib`` or ``none``, a level of zlib's."""

    kind: str
    where: tuple[str, int]
    compression: str
    level: int

    @property
    def what(self) -> str:
        """The sink, for messages."""
        return "gelf at {}://{}:{}".format(self.kind, *self.where)


def read(options: Mapping[str, str]) -> Options:
    """Raises InvalidArgument."""
    kind, where = _address(options.get("gelf-address", ""))
    for key in sorted(options):
        if key not in _KNOWN:
            raise InvalidArgument(f'unknown log opt "{key}" for gelf log driver')
    check_details(options)
    for key in ("gelf-compression-level", "gelf-compression-type"):
        if key in options and kind != "udp":
            raise InvalidArgument("compression is only supported on UDP")
    for key in ("gelf-tcp-max-reconnect", "gelf-tcp-reconnect-delay"):
        if key in options and kind != "tcp":
            raise InvalidArgument(f'"{key}" is only valid for TCP')
        if key in options and not options[key].isdigit():
            raise _unknown(key, options[key])
    level = options.get("gelf-compression-level", "1")
    if not level.removeprefix("-").isdigit() or not -1 <= int(level) <= 9:
        raise _unknown("gelf-compression-level", level)
    compression = options.get("gelf-compression-type", "gzip")
    if compression not in ("gzip", "zlib", "none"):
        raise _unknown("gelf-compression-type", compression)
    return Options(kind, where, compression if kind == "udp" else "none", int(level))


def _unknown(key: str, value: str) -> InvalidArgument:
    return InvalidArgument(f'unknown value "{value}" for log opt "{key}" for gelf log driver')


def _address(address: str) -> tuple[str, tuple[str, int]]:
    if not address:
        raise InvalidArgument("gelf-address is a required parameter")
    scheme, found, _ = address.partition("://")
    if not found or scheme not in _SCHEMES:
        raise InvalidArgument(f"gelf-address should be in form proto://address, got {address}")
    if scheme not in ("udp", "tcp"):
        raise InvalidArgument("gelf: endpoint needs to be TCP or UDP")
    try:
        host, port = split_host(urlsplit(address).netloc, 0)
    except ValueError as error:
        raise InvalidArgument(f"gelf: please provide gelf-address as proto://host:port: {error}") from error
    if not port:
        raise InvalidArgument("gelf: please provide gelf-address as proto://host:port")
    return scheme, (host, port)
