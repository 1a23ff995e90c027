"""The containers service: what the API asks of containers. Their phases are `lifecycle`'s business."""

from __future__ import annotations

import asyncio
import builtins
import contextlib
import os
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec

from pyd_contracts.errors import (
    Conflict,
    InvalidArgument,
    NotFound,
    Unsupported,
)
from pyd_contracts.isolation import INIT
from pyd_contracts.values import Connection
from pyd_engine.containers import log_options, names
from pyd_engine.containers.agreements import Committed, Creation, ImageSource, Options
from pyd_engine.containers.archive import Files
from pyd_engine.containers.attach import ConnectPlan, Pending, parse_detach_keys
from pyd_engine.containers.config import ContainerConfig, CreateRequest, EndpointSettings, ExecConfig
from pyd_engine.containers.connecting import Connecting
from pyd_engine.containers.container import Container, Doing, Phase, RunState
from pyd_engine.containers.execs import Execs
from pyd_engine.containers.lifecycle import Lifecycle
from pyd_engine.containers.lines import Lines
from pyd_engine.containers.links import Links, register
from pyd_engine.containers.listing import select
from pyd_engine.containers.merging import command, merge
from pyd_engine.containers.pruning import prunable
from pyd_engine.containers.runner import Runner
from pyd_engine.containers.statistics import Meter
from pyd_engine.containers.store import ContainerStore
from pyd_engine.containers.top import processes
from pyd_engine.containers.updating import Updates
from pyd_engine.containers.validation import check_alone, check_name
from pyd_engine.containers.views import Views
from pyd_engine.identities import new_id
from pyd_engine.logs.reader import LogQuery, LogReader
from pyd_engine.logs.watch import SpoolWatch

__all__ = ["Containers"]


