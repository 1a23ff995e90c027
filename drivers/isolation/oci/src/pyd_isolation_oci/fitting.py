"""Fitting a document to this host: what a runtime would fail for, and dockerd's users expect to be warned about."""

from __future__ import annotations

import os
import resource
from collections.abc import Mapping
from typing import Any

from pyd_shim import limits
from pyd_shim.capabilities import BITS
from pyd_shim.cgroups import Group
from pyd_shim.files import read

__all__ = ["fit_process", "fit_resources"]

_UNLIMITED = (1 << 64) - 1


def fit_process(process: dict[str, Any]) -> list[str]:
    """Take the out-of-memory score on (the runtime and what it makes inherit it), and hard limits down to this host's; what
    was changed, in words."""
    warnings = []
    score = process.pop("oomScoreAdj", None)
    if score is not None:
        try:
            fd = os.open("/proc/self/oom_score_adj", os.O_WRONLY | os.O_CLOEXEC)
            try:
                os.write(fd, str(score).encode())
            finally:
                os.close(fd)
        except OSError as error:
            warnings.append(f"oom_score_adj {score} cannot be set: {error.strerror}")
    for each in process["rlimits"]:
        most = _most(each["type"])
        if each["hard"] > most or each["soft"] > most:
            name = each["type"].removeprefix("RLIMIT_").lower()
            warnings.append(
                f"ulimit {name}={each['soft']}:{each['hard']} is above this host's hard limit; {most} is used"
            )
            each["hard"], each["soft"] = min(each["hard"], most), min(each["soft"], most)
    return warnings


def _most(name: str) -> int:
    """The highest limit that can be given: this process's own without CAP_SYS_RESOURCE (setrlimit(2))."""
    _, hard = resource.getrlimit(getattr(resource, name))
    own = _UNLIMITED if hard == resource.RLIM_INFINITY else hard
    if own != _UNLIMITED and _may_raise():
        own = _UNLIMITED
    return min(own, int(read("/proc/sys/fs/nr_open"))) if name == "RLIMIT_NOFILE" else own


def _may_raise() -> bool:
    effective = next(line for line in read("/proc/self/status").splitlines() if line.startswith("CapEff:"))
    return bool(int(effective.split()[1], 16) & BITS["CAP_SYS_RESOURCE"])


def fit_resources(group: Group, resources: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """*resources* without the limits that this host has no control file for, each told in a warning."""
    fitted: dict[str, Any] = {}
    warnings: list[str] = []
    for section, values in resources.items():
        if section in ("devices", "hugepageLimits") or not isinstance(values, Mapping):
            fitted[section] = values
            continue
        kept = {}
        for key, value in values.items():
            if missing := limits.missing(group, {section: {key: value}}):
                warnings += missing
            elif (section, key) == ("blockIO", "weight") and not group.layout["pure"]:
                limits.apply(
                    group, {section: {key: value}}
                )  # BFQ's file has another name, which not every runtime knows
            else:
                if (section, key) == ("cpu", "realtimeRuntime"):
                    limits.give_realtime(group)
                kept[key] = value
        if kept:
            fitted[section] = kept
    return fitted, warnings
