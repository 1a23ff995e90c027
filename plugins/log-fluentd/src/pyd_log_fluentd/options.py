"""The options of the fluentd driver, in dockerd's words (daemon/logger/fluentd)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from pyd_contracts.errors import InvalidArgument
from pyd_contracts.log_details import DETAILS, boolean, check_details, check_known, size_of
from pyd_contracts.log_sinks import split_host

__all__ = ["Options", "read"]

_BOOLEANS = ("fluentd-async", "fluentd-async-connect", "fluentd-request-ack", "fluentd-sub-second-precision")
_DURATIONS = ("fluentd-async-reconnect-interval", "fluentd-read-timeout", "fluentd-retry-wait", "fluentd-write-timeout")
_KNOWN = DETAILS | {*_BOOLEANS, *_DURATIONS, "fluentd-address", "fluentd-buffer-limit", "fluentd-max-retries"}
_DURATION = re.compile(r"([0-9]+(\.[0-9]*)?(ns|us|µs|ms|s|m|h))+|0")


@dataclass(frozen=True, slots=True)
class Options:
    """What they come to: ``tcp``, ``tls`` or ``unix``, (host, port) or a path, whether the server confirms, times with
    nanoseconds."""

    kind: str
    where: tuple[str, int] | str
    acknowledged: bool
    exact: bool

    @property
    def what(self) -> str:
        """The sink, for messages."""
        return f"fluentd at {self.kind}://{self.where if isinstance(self.where, str) else '{}:{}'.format(*self.where)}"


def read(options: Mapping[str, str]) -> Options:
    """Raises InvalidArgument."""
    check_known("fluentd", options, _KNOWN)
    check_details(options)
    kind, where = _address(options.get("fluentd-address", ""))
    if "fluentd-async" in options and "fluentd-async-connect" in options:
        raise InvalidArgument("conflicting options: cannot specify both 'fluentd-async' and 'fluentd-async-connect'")
    for key in _BOOLEANS:
        boolean(options, key)
    for key in _DURATIONS:
        if not _DURATION.fullmatch(options.get(key, "0")):
            raise InvalidArgument(f'invalid value for {key}: time: invalid duration "{options[key]}"')
    if "fluentd-buffer-limit" in options:
        try:
            size_of(options["fluentd-buffer-limit"])
        except ValueError as error:
            raise InvalidArgument(f"invalid value for fluentd-buffer-limit: {error}") from error
    if not options.get("fluentd-max-retries", "0").isdigit():
        raise InvalidArgument(f"invalid value for fluentd-max-retries: {options['fluentd-max-retries']!r}: no number")
    return Options(
        kind, where, boolean(options, "fluentd-request-ack"), boolean(options, "fluentd-sub-second-precision")
    )


def _address(address: str) -> tuple[str, tuple[str, int] | str]:
    if not address:
        return "tcp", ("127.0.0.1", 24224)
    if "://" not in address:
        address = f"tcp://{address}"
    scheme, _, rest = address.partition("://")
    if scheme == "unix":
        if not rest.strip("/"):
            raise InvalidArgument(f"invalid fluentd-address ({address}): path is empty")
        return "unix", rest
    if scheme not in ("tcp", "tls"):
        raise InvalidArgument(f"invalid fluentd-address ({address}): unsupported scheme: '{scheme}'")
    if "/" in rest:
        raise InvalidArgument(f"invalid fluentd-address ({address}): should not contain a path element")
    try:
        return scheme, split_host(rest, 24224)
    except ValueError as error:
        raise InvalidArgument(f"invalid fluentd-address ({address}): {error}") from error