class Containers:
    """All operations on containers; the daemon's routes call these. A *ref* is an id, a unique prefix of one, or a name."""

    def __init__(
        self,
        store: ContainerStore,
        runner: Runner,
        images: ImageSource,
        views: Views,
        lines: Lines,
        options: Options,
        *,
        check: Callable[[CreateRequest, str | None], tuple[CreateRequest, list[str]]],
        process_spec: Callable[[Container, Any], Mapping[str, Any]],
        forget_document: Callable[[str], None],
        emit: Callable[[str, str, str, Mapping[str, str]], None],
        links: Links,
        network_name: Callable[[str], str],
        about_network: Callable[[str], tuple[str, str, str]],
    ) -> None:
        self.store = store
        self.runner = runner
        self._images = images
        self._views = views
        self._lines = lines
        self._options = options
        self._check = check
        self._emit = emit
        self._links = links
        self._network_name = network_name
        self._about_network = about_network
        self._pending = Pending()
        self._watch = SpoolWatch()
        self.execs = Execs(store, runner, process_spec, self._publish)
        self._life = Lifecycle(store, runner, self.execs, self._pending, self._publish, forget_document)
        # What only moves containers through their phases is the life cycle's own.
        self.start = self._life.start
        self.stop = self._life.stop
        self.kill = self._life.kill
        self.restart = self._life.restart
        self.pause = self._life.pause
        self.unpause = self._life.unpause
        self.waiter = self._life.waiter
        self.start_wanted = self._life.start_wanted
        self.files = Files(store, runner, self._life.lock, options.scratch, self._publish)
        self.files_stat, self.files_get, self.files_put = self.files.stat, self.files.get, self.files.put
        self.export, self.changes = self.files.export, self.files.changes
        meter = Meter(store, runner)
        self.statistics_once = meter.once
        self.statistics = meter.stream
        self.update = Updates(self._life, options.limits, self._publish).update
        connecting = Connecting(self._life, network_name, self._tell_network)
        self.connect, self.disconnect = connecting.connect, connecting.disconnect

    async def start_up(self) -> None:
        """Take over what an earlier daemon left."""
        await self._life.start_up()

    async def shut_down(self) -> None:
        """Let go; containers run on."""
        self._pending.close()
        self.execs.close()
        await self._life.shut_down()
        self._watch.close()
        await asyncio.to_thread(self.runner.close)

    # --- create --------------------------------------------------------------------------------------------------

    async def create(self, name: str | None, request: CreateRequest, platform: str | None) -> Creation:
        """Make a container of an image; nothing of it is left when that fails."""
        request, warnings = self._check(request, name)
        image = self._images.find(request.config.image, platform)
        config = merge(request.config, image.config)
        storage = (request.host_config.storage_opt or {}).get("driver") or self._options.storage
        self.runner.check_storage(storage)
        arguments = command(config)
        mounts = self.runner.mounts.plan(config, request.host_config, self.store.get)
        now = time.time_ns()
        container_id = new_id()
        container = Container(
            id=container_id,
            name=(name or "").removeprefix("/") or names.invent(self.store.name_taken),
            created_ns=now,
            image=image.id,
            image_ref=request.config.image,
            path=arguments[0],
            args=arguments[1:],
            config=config,
            host_config=request.host_config,
            storage=storage,
            isolation=self.runner.runtimes.of(request.host_config.runtime).isolation,
            state=RunState(phase=Phase.CREATING),
            endpoints=self._networks_of(request),
            links=register(self.store, request.host_config),
            mounts=mounts,
            platform="linux",
        )
        self.runner.isolation(container)  # refuses an unknown --runtime before anything is made
        self.store.add(container)
        try:
            parent = await self._images.ensure(image.id, storage)
            await asyncio.to_thread(self._make, container, parent)
        except BaseException:
            await asyncio.shield(asyncio.to_thread(self._unmake, container))
            self.store.drop(container_id)
            raise
        container = self._life.move(container_id, Doing.READY)
        self._publish("create", container)
        return Creation(container_id, warnings)

    def _make(self, container: Container, parent: str | None) -> None:
        self.runner.mounts.claim(container)
        self.runner.make(container, parent)
        self.runner.fill(container)

    def _unmake(self, container: Container) -> None:
        self.runner.unmake(container)
        self.runner.mounts.release(container, anonymous=True)

    def _networks_of(self, request: CreateRequest) -> dict[str, EndpointSettings]:
        """Endpoints by network name: the network mode's first, then those of the networking config."""
        mode = request.host_config.network_mode
        if mode.startswith("container:"):
            return {}
        if request.config.network_disabled:
            mode = "none"
        endpoints = {self._known_network(mode): EndpointSettings()}
        for asked, wishes in (request.networking_config.endpoints_config or {}).items():
            endpoints[self._known_network(asked)] = wishes
        check_alone(endpoints)
        return endpoints

    def _known_network(self, ref: str) -> str:
        """A network's own name. One that is not there is a fault of the request: "not found" would mean the image to clients,
        which would then pull it."""
        try:
            return self._network_name("bridge" if ref in ("", "default") else ref)
        except NotFound as error:
            raise InvalidArgument(str(error)) from error

    async def remove(self, ref: str, *, force: bool, volumes: bool = False, link: bool = False) -> None:
        """Remove it and all it has; a running one only by force. *link*: only the link that *ref* names."""
        if not link:
            await self._life.remove(ref, force=force, volumes=volumes)
            return
        self.store.get(ref)
        parent = self._links.remove(ref)
        if parent.state.phase.alive:
            await asyncio.to_thread(self.runner.renew_files, parent)

    # --- looking -------------------------------------------------------------------------------------------------

    async def list(
        self,
        *,
        all: bool,  # noqa: A002 - the API's word
        limit: int,
        size: bool,
        filters: Mapping[str, Sequence[str]],
    ) -> builtins.list[dict[str, Any]]:
        """Docker's ContainerSummary objects, newest first."""
        chosen = select(
            self.store, self.runner.published, self._network_ids, self._images.family, all_=all, limit=limit, filters=filters,
        )  # fmt: skip
        sizes = [await self._sizes(each) if size else None for each in chosen]
        return [self._lines.line(each, sizes_) for each, sizes_ in zip(chosen, sizes, strict=True)]

    def _network_ids(self, container: Container) -> Sequence[str]:
        found = []
        for name in container.endpoints:
            with contextlib.suppress(NotFound):  # removed since
                found.append(self._about_network(name)[0])
        return found

    async def inspect(self, ref: str, *, size: bool) -> dict[str, Any]:
        """Docker's ContainerInspectResponse."""
        container = self.store.get(ref)
        return self._views.inspect(
            container, self.execs.of(container.id), await self._sizes(container) if size else None
        )

    async def _sizes(self, container: Container) -> tuple[int, int]:
        own = await asyncio.to_thread(self.runner.usage, container)
        return own, own + self._images.size(container.image)

    # --- attach, logs -------------------------------------------------------------------------------------------

    async def attach(
        self, ref: str, *, stream: bool, logs: bool, stdin: bool, stdout: bool, stderr: bool, detach_keys: str | None
    ) -> ConnectPlan:
        """Check, and say how to wire the client. Before a start the client waits wired: it will see all output."""
        container = self.store.get(ref)
        keys = parse_detach_keys(detach_keys)
        if container.state.phase is Phase.PAUSED:
            raise Conflict(f"container {container.id} is paused, unpause the container before attach")
        if container.state.phase is Phase.RESTARTING:
            raise Conflict(f"container {container.id} is restarting, wait until the container is running")
        wiring = Connection(
            fd=-1,
            stdin=stdin and container.config.open_stdin,
            stdout=stdout,
            stderr=stderr,
            framed=not container.tty,
            detach_keys=keys if container.tty and stdin else b"",
        )

        async def perform(connection: Connection) -> None:
            await self._connect(container.id, connection, stream=stream, logs=logs)

        return ConnectPlan(framed=not container.tty, wiring=wiring, perform=perform)

    async def _connect(self, container_id: str, connection: Connection, *, stream: bool, logs: bool) -> None:
        container = self.store.get(container_id)
        if logs:
            reader = self._reader(container, LogQuery(stdout=connection.stdout, stderr=connection.stderr))
            await asyncio.to_thread(_replay, reader, connection.fd)
        if stream and (connection.stdin or connection.stdout or connection.stderr):
            async with self._life.lock(container_id):
                container = self.store.get(container_id)
                if container.state.phase.alive:
                    isolation = self.runner.isolation(container)
                    await asyncio.to_thread(
                        isolation.isolation_attach, container=container_id, process=INIT, connection=connection
                    )
                else:
                    self._pending.add(container_id, connection)
        self._publish("attach", container)

    async def logs(
        self, ref: str, *, follow: bool, stdout: bool, stderr: bool, since_ns: int, until_ns: int, timestamps: bool,
        tail: int | None, details: bool = False,
    ) -> LogReader:  # fmt: skip
        """What it wrote; times are nanoseconds since the epoch, 0 for no bound."""
        container = self.store.get(ref)
        return self._reader(
            container,
            LogQuery(
                follow=follow, stdout=stdout, stderr=stderr, since_ns=since_ns, until_ns=until_ns,
                timestamps=timestamps, tail=tail, details=log_options.details(container) if details else None,
            ),
        )  # fmt: skip

    def _reader(self, container: Container, query: LogQuery) -> LogReader:
        if not self.runner.delivery.readable(container):
            raise Unsupported("configured logging driver does not support reading")

        def running() -> bool:
            current = self.store.find(container.id)
            return current is not None and (
                current.state.phase.alive or current.state.phase in (Phase.STARTING, Phase.RESTARTING)
            )

        stopped = self._life.stopped_event(container.id)
        return LogReader(
            self.runner.logs(container.id),
            query,
            self._watch,
            framed=not container.tty,
            running=running,
            stopped=stopped,
        )

    async def resize(self, ref: str, height: int, width: int) -> None:
        """Set the terminal's size; where there is no terminal, nothing is to be done, as with dockerd."""
        container = self.store.get(ref)
        if not container.state.phase.alive:
            raise Conflict(f"container {container.id} is not running")
        if container.tty:
            isolation = self.runner.isolation(container)
            await asyncio.to_thread(
                isolation.isolation_resize, container=container.id, process=INIT, height=height, width=width
            )
        self._publish("resize", container, {"height": str(height), "width": str(width)})

    async def rename(self, ref: str, name: str) -> None:
        """Give it another name."""
        container = self.store.get(ref)
        name = name.removeprefix("/")
        if name == container.name:
            raise InvalidArgument("Renaming a container with the same name as its current name")
        old = container.name
        try:
            container = self.store.change(container.id, lambda c: msgspec.structs.replace(c, name=check_name(name)))
        except (InvalidArgument, Conflict) as error:
            raise type(error)(f"Error when allocating new name: {error}") from error
        self.runner.renamed(container)
        self._publish("rename", container, {"oldName": f"/{old}"})

    # --- exec ----------------------------------------------------------------------------------------------------

    async def exec_create(self, ref: str, config: ExecConfig) -> str:
        """Remember what is to be run; the exec's id."""
        return self.execs.create(ref, config)

    async def exec_start(
        self, exec_id: str, *, detach: bool, tty: bool, console_size: tuple[int, int] | None
    ) -> ConnectPlan:
        """Run it; attached ones begin when their client is wired."""
        return await self.execs.start(exec_id, detach=detach, tty=tty, console_size=console_size)

    async def exec_inspect(self, exec_id: str) -> dict[str, Any]:
        """Docker's ExecInspectResponse."""
        return self.execs.inspect(exec_id)

    async def exec_resize(self, exec_id: str, height: int, width: int) -> None:
        """Set the terminal's size."""
        await self.execs.resize(exec_id, height, width)

    async def top(self, ref: str, ps_args: str) -> dict[str, Any]:
        """What runs inside, as the host's ps(1) shows it."""
        container = self.store.get(ref)
        if container.state.phase is Phase.RESTARTING:
            raise Conflict(f"Container {container.id} is restarting, wait until the container is running")
        if not container.state.phase.alive:
            raise Conflict(f"container {container.id} is not running")
        return await asyncio.to_thread(processes, container.state.pid, ps_args)

    async def commit(
        self, ref: str, config: ContainerConfig | None, *, repository: str, tag: str, changes: Sequence[str],
        comment: str, author: str, pause: bool,
    ) -> str:  # fmt: skip
        """Make an image of a container as it is now; its id. Frozen meanwhile, if it runs and that is asked."""
        container = self.store.get(ref)
        freeze = pause and container.state.phase is Phase.RUNNING
        if freeze:
            await self._life.pause(container.id, passing=True)
        try:
            layer = await self.files.layer(container)
            try:
                base = container.config if config is None else merge(config, container.config)
                committed = Committed(
                    repository=repository, tag=tag, config=base, changes=changes, comment=comment, author=author,
                    created_by=" ".join((container.path, *container.args)),
                )  # fmt: skip
                image = await self._images.commit(container.image, aiter(layer), committed)
            finally:
                await layer.aclose()
        finally:
            if freeze:
                with contextlib.suppress(Conflict, NotFound):  # it was killed meanwhile
                    await self.unpause(container.id)
        self._publish("commit", container, {"comment": comment, "imageID": image, "imageRef": repository})
        return image

    async def prune(self, filters: Mapping[str, Sequence[str]]) -> dict[str, Any]:
        """Remove all that do not run, or those of them that the filters choose."""
        unknown = sorted(set(filters) - {"label", "label!", "until"})
        if unknown:
            raise InvalidArgument(f"invalid filter '{unknown[0]}'")
        deleted, reclaimed = [], 0
        for container in prunable(self.store.all(), filters):
            own, _ = await self._sizes(container)
            with contextlib.suppress(NotFound, Conflict):  # somebody else was faster, or started it
                await self.remove(container.id, force=False)
                deleted.append(container.id)
                reclaimed += own
        return {"ContainersDeleted": deleted or None, "SpaceReclaimed": reclaimed}

    # --- small things --------------------------------------------------------------------------------------------

    def _publish(self, action: str, container: Container, extra: Mapping[str, str] | None = None) -> None:
        attributes = {
            **(container.config.labels or {}),
            "image": container.image_ref,
            "name": container.name,
            **(extra or {}),
        }
        if action == "start":
            self._tell_networks("connect", container)
        self._emit("container", action, container.id, attributes)
        if action == "die":
            self._tell_networks("disconnect", container)

    def _tell_networks(self, action: str, container: Container) -> None:
        for name in container.endpoints:
            self._tell_network(action, name, container)

    def _tell_network(self, action: str, network: str, container: Container) -> None:
        try:
            identity, name, driver = self._about_network(network)
        except NotFound:
            return  # removed since: nothing is left to be told of
        self._emit("network", action, identity, {"container": container.id, "name": name, "type": driver})


def _replay(reader: LogReader, fd: int) -> None:
    """Write recorded output to a client, waiting while it does not read."""
    import select

    for batch in reader.everything():
        view = memoryview(batch)
        while view:
            try:
                view = view[os.write(fd, view) :]
            except BlockingIOError:
                select.select([], [fd], [], 60)
            except OSError:
                return  # the client left
