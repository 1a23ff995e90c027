"""Proxies of `config.json`: what containers and builds are told of the way out, unless the user says otherwise."""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pyd_cli.session import Session

_KEYS = {
    "ALL_PROXY": "allProxy",
    "FTP_PROXY": "ftpProxy",
    "HTTPS_PROXY": "httpsProxy",
    "HTTP_PROXY": "httpProxy",
    "NO_PROXY": "noProxy",
}


def proxies(session: Session, given: Collection[str]) -> dict[str, str]:
    """Variables by name, in capitals and in small letters, but for names that are *given*: those of the daemon's address, else
    `default`."""
    every = session.config.get("proxies")
    if not isinstance(every, dict):
        return {}
    chosen = every.get(session.endpoint.text) or every.get("default")
    if not isinstance(chosen, dict):
        return {}
    values = {name: value for name, key in _KEYS.items() if isinstance(value := chosen.get(key), str) and value}
    both = [(each, value) for name, value in values.items() for each in (name, name.lower())]
    return {name: value for name, value in both if name not in given}
