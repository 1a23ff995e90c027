"""``HostConfig.SecurityOpt``: words that loosen or tighten a container, parsed and checked."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from pyd_contracts.errors import InvalidArgument

__all__ = ["SecurityOptions", "parse_security_options"]


@dataclass(frozen=True, slots=True)
class SecurityOptions:
    """What the options say.

    no_new_privileges  None: the daemon's default
    seccomp     None: the default profile; ``unconfined``; or a profile in Docker's form (the client sends its text)
    apparmor    empty: the default where the kernel has AppArmor; else a profile's name
    labels      SELinux label words
    system_paths_unconfined  no masked and no read-only paths
    writable_cgroups  /sys/fs/cgroup is mounted writable
    """

    no_new_privileges: bool | None = None
    seccomp: str | Mapping[str, Any] | None = None
    apparmor: str = ""
    labels: tuple[str, ...] = ()
    system_paths_unconfined: bool = False
    writable_cgroups: bool = False


def parse_security_options(options: Iterable[str]) -> SecurityOptions:
    """Read the options; the last of a kind wins, as in dockerd.

    Raises InvalidArgument in Docker's words, also for seccomp profiles that are not JSON objects.
    """
    found: dict[str, Any] = {}
    labels: list[str] = []
    for option in options:
        if option in ("no-new-privileges", "no-new-privileges:true"):
            found["no_new_privileges"] = True
            continue
        if option == "disable":
            labels.append("disable")
            continue
        equal, colon = option.find("="), option.find(":")
        at = equal if equal >= 0 else colon  # "key:value" is the old form and still sent
        if at < 0:
            raise InvalidArgument(f'invalid --security-opt 1: "{option}"')
        key, value = option[:at], option[at + 1 :]
        if key == "label":
            labels.append(value)
        elif key == "apparmor":
            found["apparmor"] = value
        elif key == "seccomp":
            found["seccomp"] = _seccomp(value)
        elif key in ("no-new-privileges", "writable-cgroups"):
            if value.lower() not in ("true", "false", "1", "0", "t", "f"):
                raise InvalidArgument(f'invalid --security-opt 2: "{option}"')
            found[key.replace("-", "_")] = value.lower() in ("true", "1", "t")
        elif key == "systempaths" and value == "unconfined":
            found["system_paths_unconfined"] = True
        else:
            raise InvalidArgument(f'invalid --security-opt 2: "{option}"')
    return SecurityOptions(labels=tuple(labels), **found)


def _seccomp(value: str) -> str | Mapping[str, Any] | None:
    if value == "unconfined":
        return value
    if value in ("builtin", ""):
        return None
    try:
        profile = json.loads(value)
    except (ValueError, RecursionError) as error:
        raise InvalidArgument(f"Decoding seccomp profile failed: {error}") from error
    if not isinstance(profile, dict):
        raise InvalidArgument("Decoding seccomp profile failed: a profile is a JSON object")
    return profile
