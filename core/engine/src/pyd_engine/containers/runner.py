"""Starting and ending one run of a container: the order of effects, and their undoing.

Everything here blocks and runs in a worker thread, one container at a time by the service's lock. Intent is on disk before
it is called, and every step may be repeated after a crash: names of kernel objects derive from the container's id.
"""

from __future__ import annotations

import contextlib
import functools
import logging
import os
import select
import shutil
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from pyd_contracts.errors import (
    AlreadyExists,
    FailedPrecondition,
    InvalidArgument,
    NotFound,
    PydError,
    Unsupported,
    from_oserror,
)
from pyd_contracts.isolation import INIT, IsolationBackend
from pyd_contracts.storage import StorageDriver
from pyd_contracts.values import (
    Connection,
    Execution,
    Mount,
    PublishedPort,
    Sandbox,
    State,
    Status,
    Stdio,
    TreeChange,
)
from pyd_engine.containers.binds import Bind
from pyd_engine.containers.config import EndpointSettings
from pyd_engine.containers.connector import Connector
from pyd_engine.containers.container import Container
from pyd_engine.containers.delivery import Delivery
from pyd_engine.containers.joining import with_users, without_users
from pyd_engine.containers.links import Links
from pyd_engine.containers.mounts import ContainerMounts
from pyd_engine.containers.network_files import NetworkFiles
from pyd_engine.containers.remap import Remap, check_powers
from pyd_engine.containers.runtimes import RuntimeTable
from pyd_engine.containers.storage_options import storage_options
from pyd_engine.containers.sweeping import sweep
from pyd_engine.layers.service import VIEW_PREFIX
from pyd_engine.networks.records import EndpointRecord

__all__ = ["Runner", "SpecSource", "Started"]

log = logging.getLogger(__name__)
_END_SECONDS = 10.0


class SpecSource(Protocol):
    """Makes OCI documents of records (`pyd_engine.containers.specs`)."""

    def container(
        self, container: Container, *, root: Path, files: Mapping[str, Path], namespaces: Mapping[str, str | None],
        hostname: str, mounts: Sequence[Bind] = (), variables: Sequence[str] = (),
    ) -> Mapping[str, object]: ...  # fmt: skip
    def remap_of(self, container: Container) -> Remap | None: ...


@dataclass(frozen=True, slots=True)
class Started:
    """What a start gave. *exit_fd* becomes readable at the end (`isolation_exit_fd`); the receiver closes it."""

    pid: int
    warnings: tuple[str, ...]
    exit_fd: int


