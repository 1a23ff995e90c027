"""The options of the syslog driver, in dockerd's words (daemon/logger/syslog)."""

from __future__ import annotations

import os
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit

from pyd_contracts.errors import InvalidArgument
from pyd_contracts.log_details import DETAILS, check_details, check_known
from pyd_contracts.log_sinks import split_host

__all__ = ["FORMATS", "Options", "read"]

_KNOWN = DETAILS | {
    "syslog-address",
    "syslog-facility",
    "syslog-format",
    "syslog-tls-ca-cert",
    "syslog-tls-cert",
    "syslog-tls-key",
    "syslog-tls-skip-verify",
}
_SCHEMES = ("tcp", "tcp+tls", "udp", "unix", "unixgram")
_FACILITIES = (
    "kern user mail daemon auth syslog lpr news uucp cron authpriv ftp ntp security console solaris-cron "
    "local0 local1 local2 local3 local4 local5 local6 local7"
).split()  # fmt: skip
FORMATS = ("", "rfc3164", "rfc5424", "rfc5424micro")
_LOCAL = ("/dev/log", "/var/run/syslog", "/var/run/log")


@dataclass(frozen=True, slots=True)
class Options:
    """What they come to.

    kind      ``tcp``, ``tcp+tls``, ``udp``, ``unix`` or ``unixgram``
    where     (host, port), or the path of a socket
    facility  0 to 23 (RFC 5424, 6.2.1)
    format    of `FORMATS`
    tls       for ``tcp+tls``
    """

    kind: str
    where: tuple[str, int] | str
    facility: int
    format: str
    tls: ssl.SSLContext | None = None

    @property
    def what(self) -> str:
        """The sink, for messages."""
        return f"syslog at {self.kind}://{self.where if isinstance(self.where, str) else '{}:{}'.format(*self.where)}"


def read(options: Mapping[str, str]) -> Options:
    """Raises InvalidArgument."""
    check_known("syslog", options, _KNOWN)
    check_details(options)
    kind, where = _address(options.get("syslog-address", ""))
    form = options.get("syslog-format", "")
    facility = _facility(options.get("syslog-facility", ""))
    if form not in FORMATS:
        raise InvalidArgument("Invalid syslog format")
    return Options(kind, where, facility, form, _tls(options) if kind == "tcp+tls" else None)


def _address(address: str) -> tuple[str, tuple[str, int] | str]:
    if not address:
        return "unixgram", next((path for path in _LOCAL if os.path.exists(path)), _LOCAL[0])
    scheme = address.partition("://")[0]
    if scheme not in _SCHEMES or "://" not in address:
        raise InvalidArgument(f"syslog-address should be in form proto://address, got {address}")
    if scheme in ("unix", "unixgram"):
        path = address.partition("://")[2]
        if not os.path.exists(path):
            raise InvalidArgument(f"stat {path}: no such file or directory")
        return scheme, path
    try:
        return scheme, split_host(urlsplit(address).netloc, 514)
    except ValueError as error:
        raise InvalidArgument(f"syslog-address {address}: {error}") from error


def _facility(text: str) -> int:
    if not text:
        return 3  # daemon
    if text in _FACILITIES:
        return _FACILITIES.index(text)
    if text.isdigit() and int(text) <= 23:
        return int(text)
    raise InvalidArgument("invalid syslog facility")


def _tls(options: Mapping[str, str]) -> ssl.SSLContext:
    context = ssl.create_default_context()
    # Go's ParseBool is not asked there: any value means yes (moby, daemon/logger/syslog)
    if options.get("syslog-tls-skip-verify"):
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    try:
        if options.get("syslog-tls-ca-cert"):
            context.load_verify_locations(options["syslog-tls-ca-cert"])
        if options.get("syslog-tls-cert") or options.get("syslog-tls-key"):
            context.load_cert_chain(options.get("syslog-tls-cert", ""), options.get("syslog-tls-key") or None)
    except (OSError, ssl.SSLError) as error:
        names = [options[key] for key in ("syslog-tls-ca-cert", "syslog-tls-cert", "syslog-tls-key") if key in options]
        raise InvalidArgument(f"could not load the TLS files {', '.join(names)}: {error}") from error
    return context
