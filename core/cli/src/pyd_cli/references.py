"""Names of images, as docker reads and shows them: `[registry/]repository[:tag][@digest]`."""

from __future__ import annotations

import re

from pyd_cli.errors import CliError

HUB = "docker.io"
HUB_KEY = "https://index.docker.io/v1/"
_NAME = re.compile(
    r"(?:(?P<domain>(?:[a-zA-Z0-9](?:[a-zA-Z0-9-]*[a-zA-Z0-9])?(?:\.[a-zA-Z0-9](?:[a-zA-Z0-9-]*[a-zA-Z0-9])?)*"
    r"|\[[0-9a-fA-F:]+\])(?::[0-9]+)?)/)?(?P<path>[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
    r"(?:/[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*)*)"
)
_TAG = re.compile(r"[\w][\w.-]{0,127}", re.ASCII)
_DIGEST = re.compile(r"[A-Za-z][A-Za-z0-9]*(?:[-_+.][A-Za-z][A-Za-z0-9]*)*:[0-9a-fA-F]{32,}")


class Reference:
    """A name taken apart. `domain` and `path` are complete (`docker.io`, `library/busybox`)."""

    __slots__ = ("digest", "domain", "path", "tag")

    def __init__(self, domain: str, path: str, tag: str, digest: str) -> None:
        self.domain = domain
        self.path = path
        self.tag = tag
        self.digest = digest

    @property
    def familiar(self) -> str:
        """The repository as people write it: without docker.io and library."""
        if self.domain == HUB:
            return self.path.removeprefix("library/") if self.path.count("/") == 1 else self.path
        return f"{self.domain}/{self.path}"

    def __str__(self) -> str:
        tag = f":{self.tag}" if self.tag else ""
        return self.familiar + tag + (f"@{self.digest}" if self.digest else "")

    @property
    def auth_key(self) -> str:
        """The key of its registry's credentials in config.json."""
        return HUB_KEY if self.domain == HUB else self.domain


def parse(text: str) -> Reference:
    """The parts of `text`. CliError with docker's sentence when it is no name."""
    rest, at, digest = text.partition("@")
    slash = rest.rfind("/")
    colon = rest.find(":", slash + 1)
    tag = rest[colon + 1 :] if colon >= 0 else ""
    name = rest[:colon] if colon >= 0 else rest
    first, separator, remainder = name.partition("/")
    if separator and ("." in first or ":" in first or first == "localhost" or first.lower() != first):
        domain, path = first, remainder
    else:
        domain, path = HUB, name
    if domain == "index.docker.io":
        domain = HUB
    if domain == HUB and "/" not in path:
        path = f"library/{path}"
    if path.lower() != path:
        shown = path if domain == HUB else f"{domain}/{path}"
        raise CliError(f"invalid reference format: repository name ({shown}) must be lowercase")
    bad = not _NAME.fullmatch(f"{domain}/{path}") or (colon >= 0 and not _TAG.fullmatch(tag))
    if bad or (at and not _DIGEST.fullmatch(digest)):
        raise CliError("invalid reference format")
    return Reference(domain, path, tag, digest)
