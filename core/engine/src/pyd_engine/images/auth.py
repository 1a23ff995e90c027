"""Who we say we are to a registry: challenges, Basic, Bearer tokens, and to whom credentials may go.

A registry's 401 names a *realm*, the address of a token server. Whoever controls that answer could have passwords sent
anywhere (CVE-2020-15157) or have the daemon call addresses only it can reach. So: challenges count only from the registry
itself, never from where it redirected to; a password goes to the registry's own host or to a host of the same parent domain
(``registry-1.docker.io`` → ``auth.docker.io``), to others only when the configuration trusts them; a registry on https
cannot name an http realm; loopback and link-local realms are refused unless the registry is there itself.
Sources: distribution/spec/auth/token.md, oauth.md; RFC 9110 section 11.
"""

from __future__ import annotations

import base64
import ipaddress
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass

from yarl import URL

from pyd_contracts.errors import InvalidArgument, PermissionDenied

__all__ = ["ANONYMOUS", "Challenge", "Credentials", "challenges", "check_realm", "is_local", "may_receive", "origin"]

_SCHEME = re.compile(r"\s*([A-Za-z][A-Za-z0-9_-]*)(?:\s+|$)", re.ASCII)
_PARAMETER = re.compile(r'\s*([A-Za-z0-9_-]+)\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^\s,"]*))\s*(?:,|$)', re.ASCII)
_MOST = 8192


@dataclass(frozen=True, slots=True)
class Credentials:
    """What a client gave for one registry (header ``X-Registry-Auth``). Empty strings: not given. Never logged."""

    username: str = ""
    password: str = ""
    identity_token: str = ""
    registry_token: str = ""

    def __repr__(self) -> str:
        return f"Credentials(username={self.username!r})"

    def basic(self) -> str:
        """The value of an Authorization header."""
        return "Basic " + base64.b64encode(f"{self.username}:{self.password}".encode()).decode()


ANONYMOUS = Credentials()


@dataclass(frozen=True, slots=True)
class Challenge:
    """One way to authenticate that a server offers; *scheme* is lowercase."""

    scheme: str
    parameters: Mapping[str, str]


def challenges(headers: Collection[str]) -> list[Challenge]:
    """Read WWW-Authenticate headers, one challenge each or several in one. Malformed ones are left out."""
    found = []
    for header in headers:
        rest = header[:_MOST]
        while match := _SCHEME.match(rest):
            scheme, rest = match[1].lower(), rest[match.end() :]
            parameters: dict[str, str] = {}
            while pair := _PARAMETER.match(rest):
                value = re.sub(r"\\(.)", r"\1", pair[2]) if pair[2] is not None else pair[3]
                parameters[pair[1].lower()] = value
                rest = rest[pair.end() :]
            found.append(Challenge(scheme, parameters))
    return found


def origin(url: URL) -> tuple[str, str, int]:
    """(scheme, host, port): what has to be equal for a header with a secret to go along."""
    return url.scheme, (url.host or "").lower(), url.port or 0


def is_local(host: str) -> bool:
    """Whether a host, as written, is this machine or link-local: localhost, 127/8, ::1, 169.254/16, fe80::/10, 0.0.0.0."""
    word = host.lower().rstrip(".")
    if word == "localhost" or word.endswith(".localhost"):
        return True
    try:
        address = ipaddress.ip_address(word.strip("[]").partition("%")[0])
    except ValueError:
        return False
    mapped = getattr(address, "ipv4_mapped", None) or address
    return bool(mapped.is_loopback or mapped.is_link_local or mapped.is_unspecified)


def check_realm(registry: URL, realm: str) -> URL:
    """The address of the token server; PermissionDenied or InvalidArgument when it must not be called."""
    try:
        url = URL(realm)
    except ValueError as error:
        raise InvalidArgument(f"registry {registry.host}: its token server {realm[:200]!r} is no address") from error
    if url.scheme not in ("http", "https") or not url.host or url.user is not None:
        raise InvalidArgument(f"registry {registry.host}: its token server {realm[:200]!r} is no http address")
    if registry.scheme == "https" and url.scheme != "https":
        raise PermissionDenied(f"registry {registry.host}: its token server {url} is not encrypted, the registry is")
    if is_local(url.host) and not is_local(registry.host or ""):
        raise PermissionDenied(f"registry {registry.host}: its token server {url} is an address of this host or link")
    return url


def may_receive(registry: URL, target: URL, trusted: Collection[str] = ()) -> bool:
    """Whether credentials for *registry* may be sent to *target*. *trusted*: hosts the configuration names."""
    if origin(registry) == origin(target):
        return True
    ours, theirs = (registry.host or "").lower(), (target.host or "").lower()
    if theirs in trusted or f"{theirs}:{target.port}" in trusted:
        return True
    if is_local(ours) or is_local(theirs) or _is_address(ours) or (registry.scheme, target.scheme) == ("https", "http"):
        return False
    labels = ours.split(".")
    domain = ".".join(labels[1:]) if len(labels) > 2 else ours
    return theirs in (ours, domain) or theirs.endswith("." + domain)


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host.strip("[]"))
    except ValueError:
        return False
    return True
