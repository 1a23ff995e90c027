"""A container's configuration over its image's: who wins, field by field.

Constraint: the rules are dockerd's (`daemon/commit.go` merge, `verifyContainerSettings`): clients depend on each of
them, above all on "setting an entrypoint forgets the image's command".
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Mapping
from typing import Any

import msgspec

from pyd_contracts.errors import InvalidArgument
from pyd_engine.containers.config import ContainerConfig, HealthConfig

__all__ = ["command", "merge"]


def merge(config: ContainerConfig, image: ContainerConfig) -> ContainerConfig:
    """*config* with its gaps filled from the *image*.

    Raises InvalidArgument ``no command specified`` when neither says what to run.
    """
    entrypoint, cmd = config.entrypoint, config.cmd
    if not entrypoint:
        cmd = cmd if cmd else image.cmd
        entrypoint = image.entrypoint if entrypoint is None else entrypoint
    if entrypoint == ("",):
        entrypoint = None  # docker run --entrypoint "": run the command as it is
    if not entrypoint and not cmd:
        raise InvalidArgument("no command specified")
    return msgspec.structs.replace(
        config,
        user=config.user or image.user,
        exposed_ports=_union(image.exposed_ports, config.exposed_ports),
        env=_merge_env(config.env, image.env),
        cmd=cmd,
        entrypoint=entrypoint,
        healthcheck=_merge_health(config.healthcheck, image.healthcheck),
        args_escaped=config.args_escaped or (image.args_escaped and config.cmd is None and cmd == image.cmd),
        volumes=_union(image.volumes, config.volumes) or None,
        working_dir=_clean(config.working_dir or image.working_dir),
        labels=_union(image.labels, config.labels) or {},
        stop_signal=config.stop_signal or image.stop_signal,
        stop_timeout=image.stop_timeout if config.stop_timeout is None else config.stop_timeout,
        shell=config.shell or image.shell,
    )


def command(config: ContainerConfig) -> tuple[str, ...]:
    """The arguments to execute, of a merged configuration."""
    return (*(config.entrypoint or ()), *(config.cmd or ()))


def _clean(directory: str) -> str:
    """Without ``.``, ``..`` and double slashes: the directory is made if it is missing, and none of these can be."""
    return re.sub("^//+", "/", posixpath.normpath(directory)) if directory else ""


def _merge_env(own: tuple[str, ...] | None, image: tuple[str, ...] | None) -> tuple[str, ...] | None:
    """The container's own variables first, then those of the image whose names are not among them."""
    if not own:
        return image if image else own
    names = {item.partition("=")[0] for item in own}
    return own + tuple(item for item in image or () if item.partition("=")[0] not in names)


def _union(image: Mapping[str, Any] | None, own: Mapping[str, Any] | None) -> dict[str, Any] | None:
    if image is None and own is None:
        return None
    return {**(image or {}), **(own or {})}


def _merge_health(own: HealthConfig | None, image: HealthConfig | None) -> HealthConfig | None:
    if own is None or image is None:
        return image if own is None else own
    if own.test and own.test[0] == "NONE":
        return own
    return HealthConfig(
        test=own.test or image.test,
        interval=own.interval or image.interval,
        timeout=own.timeout or image.timeout,
        retries=own.retries or image.retries,
        start_period=own.start_period or image.start_period,
        start_interval=own.start_interval or image.start_interval,
    )
