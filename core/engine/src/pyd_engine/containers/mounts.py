"""Containers' view of the volumes: which mounts a container has, its volumes taken, filled, used and given back."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path

from pyd_contracts.errors import Conflict, InvalidArgument, NotFound, from_oserror
from pyd_contracts.values import Mount
from pyd_engine.containers.binds import Bind, anonymous_volumes, parse_volumes_from
from pyd_engine.containers.config import ContainerConfig
from pyd_engine.containers.container import Container
from pyd_engine.containers.host_config import HostConfig
from pyd_engine.containers.validation import mounts_of
from pyd_engine.identities import new_id
from pyd_engine.volumes.filling import fill
from pyd_engine.volumes.handles import Handles
from pyd_engine.volumes.service import Volumes
from pyd_engine.volumes.store import ANONYMOUS
from pyd_shim import kernel

__all__ = ["ContainerMounts", "Mounted"]


class Mounted:
    """A container's mounts with their sources on this host; to be closed when the container has been built."""

    def __init__(self, binds: Sequence[Bind], held: ExitStack) -> None:
        self.binds = binds
        self._held = held

    def close(self) -> None:
        """Let go of what only the building of the container needed."""
        self._held.close()


class ContainerMounts:
    """What a container's life needs of the volumes service. *run* is a directory that a reboot empties."""

    def __init__(self, volumes: Volumes, run: Path) -> None:
        self.volumes = volumes
        self._run = run
        self._subpaths = Handles(run)

    # --- create --------------------------------------------------------------------------------------------------

    def plan(
        self, config: ContainerConfig, host_config: HostConfig, find: Callable[[str], Container]
    ) -> tuple[Bind, ...]:
        """The mounts of a new container: those of others (``--volumes-from``), its own, and what the image wants to have in
        volumes; a later one of the first two kinds replaces an earlier one. Nothing is made.

        *config* is merged with the image's. Raises InvalidArgument.
        """
        found: dict[str, Bind] = {}
        for spec in host_config.volumes_from or ():
            found |= {each.destination: each for each in _of_another(spec, find)}
        found |= {each.destination: each for each in mounts_of(host_config)}
        wanted = anonymous_volumes(config.volumes or (), found)
        found |= {each.destination: dataclasses.replace(each, driver=host_config.volume_driver) for each in wanted}
        for bind in found.values():
            if bind.type == "image":
                raise InvalidArgument(f"mount at {bind.destination}: mounts of type image are not supported")
        return tuple(_named(bind) for bind in found.values())

    def claim(self, container: Container) -> None:
        """Make the volumes that are not there, and keep all of them from being removed. Twice is once."""
        for bind in _volumes(container):
            try:
                self.volumes.create(
                    bind.source,
                    bind.driver,
                    bind.driver_options,
                    {**(bind.labels or {}), ANONYMOUS: ""} if bind.anonymous else bind.labels,
                    holder=container.id,
                )
            except NotFound as error:  # of the driver: "not found" would mean the image to clients
                raise InvalidArgument(str(error)) from error

    def fill(self, container: Container, root: Sequence[Mount]) -> None:
        """Copy what the image has at the places of empty volumes into them. *root* says how to mount the root file system."""
        users = [bind for bind in _volumes(container) if bind.copy and not bind.subpath]
        try:
            paths = [(bind, self.volumes.mount(bind.source, container.id)) for bind in users]
            empty = [(bind, path) for bind, path in paths if not any(os.scandir(path))]
            words = fill(root, [(bind.destination, path) for bind, path in empty], self._run) if empty else []
        except OSError as error:
            raise from_oserror(error, f"look into the volumes of container {container.name}") from error
        finally:
            for bind in users:
                self.volumes.unmount(bind.source, container.id)
        for (bind, _), word in zip(empty, words, strict=True):
            if word == "file":
                raise InvalidArgument(f"cannot mount volume over existing file, file exists {bind.destination}")

    # --- run -----------------------------------------------------------------------------------------------------

    def mount(self, container: Container, *, owner: tuple[int, int] = (0, 0), announce: bool = True) -> Mounted:
        """Make every source usable: volumes mounted, directories of ``-v`` made, for *owner* on this host. Unless for a run,
        nothing is announced."""
        with ExitStack() as undo:
            undo.callback(self.unmount, container)
            held = undo.enter_context(ExitStack())
            binds = [self._with_source(container, bind, held, owner, announce) for bind in container.mounts]
            undo.pop_all()
        return Mounted(binds, held)

    def _with_source(
        self, container: Container, bind: Bind, held: ExitStack, owner: tuple[int, int], announce: bool
    ) -> Bind:
        if bind.type == "volume":
            attributes = _attributes(container, bind) if announce else None
            path = self.volumes.mount(bind.source, container.id, attributes, announce=announce)
            source = self._beneath(path, bind.subpath, held) if bind.subpath else str(path)
            return dataclasses.replace(bind, source=source)
        if bind.type == "bind" and bind.create and not os.path.exists(bind.source):
            try:
                _make(bind.source, owner)
            except OSError as error:
                raise InvalidArgument(
                    f"error while creating mount source path '{bind.source}': {error.strerror}"
                ) from error
        return bind

    def _beneath(self, volume: Path, subpath: str, held: ExitStack) -> str:
        """A mount of what *subpath* is now: whoever shares the volume may put a link there later (CVE-2017-1002101)."""
        resolve = kernel.RESOLVE_BENEATH | kernel.RESOLVE_NO_MAGICLINKS
        directory = os.open(volume, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            fd = kernel.openat2(directory, subpath, os.O_PATH, resolve)
        except OSError as error:
            why = "it leads out of the volume" if error.errno == 18 else (error.strerror or "").lower()
            raise InvalidArgument(f"cannot access path {volume}/{subpath}: {why}") from error
        finally:
            os.close(directory)
        try:
            return held.enter_context(self._subpaths.bound(fd))
        finally:
            os.close(fd)

    def resume(self, container: Container) -> None:
        """An earlier daemon started it: it uses its volumes."""
        for bind in _volumes(container):
            self.volumes.mount(bind.source, container.id, _attributes(container, bind))

    def unmount(self, container: Container) -> None:
        """It uses them no longer. Twice is once."""
        for bind in _volumes(container):
            self.volumes.unmount(bind.source, container.id, {"container": container.id})

    # --- the end -------------------------------------------------------------------------------------------------

    def release(self, container: Container, *, anonymous: bool) -> None:
        """The container is gone; with *anonymous* its volumes without a name go too, unless another container has them."""
        self.volumes.release(container.id, [bind.source for bind in _volumes(container)])
        for bind in _volumes(container):
            if anonymous and bind.anonymous:
                try:
                    self.volumes.remove(bind.source, force=True)
                except Conflict:
                    continue

    def reconcile(self, containers: Iterable[Container]) -> None:
        """At the daemon's start: who holds what."""
        self._subpaths.sweep()
        self.volumes.reconcile({each.id: [bind.source for bind in _volumes(each)] for each in containers})

    # --- shown ---------------------------------------------------------------------------------------------------

    def points(self, container: Container) -> list[dict[str, object]]:
        """Docker's MountPoint objects."""
        return [self._point(bind) for bind in container.mounts if not bind.hidden]

    def _point(self, bind: Bind) -> dict[str, object]:
        point: dict[str, object] = {"Type": bind.type}
        source = bind.source
        if bind.type == "volume":
            try:
                record = self.volumes.get(bind.source)
            except NotFound:
                source, driver = "", bind.driver
            else:
                path, driver = self.volumes.path(record), record.driver
                source = str(path) if path else ""
            point |= {"Name": bind.source, "Source": source, "Destination": bind.destination, "Driver": driver}
        else:
            point |= {"Source": source, "Destination": bind.destination}
        mode = "" if bind.type == "tmpfs" else bind.mode
        return {**point, "Mode": mode, "RW": not bind.read_only, "Propagation": bind.propagation}


def _make(path: str, owner: tuple[int, int]) -> None:
    """A directory and those above that are not there, all of them *owner*'s. Raises OSError."""
    above = os.path.dirname(path)
    if above != path and not os.path.isdir(above):
        _make(above, owner)
    try:
        os.mkdir(path, 0o755)
    except FileExistsError:
        return
    if owner != (0, 0):  # else it has the group that the directory above may hand down (inode(7), S_ISGID)
        os.chown(path, *owner)


def _volumes(container: Container) -> list[Bind]:
    return [bind for bind in container.mounts if bind.type == "volume"]


def _attributes(container: Container, bind: Bind) -> Mapping[str, str]:
    return {
        "container": container.id,
        "destination": bind.destination,
        "propagation": bind.propagation,
        "read/write": str(not bind.read_only).lower(),
    }


def _named(bind: Bind) -> Bind:
    if bind.type == "volume" and not bind.source:
        return dataclasses.replace(bind, source=new_id(), anonymous=True)
    return bind


def _of_another(spec: str, find: Callable[[str], Container]) -> Iterable[Bind]:
    """The volumes and binds of another container."""
    ref, mode = parse_volumes_from(spec)
    try:
        other = find(ref)
    except NotFound as error:
        raise InvalidArgument(str(error)) from error  # "not found" would mean the image to clients
    read_only = "ro" in mode.split(",")
    for bind in other.mounts:
        if bind.type in ("volume", "bind"):
            yield dataclasses.replace(bind, read_only=bind.read_only or read_only, copy=False)
