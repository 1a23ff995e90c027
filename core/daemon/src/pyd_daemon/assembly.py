"""Building the whole daemon: the only place that knows every part.

Order: metadata, events, drivers, then the services of each noun, each given its collaborators. Undone backwards.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import uuid
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from ipaddress import IPv4Network, IPv6Network
from pathlib import Path
from typing import Any, cast
from urllib.parse import urlsplit

from pyd_contracts.errors import FailedPrecondition, InvalidArgument, from_oserror
from pyd_daemon import delivery
from pyd_daemon.backends import Backends
from pyd_daemon.builds import BuildsFace
from pyd_daemon.config import Configuration
from pyd_daemon.images import ImagesFace
from pyd_daemon.networks import NetworksFace
from pyd_daemon.room import make_room, set_aside
from pyd_daemon.system import SystemService
from pyd_daemon.volumes import VolumesFace
from pyd_engine.builds.service import Builds, Frontends
from pyd_engine.composition import Composition, CompositionError, compose
from pyd_engine.containers import log_options
from pyd_engine.containers.agreements import Options
from pyd_engine.containers.assembly import make_containers
from pyd_engine.containers.host_config import LogConfig
from pyd_engine.containers.remap import Remap, check_place, check_storage, read_remap
from pyd_engine.events.bus import EventBus
from pyd_engine.images.registry import Registries
from pyd_engine.images.service import Images
from pyd_engine.images.transport import RegistryConfig
from pyd_engine.layers.service import Layers, Storage
from pyd_engine.logs.courier import Courier
from pyd_engine.networks.creation import NetworkConfig
from pyd_engine.networks.explanations import Explanations
from pyd_engine.networks.service import Networks
from pyd_engine.proxy.service import Proxy
from pyd_engine.store.content import Content
from pyd_engine.store.database import Database
from pyd_engine.upkeep import Upkeep
from pyd_engine.volumes.service import Volumes

__all__ = ["Engine", "Foundation", "assemble", "engine_id"]


class Foundation:
    """What all services stand on: metadata, events, drivers. Opened whole or not at all."""

    def __init__(self, configuration: Configuration, instance: str, log: logging.Logger) -> None:
        """Raises CompositionError when a required driver does not work, ResourceExhausted on a full disk."""
        self.configuration = configuration
        self.instance = instance
        self.log = log
        root, run = configuration.data_root, configuration.run_root
        make_room(root, log)
        _refuse_amnesia(root)
        with ExitStack() as undo:
            self.database = Database(root / "metadata.db")
            undo.callback(self.database.close)
            self.events = EventBus(self.database)
            self.id = engine_id(root)
            self.composition: Composition = compose(configuration.selection(), root, run, instance, log)
            undo.callback(self.composition.close)
            self.events.forward(self.composition.listeners.publish)
            set_aside(root, log)
            self._undo = undo.pop_all()

    def close(self) -> None:
        """Close drivers and plugins, then the metadata. Twice is once."""
        self._undo.close()

    async def aclose(self) -> None:
        """The same in a worker thread: drivers' hooks block."""
        await asyncio.get_running_loop().run_in_executor(None, self.close)


def engine_id(root: Path) -> str:
    """The daemon's own id, made when the data root is first used and kept with it.

    Raises an error of the family when it cannot be written.
    """
    path = root / "engine-id"
    with contextlib.suppress(FileNotFoundError):
        if known := path.read_text().strip():
            return known
    fresh = str(uuid.uuid4())
    try:
        partial = path.with_suffix(".new")
        with open(partial, "w", encoding="ascii") as file:
            file.write(f"{fresh}\n")
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    except OSError as error:
        raise from_oserror(error, f"write {path}") from error
    return fresh


def _refuse_amnesia(root: Path) -> None:
    """Without its metadata every image and container would be one that nobody vouches for, and be swept away."""
    path = root / "metadata.db"
    try:
        if path.exists() and path.stat().st_size:
            return
        kept = [each for each in ("content/blobs/sha256", "containers") if any((root / each).glob("*"))]
    except OSError as error:
        raise from_oserror(error, f"look at {path}") from error
    if kept:
        raise FailedPrecondition(
            f"{path} is {'empty' if path.exists() else 'not there'}, and there is something in {root} that it knew of: "
            f"{', '.join(kept)}. Restore it from a backup; or, to give all of that up, remove these directories and storage"
        )