class Runner:
    """Performs runs."""

    def __init__(
        self, data: Path, run: Path, storages: Mapping[str, StorageDriver], isolations: Mapping[str, IsolationBackend],
        runtimes: RuntimeTable, networks: Connector, mounts: ContainerMounts, specs: SpecSource, delivery: Delivery,
        links: Links,
    ) -> None:  # fmt: skip
        self._links = links
        self._data = data
        self._run = run
        self._storages = storages
        self._isolations = isolations
        self.runtimes = runtimes
        self._networks = networks
        self.mounts = mounts
        self.delivery = delivery
        self._specs = specs
        self._files = NetworkFiles(self.directory, networks, links)

    def close(self) -> None:
        """Let go of what serves containers; these run on."""
        self.delivery.close()
        self._networks.close()

    # --- places --------------------------------------------------------------------------------------------------

    def directory(self, container: str) -> Path:
        """What of a container survives reboots."""
        return self._data / container

    def bundle(self, container: str) -> Path:
        """What of a run lives until a reboot at the most."""
        return self._run / container

    def logs(self, container: str) -> Path:
        """The spools."""
        return self.directory(container) / "logs"

    def spool(self, container: Container) -> Path | None:
        """The spool of the present run; None: nothing is kept."""
        if not self.delivery.spooled(container):
            return None
        return self.logs(container.id) / f"{container.runs}.spool"

    # --- a container's own places --------------------------------------------------------------------------------

    def make(self, container: Container, parent: str | None) -> None:
        """Directories and root file system of a new container."""
        with ExitStack() as undo:
            undo.callback(shutil.rmtree, self.directory(container.id), ignore_errors=True)
            try:
                self.logs(container.id).mkdir(mode=0o700, parents=True, exist_ok=True)
            except OSError as error:
                raise from_oserror(error, f"make {self.logs(container.id)}") from error
            storage = self._storage(container)
            storage.storage_prepare(key=container.id, parent=parent, options=storage_options(container))
            undo.pop_all()

    def fill(self, container: Container) -> None:
        """Copy what the image has into empty volumes of a new container."""
        self.mounts.fill(container, self.root(container))
        self.release(container)

    def unmake(self, container: Container) -> None:
        """Remove root file system and directories; what is not there is fine."""
        try:
            self._storage(container).storage_remove(name=container.id)
        except NotFound:
            pass
        self.delivery.removed(container)
        for directory in (self.bundle(container.id), self.directory(container.id)):
            try:
                shutil.rmtree(directory)
            except FileNotFoundError:
                pass
            except OSError as error:
                raise from_oserror(error, f"remove {directory}") from error

    def usage(self, container: Container) -> int:
        """Bytes of the container's own layer; 0 when it is not there."""
        try:
            return self._storage(container).storage_usage(name=container.id).bytes
        except NotFound:
            return 0

    def renamed(self, container: Container) -> None:
        """The container has another name: so have its places on networks."""
        self._networks.rename(container.id, container.name)

    def resume_networks(self, container: Container) -> None:
        """An earlier daemon started it: put it where it belongs, let it be found, and answer its questions."""
        netns = Path(f"/proc/{container.state.pid}/ns/net")
        changed = self._networks.put_right(container, netns)
        self._networks.resume_names(container)
        if changed:
            self._files.write(container, self._networks.places(container.id), "")

    def published(self, container: Container) -> Sequence[PublishedPort]:
        """The ports of this host that lead to the container."""
        return self._networks.published(container)

    def check_storage(self, name: str) -> None:
        """Raises InvalidArgument for a storage driver that is not ready: "not found" would mean the image to clients."""
        if name not in self._storages:
            raise InvalidArgument(
                f"storage driver {name!r} is not ready; ready are: {', '.join(sorted(self._storages))} (see `pyd plugin ls`)"
            )

    def root(self, container: Container) -> Sequence[Mount]:
        """How to mount the root file system."""
        return self._storage(container).storage_mounts(key=container.id)

    def view(self, container: Container) -> Sequence[Mount]:
        """How to look at the snapshot that the container stands on, until `drop_view`; nothing when it stands on none."""
        self.drop_view(container)
        storage = self._storage(container)
        base = storage.storage_stat(name=container.id).parent
        return storage.storage_view(key=VIEW_PREFIX + container.id, parent=base) if base is not None else ()

    def drop_view(self, container: Container) -> None:
        """Remove what `view` made; nothing there is fine."""
        with contextlib.suppress(NotFound):
            self._storage(container).storage_remove(name=VIEW_PREFIX + container.id)

    def changes(self, container: Container) -> Sequence[TreeChange] | None:
        """What the storage driver says the container has changed; None when it does not know (capability ``native-diff``)."""
        storage: Any = self._storage(container)
        if "native-diff" not in storage.capabilities:
            return None
        return list(storage.storage_changes(name=container.id))

    def release(self, container: Container) -> None:
        """Nobody has the root file system mounted any more: a hint to drivers that hold something for it (``release``)."""
        storage: Any = self._storages.get(container.storage)
        if storage is not None and "release" in storage.capabilities:
            with contextlib.suppress(NotFound):
                storage.storage_release(key=container.id)

    def _storage(self, container: Container) -> StorageDriver:
        try:
            return self._storages[container.storage]
        except KeyError:
            raise Unsupported(
                f"container {container.name} is stored with the storage driver {container.storage!r}, which is not ready; "
                "see `pyd plugin ls`"
            ) from None

    def isolation(self, container: Container) -> IsolationBackend:
        """The backend a container runs on."""
        try:
            return self._isolations[container.isolation]
        except KeyError:
            raise Unsupported(
                f"container {container.name} runs on the isolation backend {container.isolation!r}, which is not ready; "
                "see `pyd plugin ls`"
            ) from None

    # --- start ---------------------------------------------------------------------------------------------------

    def start(
        self, container: Container, connections: Sequence[Connection], joined: Mapping[str, Path],
        companion: Container | None,
    ) -> Started:  # fmt: skip
        """Build, connect, let run. *joined* maps kinds of namespaces to another container's namespace files; *companion*
        is the container whose network it shares, and with it the name and the files that go with a network.

        A failure leaves nothing but the container's own directories.
        """
        isolation = self.isolation(container)
        self._links.check(container)
        with ExitStack() as undo:
            undo.callback(self._quietly, self._networks.release, container.id)
            joined = self._joinable(container, isolation, joined)
            endpoints, network_namespace = self._reserve(container, joined)
            bundle = self.bundle(container.id)
            try:
                bundle.mkdir(mode=0o700, parents=True, exist_ok=True)
            except OSError as error:
                raise from_oserror(error, f"make {bundle}") from error
            undo.callback(shutil.rmtree, bundle, ignore_errors=True)
            self.delivery.prepare(container)
            remap = self.remap_of(container)
            mounted = self.mounts.mount(container, owner=remap.owner if remap else (0, 0))
            undo.callback(self._quietly, self.mounts.unmount, container)
            undo.callback(self._quietly, self.release, container)
            sandbox = Sandbox(
                bundle=bundle,
                state=self.directory(container.id),
                spec=self._specs.container(
                    container,
                    root=bundle / "rootfs",
                    files=self._files.paths(companion)
                    if companion
                    else self._files.write(container, endpoints, network_namespace),
                    namespaces={
                        "network": network_namespace, **{k: str(v) for k, v in joined.items() if k != "network"}
                    },
                    hostname=self._files.hostname(companion or container),
                    mounts=mounted.binds,
                    variables=self._links.variables(container),
                ),
                rootfs=tuple(self.root(container)),
                runtime=self.runtimes.of(container.host_config.runtime).program,
                stdio=Stdio(
                    terminal=container.tty,
                    stdin=container.config.open_stdin,
                    stdin_once=container.config.stdin_once,
                    spool=self.spool(container),
                    height=container.console_size()[0],
                    width=container.console_size()[1],
                ),
            )  # fmt: skip
            with contextlib.closing(mounted):
                try:
                    created = isolation.isolation_create(container=container.id, sandbox=sandbox)
                except AlreadyExists:  # the clean-up after its last run failed then
                    isolation.isolation_delete(container=container.id)
                    created = isolation.isolation_create(container=container.id, sandbox=sandbox)
            undo.callback(self._quietly, self._end_and_delete, container)
            for endpoint in endpoints:
                self._networks.attach(endpoint, created.netns)
            self._networks.serve_names(container, created.netns)
            for connection in connections:
                isolation.isolation_attach(container=container.id, process=INIT, connection=connection)
            exit_fd = isolation.isolation_exit_fd(container=container.id, process=INIT)
            undo.callback(os.close, exit_fd)
            isolation.isolation_start(container=container.id)
            undo.pop_all()
        self.delivery.began(container)
        for parent in self._links.parents(container):
            self.renew_files(parent)
        return Started(created.pid, created.warnings, exit_fd)

    def remap_of(self, container: Container) -> Remap | None:
        """The ids of its user namespace; None when it has none."""
        return self._specs.remap_of(container)

    def _joinable(self, container: Container, isolation: Any, joined: Mapping[str, Path]) -> Mapping[str, Path]:
        """Those of *joined* that it can join with its user namespace, or without one. A user namespace takes a backend that
        makes them, and a storage driver whose files can be shown through a map of ids."""
        if self.remap_of(container) is None:
            return without_users(joined)
        check_powers((container.isolation, isolation), (container.storage, self._storage(container)), self._storages)
        return with_users(joined)

    def _reserve(self, container: Container, joined: Mapping[str, Path]) -> tuple[list[EndpointRecord], str | None]:
        """Addresses, and the network namespace: "" a new one, a path to join, None the host's."""
        if "network" in joined:
            return [], str(joined["network"])
        endpoints = []
        for network, wishes in container.endpoints.items():
            if self._networks.shares_host(network):
                return [], None
            endpoints.append(self._networks.reserve(container, network, wishes))
        return endpoints, ""

    # --- networks of a running container -------------------------------------------------------------------------------

    def connect(self, container: Container, network: str, wishes: EndpointSettings, netns: Path) -> None:
        """Give it one more place; a failure leaves nothing of it."""
        endpoint = self._networks.reserve(container, network, wishes)
        try:
            self._networks.attach(endpoint, netns)
            self._renew(container, netns)
        except BaseException:
            self._quietly(functools.partial(self._networks.leave, container.id), network)
            raise

    def refuse(self, container: Container, network: str, wishes: EndpointSettings) -> None:
        """Raise for wishes that no place on a network can be given: said now, not at the next start."""
        self._networks.refuse(container, network, wishes)

    def disconnect(self, container: Container, network: str, netns: Path) -> None:
        """Take a place away. The ports of this host that led there lead to another one, if there is one."""
        self._networks.leave(container.id, network)
        self._networks.publish(container, netns)
        self._renew(container, netns)

    def _renew(self, container: Container, netns: Path) -> None:
        """Names and files follow the container's networks."""
        self._networks.serve_names(container, netns)
        self._files.write(container, self._networks.places(container.id), "")

    def renew_files(self, container: Container) -> None:
        """What a running container knows of those it is linked to has changed."""
        self._files.write(container, self._networks.places(container.id), "")

    # --- exec ----------------------------------------------------------------------------------------------------

    def execute(
        self, container: Container, exec_id: str, process: Mapping[str, Any], stdio: Stdio,
        connections: Sequence[Connection],
    ) -> int:  # fmt: skip
        """Run a further process; returns its pid on this host."""
        execution = Execution(process=process, stdio=stdio, connections=tuple(connections))
        return self.isolation(container).isolation_exec(container=container.id, exec_id=exec_id, execution=execution)

    # --- end -----------------------------------------------------------------------------------------------------

    def state(self, container: Container) -> State:
        """What the backend knows; a container it does not know has stopped, nobody knows how (a reboot)."""
        try:
            return self.isolation(container).isolation_state(container=container.id, process=INIT)
        except NotFound:
            return State(Status.STOPPED, 0)

    def clean_up(self, container: Container) -> None:
        """After the end: take back what the run had. Raises the first error after having tried all."""
        self.delivery.ended(container)
        first: PydError | None = None
        # First the namespace, then what was in it: the kernel takes interfaces along by itself, and quicker.
        steps: tuple[Callable[[str], None], ...] = (
            lambda each: self.isolation(container).isolation_delete(container=each),
            self._networks.release,
            lambda _each: self.mounts.unmount(container),
            lambda _each: self.release(container),
        )
        for step in steps:
            try:
                step(container.id)
            except PydError as error:
                first = first or error
        shutil.rmtree(self.bundle(container.id), ignore_errors=True)
        if first is not None:
            raise first

    def clean_up_cut_off(self, container: Container) -> None:
        """End a container whose start was cut off, then as after any end."""
        isolation = self.isolation(container)
        try:
            isolation.isolation_kill(container=container.id, process=INIT, signal=9, everyone=True)
        except (NotFound, FailedPrecondition):
            pass  # it never came to life, or is gone
        self._wait_stopped(container)
        self.clean_up(container)

    def _wait_stopped(self, container: Container) -> None:
        try:
            fd = self.isolation(container).isolation_exit_fd(container=container.id, process=INIT)
        except NotFound:
            return
        try:
            select.select([fd], [], [], _END_SECONDS)
        finally:
            os.close(fd)

    def known_to_backends(self) -> set[str]:
        """Ids of all containers that a backend has something of."""
        return {container for isolation in self._isolations.values() for container in isolation.isolation_walk()}

    def sweep(self, known: set[str]) -> None:
        """Remove what carries an id of no container in *known*: supervisors, root file systems, directories."""
        sweep(known, self._isolations, self._storages, (self._data, self._run))

    def _end_and_delete(self, container: Container) -> None:
        self.isolation(container).isolation_delete(container=container.id)

    @staticmethod
    def _quietly(step: Any, argument: Any) -> None:
        """A step of undoing: its own failure must not hide the reason for undoing; start-up sweeps again."""
        try:
            step(argument)
        except PydError as error:
            log.warning("undo after a failed start: %s", error)
