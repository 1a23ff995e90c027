"""What no record vouches for: containers, root file systems and directories that a crash left, found by their names."""

from __future__ import annotations

import functools
import logging
import os
import select
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pyd_contracts.errors import FailedPrecondition, NotFound, PydError
from pyd_contracts.isolation import INIT, IsolationBackend
from pyd_contracts.storage import StorageDriver
from pyd_contracts.values import Kind

__all__ = ["is_container_key", "sweep"]

log = logging.getLogger(__name__)
_END_SECONDS = 10.0


def sweep(
    known: set[str], isolations: Mapping[str, IsolationBackend], storages: Mapping[str, StorageDriver],
    directories: Sequence[Path],
) -> None:  # fmt: skip
    """Remove what carries an id of no container in *known*: supervisors, root file systems, directories."""
    for name, isolation in isolations.items():
        for container in tuple(isolation.isolation_walk()):
            if container not in known:
                log.warning("container %s of the %s backend has no record; ending it", container[:12], name)
                _try(functools.partial(_end_stranger, isolation, container))
    for name, storage in storages.items():
        for snapshot in tuple(storage.storage_walk()):
            if snapshot.name not in known and is_container_key(snapshot.name, snapshot.kind):
                log.warning("root file system %s in %s has no record; removing it", snapshot.name[:12], name)
                _try(functools.partial(storage.storage_remove, name=snapshot.name))
    for parent in directories:
        for entry in os.scandir(parent):
            if entry.name not in known and is_container_key(entry.name, Kind.ACTIVE):
                shutil.rmtree(entry.path, ignore_errors=True)


def _end_stranger(backend: IsolationBackend, container: str) -> None:
    try:
        backend.isolation_kill(container=container, process=INIT, signal=9, everyone=True)
        fd = backend.isolation_exit_fd(container=container, process=INIT)
        try:
            select.select([fd], [], [], _END_SECONDS)
        finally:
            os.close(fd)
    except (NotFound, FailedPrecondition):
        pass  # stopped already
    backend.isolation_delete(container=container)


def _try(step: Any) -> None:
    try:
        step()
    except PydError as error:
        log.error("sweep: %s", error)


def is_container_key(name: str, kind: Kind) -> bool:
    """Whether a name is that of a container's root file system or directory: 64 hex digits, and writable."""
    return kind is Kind.ACTIVE and len(name) == 64 and all(digit in "0123456789abcdef" for digit in name)
