"""Names of images, as Docker reads and writes them.

The grammar is that of github.com/distribution/reference: ``[domain/]path[:tag][@digest]``; the *familiar* form drops
``docker.io/`` and ``library/``, the *canonical* form has them. Everything is matched whole (`re.fullmatch`) and in ASCII
only: in Python ``$`` matches before a final newline and ``\\w`` matches letters of every script.
"""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass, replace

from pyd_contracts.errors import InvalidArgument

__all__ = ["Reference", "is_id", "is_id_prefix", "parse"]

_DOMAIN_PART = r"(?:[a-zA-Z0-9]|[a-zA-Z0-9][a-zA-Z0-9-]*[a-zA-Z0-9])"
_DOMAIN = rf"(?:{_DOMAIN_PART}(?:\.{_DOMAIN_PART})*|\[[a-fA-F0-9:]+\])(?::[0-9]+)?"
_PATH_PART = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_PATH = re.compile(rf"{_PATH_PART}(?:/{_PATH_PART})*", re.ASCII)
_HOST = re.compile(_DOMAIN, re.ASCII)
_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}", re.ASCII)
_ANY_DIGEST = re.compile(r"[A-Za-z][A-Za-z0-9]*(?:[-_+.][A-Za-z][A-Za-z0-9]*)*:[0-9a-fA-F]{32,}", re.ASCII)
_SHA256 = re.compile(r"sha256:[0-9a-f]{64}", re.ASCII)
_HEX64 = re.compile(r"[0-9a-f]{64}", re.ASCII)
_ID_PREFIX = re.compile(r"(?:sha256:)?[0-9a-f]{1,64}", re.ASCII)
_MOST = 4096

DEFAULT_DOMAIN = "docker.io"
_FORMAT = "invalid reference format"


@dataclass(frozen=True, slots=True)
class Reference:
    """A normalised image name. *domain* and *path* are always there; tag and digest are None when not given."""

    domain: str
    path: str
    tag: str | None = None
    digest: str | None = None

    @property
    def repository(self) -> str:
        """The canonical name without tag and digest: ``docker.io/library/busybox``."""
        return f"{self.domain}/{self.path}"

    @property
    def familiar_name(self) -> str:
        """The name as people write it: ``busybox``."""
        if self.domain != DEFAULT_DOMAIN:
            return self.repository
        prefix, _, rest = self.path.partition("/")
        return rest if prefix == "library" and rest and "/" not in rest else self.path

    @property
    def familiar(self) -> str:
        """``busybox:latest``, ``ghcr.io/a/b@sha256:…``."""
        return self.familiar_name + self._suffix

    @property
    def _suffix(self) -> str:
        return (f":{self.tag}" if self.tag else "") + (f"@{self.digest}" if self.digest else "")

    def __str__(self) -> str:
        return self.repository + self._suffix

    @property
    def name_only(self) -> bool:
        """Neither tag nor digest."""
        return self.tag is None and self.digest is None

    def tagged(self) -> Reference:
        """With the tag ``latest`` when there is neither tag nor digest."""
        return replace(self, tag="latest") if self.name_only else self

    def with_tag(self, tag: str) -> Reference:
        """The same repository with another tag, no digest. InvalidArgument for a malformed tag."""
        if not _TAG.fullmatch(tag):
            raise InvalidArgument("invalid tag format")
        return Reference(self.domain, self.path, tag)

    def with_digest(self, digest: str) -> Reference:
        """The same repository by digest alone."""
        return Reference(self.domain, self.path, None, _checked_digest(digest))


def parse(text: str) -> Reference:
    """Read a familiar or canonical name. Raises InvalidArgument with Docker's words.

    >>> str(parse("busybox").tagged())
    'docker.io/library/busybox:latest'
    >>> parse("localhost:5000/a/b@sha256:" + "0" * 64).familiar_name
    'localhost:5000/a/b'
    """
    if len(text) > _MOST:
        raise InvalidArgument(f"{_FORMAT}: {len(text)} characters")
    if _HEX64.fullmatch(text):
        raise InvalidArgument(f"invalid repository name ({text}), cannot specify 64-byte hexadecimal strings")
    domain, remainder = _split_domain(text)
    remote = remainder.partition(":")[0]
    if remote.lower() != remote:
        raise InvalidArgument(f"{_FORMAT}: repository name ({remote}) must be lowercase")
    name, at, digest = remainder.partition("@")
    path, colon, tag = name.partition(":")
    if (
        not _is_host(domain)
        or not _PATH.fullmatch(path)
        or (colon and not _TAG.fullmatch(tag))
        or (at and not _ANY_DIGEST.fullmatch(digest))
    ):
        raise InvalidArgument(_FORMAT)
    if len(path) > 255:
        raise InvalidArgument("repository name must not be more than 255 characters")
    return Reference(domain, path, tag or None, _checked_digest(digest) if at else None)


def _is_host(domain: str) -> bool:
    """The grammar, and what it leaves open: addresses and ports that exist."""
    if len(domain) > 255 or not _HOST.fullmatch(domain):
        return False
    address, bracket, rest = domain.partition("]")
    port = (rest if bracket else domain).partition(":")[2]
    if len(port) > 5 or (port and int(port) > 65535):
        return False
    if bracket:
        try:
            ipaddress.IPv6Address(address[1:])
        except ValueError:
            return False
    return True


def _split_domain(text: str) -> tuple[str, str]:
    """What stands before the first slash is a domain when it has a dot, a colon or a capital, or is localhost."""
    first, slash, rest = text.partition("/")
    if not slash:
        return DEFAULT_DOMAIN, "library/" + text
    if first in ("index.docker.io", DEFAULT_DOMAIN):
        domain, remainder = DEFAULT_DOMAIN, rest
    elif first == "localhost" or "." in first or ":" in first or first.lower() != first:
        domain, remainder = first, rest
    else:
        domain, remainder = DEFAULT_DOMAIN, text
    if domain == DEFAULT_DOMAIN and "/" not in remainder:
        remainder = "library/" + remainder
    return domain, remainder


def _checked_digest(digest: str) -> str:
    if _SHA256.fullmatch(digest):
        return digest
    algorithm, _, value = digest.partition(":")
    if algorithm != "sha256":
        raise InvalidArgument("unsupported digest algorithm")
    raise InvalidArgument("invalid checksum digest length" if len(value) != 64 else "invalid checksum digest format")


def is_id(text: str) -> bool:
    """Whether *text* can only be a whole image id."""
    return _SHA256.fullmatch(text) is not None or _HEX64.fullmatch(text) is not None


def is_id_prefix(text: str) -> bool:
    """Whether *text* may be the beginning of an image id, with or without ``sha256:``."""
    return _ID_PREFIX.fullmatch(text) is not None