class Engine:
    """The whole engine behind the routes; satisfies `lifecycle.Assembled`."""

    def __init__(self, foundation: Foundation) -> None:
        configuration, base = foundation.configuration, foundation
        root, run = configuration.data_root, configuration.run_root
        composition, events = base.composition, base.events
        content = Content(root / "content")
        storages = {name: relay.call for name, relay in composition.storage.items()}
        layers = Layers(
            base.database,
            content,
            # The hooks carry the driver's capabilities, and LayerTargets' hook where that is declared.
            cast("Mapping[str, Storage]", storages),
            run / "layers",
            log=base.log.getChild("layers"),
        )
        self._registries = Registries(_registries(configuration))
        images = Images(
            base.database,
            content,
            layers,
            self._registries,
            driver=configuration.default_storage,
            unpack_on_pull=configuration.unpack_on_pull,
            log=base.log.getChild("images"),
        )
        self._proxy = Proxy(run, base.log.getChild("proxy"))
        self._has_proxy = configuration.userland_proxy
        self._networks = Networks(
            base.database,
            composition.network,
            composition.ipam,
            run / "networks",
            NetworkConfig(pools=_pools(configuration)),
            base.log.getChild("networks"),
            self._proxy if self._has_proxy else None,
        )
        emit = _emitter(events)
        volumes = Volumes(
            base.database,
            {name: relay.call for name, relay in composition.volume.items()},
            configuration.default_volume,
            emit,
        )
        loggings = {name: relay.call for name, relay in composition.logging.items()}
        try:
            log_options.check(
                LogConfig(type=configuration.default_logging, config=configuration.log_options), loggings, {}
            )
        except InvalidArgument as error:
            raise CompositionError([f"[logging] options: {error}"]) from error
        self._layers = layers
        self._images = images
        faces = ImagesFace(images, content, self._registries, events.publish)
        self._containers = make_containers(
            database=base.database,
            images=faces,
            networks=self._networks,
            volumes=volumes,
            network_drivers=composition.network,
            storages=storages,
            isolations={name: relay.call for name, relay in composition.isolation.items()},
            emit=emit,
            data_root=root,
            run_root=run,
            options=Options(
                storage=configuration.default_storage,
                isolation=configuration.default_isolation,
                logging=LogConfig(type=configuration.default_logging, config=configuration.log_options),
                keep_output=configuration.keep_output,
                hold_output=configuration.hold_output,
                remap=_remap(configuration, storages),
            ),
            loggings=loggings,
            loggings_absent=_absent(composition, "logging"),
            courier=Courier(
                delivery.COMMAND,
                delivery.hello(configuration, base.instance),
                root / "undelivered",
                configuration.hold_output,
                base.log.getChild("logging"),
            ),
            cgroup_parent="/pyd" if base.instance == "00000000" else f"/pyd-{base.instance}",
        )
        faces.used_by(self._containers.store)
        kept = VolumesFace(volumes)
        self._builds = Builds(
            base.database,
            images,
            self._containers,
            Frontends(
                {name: relay.call for name, relay in composition.frontend.items()},
                _absent(composition, "frontend"),
                configuration.default_frontend,
            ),
            self._registries.config,
            data=root,
            run=run / "builds",
            logging="none" if "none" in loggings else "",
            named=faces.named,
            pulled=faces.pulled,
        )
        builds = BuildsFace(self._builds)
        upkeep = Upkeep(
            base.database,
            content,
            images,
            layers,
            cast("Mapping[str, Storage]", storages),
            self._containers.store.all,
            root / "containers",
            base.log.getChild("upkeep"),
        )
        system = SystemService(
            configuration, composition, events, self._containers, faces, kept, upkeep, builds, engine_id=base.id,
            runtimes=self._containers.runner.runtimes,
        )  # fmt: skip
        explanations = Explanations(self._networks, composition.network)
        networks = NetworksFace(self._networks, explanations, events.publish)
        self.backends = Backends(system, events, self._containers, faces, networks, kept, builds)
        self._foundation = foundation

    async def start_up(self) -> None:
        """Bring networks into line with the kernel, adopt what runs, remove what nobody vouches for."""
        await asyncio.to_thread(self._proxy.adopt)
        if not self._has_proxy:
            await asyncio.to_thread(self._proxy.close, end=True)  # one that an earlier configuration wanted
        await asyncio.to_thread(self._networks.ensure_defaults)
        await self._containers.start_up()
        await self._builds.start_up()
        alive = {each.id for each in self._containers.store.all() if each.state.phase.alive}
        for words in await asyncio.to_thread(self._networks.reconcile, alive):
            self._foundation.log.info("removed %s", words)
        await self._layers.sweep()
        await self._images.collect()
        self._containers.start_wanted()

    def end_streams(self) -> None:
        """End ``/events``."""
        self._foundation.events.close()

    async def shut_down(self) -> None:
        """Let go of everything, the last made first."""
        try:
            await self._containers.shut_down()
            await self._registries.close()
            await asyncio.to_thread(self._proxy.close)
        finally:
            await self._foundation.aclose()


def assemble(configuration: Configuration, instance: str, log: logging.Logger) -> Engine:
    """Build the daemon's engine. Blocks: drivers look at the kernel.

    Raises CompositionError when a required driver does not work, and what opening the stores raises.
    """
    foundation = Foundation(configuration, instance, log)
    try:
        return Engine(foundation)
    except BaseException:
        foundation.close()
        raise


def _remap(configuration: Configuration, storages: Mapping[str, Any]) -> Remap | None:
    """The ids of containers. Raises InvalidArgument when there are none, or files cannot be shown with them."""
    remap = read_remap(configuration.userns_remap)
    if remap is not None:
        check_place(configuration.userns_remap, configuration.data_root)
        check_storage(configuration.userns_remap, configuration.default_storage, storages)
    return remap


def _absent(composition: Composition, kind: str) -> dict[str, str]:
    """Why installed drivers of a kind are not ready."""
    return {
        each.name: each.reason or each.state
        for each in composition.report
        if each.kind == kind and each.state != "ready"
    }


def _emitter(events: EventBus) -> Callable[[str, str, str, Mapping[str, str]], None]:
    def emit(kind: str, action: str, actor: str, attributes: Mapping[str, str]) -> None:
        events.publish(kind, action, actor, attributes)

    return emit


def _registries(configuration: Configuration) -> RegistryConfig:
    """A mirror that is written with http:// is meant to be reached so."""
    mirrors = [urlsplit(mirror) for mirror in configuration.mirrors]
    plain = {mirror.netloc for mirror in mirrors if mirror.scheme == "http"}
    return RegistryConfig(
        insecure=frozenset(configuration.insecure_registries) | plain,
        mirrors=tuple(mirror.netloc for mirror in mirrors),
    )


def _pools(configuration: Configuration) -> tuple[tuple[IPv4Network | IPv6Network, int], ...]:
    """What subnets of networks are cut from."""
    return tuple((pool.base, pool.size) for pool in configuration.address_pools)
