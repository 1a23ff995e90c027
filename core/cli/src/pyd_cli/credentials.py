"""Credentials for registries: from config.json's `auths`, or from the credential helper it names."""

from __future__ import annotations

import base64
import json
from typing import TYPE_CHECKING, Any

from pyd_cli.errors import CliError

if TYPE_CHECKING:
    from pyd_cli.references import Reference
    from pyd_cli.session import Session


def registry_headers(session: Session, reference: Reference) -> dict[str, str]:
    """`X-Registry-Auth` for the registry of `reference`: base64url JSON, `{}` when nothing is known of it."""
    return {"X-Registry-Auth": encoded(find(session, reference.auth_key))}


def registries(session: Session) -> str:
    """`X-Registry-Config`: the credentials of every registry known, since a recipe may name any."""
    config = session.config
    keys = {*(config.get("auths") or {}), *(config.get("credHelpers") or {})}
    if store := config.get("credsStore"):
        keys |= listed(store)
    return encoded({key: found for key in sorted(keys) if (found := find(session, key))})


def listed(helper: str) -> set[str]:
    """The registries `docker-credential-<helper> list` knows."""
    content = json.loads(asked(helper, "list", b"") or "{}")
    return set(content) if isinstance(content, dict) else set()


def encoded(auth: dict[str, Any]) -> str:
    return base64.urlsafe_b64encode(json.dumps(auth).encode()).decode()


def find(session: Session, key: str) -> dict[str, Any]:
    """The AuthConfig for a registry; {} when there is none."""
    config = session.config
    helper = (config.get("credHelpers") or {}).get(key) or config.get("credsStore")
    if helper:
        found = from_helper(helper, key)
        if found:
            return found
    auths: dict[str, Any] = config.get("auths") or {}
    entry = auths.get(key)
    if entry is None:
        entry = next((value for name, value in auths.items() if hostname(name) == hostname(key)), None)
    if not isinstance(entry, dict):
        return {}
    auth: dict[str, Any] = {"serveraddress": key}
    if entry.get("auth"):
        try:
            name, _, password = base64.b64decode(entry["auth"]).decode().partition(":")
        except ValueError as fault:
            raise CliError(f"config.json: the credentials of {key} are not readable: {fault}") from fault
        auth.update(username=name, password=password.strip("\0"))
    if entry.get("identitytoken"):
        auth["identitytoken"] = entry["identitytoken"]
    return auth


def hostname(text: str) -> str:
    return text.partition("://")[2].partition("/")[0] if "://" in text else text.partition("/")[0]


def from_helper(helper: str, key: str) -> dict[str, Any]:
    """What `docker-credential-<helper> get` says; {} when it knows nothing."""
    answer = asked(helper, "get", key.encode())
    if not answer:
        return {}
    found = json.loads(answer)
    if found.get("Username") == "<token>":
        return {"serveraddress": key, "identitytoken": found.get("Secret", "")}
    return {"serveraddress": key, "username": found.get("Username", ""), "password": found.get("Secret", "")}


def asked(helper: str, verb: str, text: bytes) -> bytes:
    """The answer of `docker-credential-<helper> <verb>`; b"" when it knows nothing."""
    import subprocess

    program = f"docker-credential-{helper}"
    try:
        done = subprocess.run([program, verb], input=text, capture_output=True, check=False, timeout=60)
    except FileNotFoundError:
        raise CliError(
            f"error getting credentials: {program} is named in config.json, but it is not in $PATH"
        ) from None
    except subprocess.TimeoutExpired:
        raise CliError(f"error getting credentials: {program} did not answer within 60 s") from None
    if done.returncode:
        words = (done.stdout or done.stderr).decode("utf-8", "replace").strip()
        if "not found" in words:
            return b""
        raise CliError(f"error getting credentials - err: exit status {done.returncode}, out: `{words}`")
    return done.stdout
