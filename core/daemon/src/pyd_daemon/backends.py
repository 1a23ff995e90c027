"""What the routes need from the engine, said from the consumer's side.

Every route calls one method of one of these protocols and nothing else; the engine's services satisfy them (some
through small adapters), and the tests satisfy them in memory. Values that go out as they are (`list`, `inspect`) are
JSON-ready objects in Docker's shape: the engine's views build them, the HTTP face does not look inside.

All errors are of the `pyd_contracts.errors` family. A *ref* is an id, a unique prefix of an id, or a name.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from pyd_contracts.values import Event
from pyd_daemon.wire.requests import NetworkCreate, VolumeCreate
from pyd_engine.builds.request import BuildRequest
from pyd_engine.containers.config import ContainerConfig, CreateRequest, ExecConfig

__all__ = [
    "AttachPlan",
    "Backends",
    "Builds",
    "Containers",
    "Creation",
    "Events",
    "ExecPlan",
    "FileArchive",
    "Filters",
    "Images",
    "Json",
    "JsonList",
    "LogStream",
    "Login",
    "Networks",
    "RegistryAuth",
    "System",
    "Volumes",
    "Waiter",
]

Json = dict[str, Any]
JsonList = list[Json]
Filters = Mapping[str, Sequence[str]]


@dataclass(frozen=True, slots=True)
class RegistryAuth:
    """Credentials for one registry, as clients send them in ``X-Registry-Auth`` and to ``/auth``; never logged."""

    username: str = ""
    password: str = ""
    server: str = ""
    identity_token: str = ""
    registry_token: str = ""

    def __repr__(self) -> str:
        """Without the secrets: this object ends up in tracebacks."""
        return f"RegistryAuth(server={self.server!r}, username={self.username!r})"


@dataclass(frozen=True, slots=True)
class Login:
    """A registry's answer to credentials that it accepted."""

    status: str = "Login Succeeded"
    identity_token: str = ""


class Creation(Protocol):
    """What creating a container gave."""

    @property
    def id(self) -> str: ...
    @property
    def warnings(self) -> Sequence[str]: ...


class Waiter(Protocol):
    """A registered wait: it misses nothing that happens after it was made."""

    async def result(self) -> tuple[int, str | None]:
        """Exit status, and why waiting failed if it did."""
        ...

    def cancel(self) -> None:
        """Forget it; repeatable."""
        ...


class AttachPlan(Protocol):
    """An attach that passed its checks and waits for the client's connection."""

    @property
    def framed(self) -> bool:
        """Output comes in Docker's 8-byte frames: the container has no terminal."""
        ...

    async def connect(self, fd: int, early: bytes) -> None:
        """Wire the client to the container. Takes its own duplicate of *fd* (non-blocking); the caller closes its own.

        *early* is what the client sent together with its request: the beginning of the container's input.
        """
        ...


ExecPlan = AttachPlan
"""An exec that passed its checks; `connect` starts the process with the client wired to it."""


class LogStream(Protocol):
    """A container's recorded output: bytes as they go to the client, framed already if `framed`."""

    @property
    def framed(self) -> bool: ...
    def __aiter__(self) -> AsyncIterator[bytes]: ...
    async def aclose(self) -> None: ...


class FileArchive(Protocol):
    """A tar archive of a container's files under way; *stat* describes what was asked for."""

    @property
    def stat(self) -> Json: ...
    def __aiter__(self) -> AsyncIterator[bytes]: ...
    async def aclose(self) -> None: ...


class Containers(Protocol):
    """The containers service, as the routes use it."""

    async def create(self, name: str | None, request: CreateRequest, platform: str | None) -> Creation: ...
    async def list(
        self,
        *,
        all: bool,  # noqa: A002 # the API's word
        limit: int,
        size: bool,
        filters: Filters,
    ) -> JsonList: ...
    async def inspect(self, ref: str, *, size: bool) -> Json: ...
    async def start(self, ref: str, *, detach_keys: str | None) -> None: ...
    async def stop(
        self,
        ref: str,
        *,
        timeout: int | None,  # noqa: ASYNC109 # the container's time to end, not the call's
        signal: str | None,
    ) -> None: ...
    async def restart(
        self,
        ref: str,
        *,
        timeout: int | None,  # noqa: ASYNC109 # the container's time to end, not the call's
        signal: str | None,
    ) -> None: ...
    async def kill(self, ref: str, *, signal: str) -> None: ...
    async def pause(self, ref: str) -> None: ...
    async def unpause(self, ref: str) -> None: ...
    async def rename(self, ref: str, name: str) -> None: ...
    async def resize(self, ref: str, height: int, width: int) -> None: ...
    async def remove(self, ref: str, *, force: bool, volumes: bool, link: bool) -> None: ...
    async def waiter(self, ref: str, condition: str) -> Waiter: ...
    async def attach(
        self,
        ref: str,
        *,
        stream: bool,
        logs: bool,
        stdin: bool,
        stdout: bool,
        stderr: bool,
        detach_keys: str | None,
    ) -> AttachPlan: ...
    async def logs(
        self,
        ref: str,
        *,
        follow: bool,
        stdout: bool,
        stderr: bool,
        since_ns: int,
        until_ns: int,
        timestamps: bool,
        tail: int | None,
        details: bool,
    ) -> LogStream: ...
    async def exec_create(self, ref: str, request: ExecConfig) -> str: ...
    async def exec_start(
        self, exec_id: str, *, detach: bool, tty: bool, console_size: tuple[int, int] | None
    ) -> ExecPlan: ...
    async def exec_inspect(self, exec_id: str) -> Json: ...
    async def exec_resize(self, exec_id: str, height: int, width: int) -> None: ...
    async def top(self, ref: str, ps_args: str) -> Json: ...
    async def statistics_once(self, ref: str, *, one_shot: bool) -> Json: ...
    def statistics(self, ref: str) -> AsyncIterator[Json]:
        """One document each second, until the container is removed; closed with `aclose`."""
        ...

    async def connect(self, network: str, body: bytes) -> None: ...
    async def disconnect(self, network: str, body: bytes) -> None: ...
    async def files_stat(self, ref: str, path: str) -> Json: ...
    async def files_get(self, ref: str, path: str) -> FileArchive: ...
    async def files_put(
        self, ref: str, path: str, content: AsyncIterator[bytes], *, keep_kinds: bool, own_user: bool
    ) -> None: ...
    async def export(self, ref: str) -> FileArchive: ...
    async def changes(self, ref: str) -> JsonList | None: ...
    async def commit(
        self,
        ref: str,
        config: ContainerConfig | None,
        *,
        repository: str,
        tag: str,
        changes: Sequence[str],
        comment: str,
        author: str,
        pause: bool,
    ) -> str: ...
    async def update(self, ref: str, body: bytes) -> Sequence[str]:
        """Change limits and restart policy; warnings."""
        ...

    async def prune(self, filters: Filters) -> Json: ...


