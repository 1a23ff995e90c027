"""Asking the daemon to pull or push, with the user's credentials for that registry."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from pyd_cli.credentials import registry_headers
from pyd_cli.references import parse

if TYPE_CHECKING:
    from pyd_cli.session import Session


def messages(session: Session, image: str, platform: str, all_tags: bool = False) -> Iterator[dict[str, Any]]:
    """The progress of a pull."""
    reference = parse(image)
    tag = reference.digest or reference.tag or ("" if all_tags else "latest")
    query = {"fromImage": reference.familiar, "tag": tag, "platform": platform}
    return session.api.stream("POST", "/images/create", query, headers=registry_headers(session, reference))


def push_messages(session: Session, image: str, all_tags: bool, platform: str) -> Iterator[dict[str, Any]]:
    """The progress of a push."""
    reference = parse(image)
    tag = "" if all_tags else reference.tag or "latest"
    path = f"/images/{reference.familiar}/push"
    query = {"tag": tag, "platform": _platform_json(platform)}
    return session.api.stream("POST", path, query, headers=registry_headers(session, reference))


def _platform_json(platform: str) -> str:
    if not platform:
        return ""
    import json

    system, _, machine = platform.partition("/")
    machine, _, variant = machine.partition("/")
    return json.dumps({"os": system, "architecture": machine, **({"variant": variant} if variant else {})})
