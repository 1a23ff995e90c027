"""The user's `config.json`: default formats, detach keys, and registry credentials (`auths`)."""

from __future__ import annotations

import os
import sys
from typing import Any


def load(directory: str) -> dict[str, Any]:
    """The content of `config.json`; {} when there is none, and, with a warning, when it cannot be read."""
    import json

    path = os.path.join(directory, "config.json")
    try:
        with open(path, encoding="utf-8") as file:
            content = json.load(file)
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as fault:
        print(f"WARNING: Error loading config file: {path}: {fault}", file=sys.stderr)
        return {}
    return content if isinstance(content, dict) else {}


def save(directory: str, config: dict[str, Any]) -> None:
    """Write `config.json` whole, readable by the user alone (it holds credentials)."""
    import json

    os.makedirs(directory, mode=0o700, exist_ok=True)
    path = os.path.join(directory, "config.json")
    target = os.path.realpath(path)  # config.json may be a link into a dotfiles repository: keep the link
    draft = f"{target}.{os.getpid()}"
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            json.dump(config, file, indent="\t", ensure_ascii=False)
            file.flush()
            os.fsync(file.fileno())
        os.rename(draft, target)
    except OSError:
        os.unlink(draft)
        raise