class Images(Protocol):
    """The images service, as the routes use it. Streams yield Docker's progress objects."""

    async def list(
        self,
        *,
        all: bool,  # noqa: A002 # the API's word
        filters: Filters,
        shared_size: bool,
    ) -> JsonList: ...
    def layers_size(self) -> int: ...
    async def inspect(self, name: str) -> Json: ...
    async def history(self, name: str) -> JsonList: ...
    async def tag(self, name: str, repository: str, tag: str) -> None: ...
    async def remove(self, name: str, *, force: bool, prune: bool) -> JsonList: ...
    async def prune(self, filters: Filters) -> Json: ...
    def pull(self, reference: str, *, platform: str | None, auth: RegistryAuth | None) -> AsyncIterator[Json]: ...
    def push(self, name: str, *, tag: str, auth: RegistryAuth | None) -> AsyncIterator[Json]: ...
    def load(self, archive: AsyncIterator[bytes], *, quiet: bool) -> AsyncIterator[Json]: ...
    def import_archive(
        self,
        archive: AsyncIterator[bytes],
        *,
        repository: str,
        tag: str,
        message: str,
        changes: Sequence[str],
        platform: str | None,
    ) -> AsyncIterator[Json]: ...
    def save(self, names: Sequence[str]) -> AsyncIterator[bytes]: ...
    async def login(self, auth: RegistryAuth) -> Login: ...
    async def distribution(self, name: str, *, auth: RegistryAuth | None) -> Json: ...


class Networks(Protocol):
    """The networks service, as the routes use it."""

    async def list(self, *, filters: Filters) -> Sequence[Json]: ...
    async def inspect(self, ref: str) -> Json: ...
    async def create(self, request: NetworkCreate) -> tuple[str, str]:
        """The new network's id and a warning (empty if none)."""
        ...

    async def remove(self, ref: str) -> None: ...
    async def prune(self, filters: Filters) -> Json: ...
    async def rules(self, container: str, port: str) -> Json:
        """What becomes of packets to and from a container (its id), the holder of a port of this host, or all."""
        ...


class Volumes(Protocol):
    """The volumes service, as the routes use it."""

    async def list(self, *, filters: Filters) -> Json: ...
    async def inspect(self, name: str) -> Json: ...
    async def create(self, request: VolumeCreate) -> Json: ...
    async def remove(self, name: str, *, force: bool) -> None: ...
    async def prune(self, filters: Filters, *, named: bool) -> Json:
        """Those that no container has; *named*: also those that somebody gave a name."""
        ...


class Builds(Protocol):
    """The builds service, as the routes use it."""

    def build(
        self, request: BuildRequest, auths: Mapping[str, RegistryAuth], context: AsyncIterator[bytes]
    ) -> AsyncIterator[Json]:
        """Docker's records; *auths* by registry, as the client has them."""
        ...

    async def prune(self, filters: Filters, *, all_: bool) -> Json: ...
    def usage(self) -> JsonList: ...


class Events(Protocol):
    """The event bus, as the routes use it."""

    def subscribe(self, filters: Filters, since: float | None, until: float | None) -> AsyncIterator[Event]:
        """The past from *since*, then the present until *until* (unix seconds); closed with `aclose` if it has one."""
        ...


class System(Protocol):
    """What the daemon says about itself."""

    async def version(self) -> Json: ...
    async def info(self) -> Json: ...
    async def disk_usage(self, kinds: frozenset[str]) -> Json:
        """*kinds*: which of ``container image volume build-cache`` to measure."""
        ...

    async def check(self, *, repair: bool) -> Json:
        """Hold what is stored against what is recorded; *repair*: remove what nobody vouches for."""
        ...


@dataclass(frozen=True, slots=True)
class Backends:
    """Everything the routes reach."""

    system: System
    events: Events
    containers: Containers
    images: Images
    networks: Networks
    volumes: Volumes
    builds: Builds
