"""The API over services that live in memory: no root, no kernel, milliseconds.

`Fakes` keeps what a daemon would keep: containers are records whose process is a coroutine that writes its command line
and echoes its input to whoever is attached; everything a route is asked can be looked up in `calls`.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import os
import socket
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from pyd_contracts.errors import (
    AlreadyExists,
    Conflict,
    DriverFault,
    FailedPrecondition,
    InvalidArgument,
    NotFound,
    NotModified,
    PermissionDenied,
    PydError,
    ResourceExhausted,
    Unauthorized,
    Unavailable,
)
from pyd_contracts.values import Event
from pyd_daemon.app import Api, make_runner
from pyd_daemon.backends import Backends, Filters, Json, Login, RegistryAuth
from pyd_daemon.hijack import frame
from pyd_daemon.wire.requests import NetworkCreate, VolumeCreate
from pyd_engine.builds.request import BuildRequest
from pyd_engine.containers.config import CreateRequest, ExecConfig

Objects = list[Json]
IMAGE = "registry.example:5000/team/app:1.0"


def identifier(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


@dataclass
class Program:
    """A pretended process: says its command line, then echoes its input until that ends; exits with `status`."""

    command: list[str]
    tty: bool
    stdin: bool
    status: int = 0
    clients: list[socket.socket] = field(default_factory=list)
    early: bytes = b""
    written: list[bytes] = field(default_factory=list)
    done: asyncio.Future[int] = field(default_factory=lambda: asyncio.get_running_loop().create_future())
    task: asyncio.Task[None] | None = None

    @property
    def running(self) -> bool:
        return self.task is not None and not self.done.done()

    def start(self) -> None:
        self.task = asyncio.create_task(self._run())

    async def _say(self, payload: bytes) -> None:
        self.written.append(payload)
        for client in self.clients:
            with contextlib.suppress(ConnectionError):
                await asyncio.get_running_loop().sock_sendall(client, payload if self.tty else frame(1, payload))

    async def _run(self) -> None:
        try:
            if self.command[:1] == ["exit"]:
                self.status = int(self.command[1])
            else:
                await self._say((" ".join(self.command) + "\n").encode())
            if self.stdin and self.clients:
                data = self.early
                while True:
                    if data:
                        await self._say(data)
                    data = await asyncio.get_running_loop().sock_recv(self.clients[0], 65536)
                    if not data:
                        break
            if self.command[:1] == ["sleep"]:
                await asyncio.sleep(3600)
        except asyncio.CancelledError:
            self.status = 137
        finally:
            for client in self.clients:
                client.close()
            if not self.done.done():
                self.done.set_result(self.status)

    def stop(self) -> None:
        if self.task is not None:
            self.task.cancel()


@dataclass
class Plan:
    """Attach or exec, checked."""

    program: Program
    begin: bool
    framed: bool
    broken: PydError | None = None

    async def connect(self, fd: int, early: bytes) -> None:
        if self.broken is not None:
            raise self.broken
        client = socket.socket(fileno=os.dup(fd))
        client.setblocking(False)
        self.program.clients.append(client)
        self.program.early += early
        if self.begin:
            self.program.start()


@dataclass
class Container:
    id: str
    name: str
    request: CreateRequest
    program: Program
    paused: bool = False
    removed: bool = False

    @property
    def state(self) -> str:
        if self.paused:
            return "paused"
        if self.program.task is None:
            return "created"
        return "running" if self.program.running else "exited"


@dataclass
class Creation:
    id: str
    warnings: list[str]


@dataclass
class FakeWaiter:
    program: Program
    fault: PydError | None = None
    cancelled: bool = False

    async def result(self) -> tuple[int, str | None]:
        if self.fault is not None:
            raise self.fault
        return await asyncio.shield(self.program.done), None

    def cancel(self) -> None:
        self.cancelled = True


class FakeLogs:
    def __init__(self, pieces: list[bytes], framed: bool, follow: bool, fault: Exception | None) -> None:
        self.framed = framed
        self.closed = False
        self._pieces = pieces
        self._follow = follow
        self._fault = fault

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for piece in self._pieces:
            yield frame(1, piece) if self.framed else piece
        if self._fault is not None:
            raise self._fault
        if self._follow:
            await asyncio.Event().wait()

    async def aclose(self) -> None:
        self.closed = True


class Fakes:
    """All services in one: `backends` is what the application is given."""

    def __init__(self) -> None:
        self.calls: list[tuple[Any, ...]] = []
        self.all: dict[str, Container] = {}
        self.made = 0
        self.executions: dict[str, tuple[Container, Program]] = {}
        self.waiters: list[FakeWaiter] = []
        self.opened_logs: list[FakeLogs] = []
        self.fault: Exception | None = None
        self.late_fault: Exception | None = None
        self.subscriptions: list[FakeSubscription] = []
        self.backends = Backends(
            system=FakeSystem(self),
            events=FakeEvents(self),
            containers=FakeContainers(self),
            images=FakeImages(self),
            networks=FakeNetworks(self),
            volumes=FakeVolumes(self),
            builds=FakeBuilds(self),
        )

    def note(self, *call: Any) -> None:
        self.calls.append(call)
        if self.fault is not None:
            fault, self.fault = self.fault, None
            raise fault

    def find(self, ref: str) -> Container:
        for container in self.all.values():
            if container.name == ref or container.id.startswith(ref):
                return container
        raise NotFound(f"No such container: {ref}")

    def close(self) -> None:
        for container in self.all.values():
            container.program.stop()
        for _, program in self.executions.values():
            program.stop()


class Part:
    def __init__(self, fakes: Fakes) -> None:
        self.fakes = fakes


class FakeSystem(Part):
    async def version(self) -> Json:
        self.fakes.note("version")
        return {
            "Version": "1.0.0",
            "ApiVersion": "1.56",
            "MinAPIVersion": "1.24",
            "Os": "linux",
            "Arch": "amd64",
            "KernelVersion": os.uname().release,
            "GitCommit": "none",
            "GoVersion": "",
            "BuildTime": "",
            "Components": [{"Name": "Engine", "Version": "1.0.0", "Details": {"ApiVersion": "1.56"}}],
        }

    async def info(self) -> Json:
        self.fakes.note("info")
        return {"ID": "fake", "Containers": len(self.fakes.all), "OSType": "linux", "Driver": "memory", "Name": "fake"}

    async def disk_usage(self, kinds: frozenset[str]) -> Json:
        self.fakes.note("disk_usage", kinds)
        return {
            "LayersSize": 0,
            "Images": [{"Id": "sha256:" + "0" * 64, "Size": 1}],
            "Containers": [],
            "Volumes": [],
            "BuildCache": [],
        }

    async def check(self, *, repair: bool) -> Json:
        self.fakes.note("check", repair)
        return {"Clean": True, "Findings": []}


class FakeSubscription:
    def __init__(self, past: list[Event], ends: bool) -> None:
        self.queue: asyncio.Queue[Event | None] = asyncio.Queue()
        self.closed = False
        for event in past:
            self.queue.put_nowait(event)
        if ends:
            self.queue.put_nowait(None)

    def __aiter__(self) -> FakeSubscription:
        return self

    async def __anext__(self) -> Event:
        event = await self.queue.get()
        if event is None:
            raise StopAsyncIteration
        return event

    async def aclose(self) -> None:
        self.closed = True


class FakeEvents(Part):
    def subscribe(self, filters: Filters, since: float | None, until: float | None) -> AsyncIterator[Event]:
        self.fakes.note("subscribe", dict(filters), since, until)
        past = [Event("container", "start", "abc", {"image": "app"}, 1_700_000_000_000_000_001)] if since else []
        subscription = FakeSubscription(past, ends=until is not None)
        self.fakes.subscriptions.append(subscription)
        return subscription


class FakeContainers(Part):
    async def create(self, name: str | None, request: CreateRequest, platform: str | None) -> Creation:
        self.fakes.note("create", name, request, platform)
        if request.config.image == "absent":
            raise NotFound("No such image: absent:latest")
        self.fakes.made += 1
        container_id = identifier(f"{name}{self.fakes.made}")
        name = name or f"fake{self.fakes.made}"
        if any(container.name == name for container in self.fakes.all.values()):
            raise AlreadyExists(f'Conflict. The container name "/{name}" is already in use')
        program = Program(list(request.config.cmd or ()), request.config.tty, request.config.open_stdin)
        self.fakes.all[container_id] = Container(container_id, name, request, program)
        return Creation(container_id, ["careful"] if name == "warned" else [])

    async def list(
        self,
        *,
        all: bool,  # noqa: A002 # the API's word
        limit: int,
        size: bool,
        filters: Filters,
    ) -> Objects:
        self.fakes.note("list", all, limit, size, dict(filters))
        return [
            {
                "Id": each.id,
                "Names": [f"/{each.name}"],
                "Image": each.request.config.image,
                "ImageID": "sha256:" + "0" * 64,
                "Command": " ".join(each.program.command),
                "Created": int(time.time()),
                "Ports": [],
                "Labels": {},
                "State": each.state,
                "Status": each.state.capitalize(),
                "HostConfig": {"NetworkMode": "default"},
                "NetworkSettings": {"Networks": {}},
                "Mounts": [],
            }
            for each in self.fakes.all.values()
            if all or each.program.running
        ]

    async def inspect(self, ref: str, *, size: bool) -> Json:
        self.fakes.note("inspect", ref, size)
        found = self.fakes.find(ref)
        return {
            "Id": found.id,
            "Name": f"/{found.name}",
            "State": {
                "Status": found.state,
                "Running": found.program.running,
                "ExitCode": found.program.status,
            },
            "Config": {
                "Tty": found.program.tty,
                "OpenStdin": found.program.stdin,
                "AttachStdin": found.program.stdin,
                "Image": found.request.config.image,
            },
            "HostConfig": {},
            "NetworkSettings": {"Networks": {}},
        }

    async def start(self, ref: str, *, detach_keys: str | None) -> None:
        self.fakes.note("start", ref, detach_keys)
        found = self.fakes.find(ref)
        if found.program.running:
            raise NotModified(f"container {found.name} is running")
        if found.program.command == ["broken"]:
            raise InvalidArgument('exec: "broken": executable file not found in $PATH')
        found.program.start()

    async def stop(self, ref: str, *, timeout: int | None, signal: str | None) -> None:
        self.fakes.note("stop", ref, timeout, signal)
        found = self.fakes.find(ref)
        if not found.program.running:
            raise NotModified(f"container {found.name} is not running")
        found.program.stop()
        await found.program.done

    async def restart(self, ref: str, *, timeout: int | None, signal: str | None) -> None:
        self.fakes.note("restart", ref, timeout, signal)
        self.fakes.find(ref)

    async def kill(self, ref: str, *, signal: str) -> None:
        self.fakes.note("kill", ref, signal)
        found = self.fakes.find(ref)
        if not found.program.running:
            raise FailedPrecondition(f"Container {found.id} is not running")
        found.program.stop()

    async def pause(self, ref: str) -> None:
        self.fakes.note("pause", ref)
        self.fakes.find(ref).paused = True

    async def unpause(self, ref: str) -> None:
        self.fakes.note("unpause", ref)
        self.fakes.find(ref).paused = False

    async def rename(self, ref: str, name: str) -> None:
        self.fakes.note("rename", ref, name)
        self.fakes.find(ref).name = name

    async def resize(self, ref: str, height: int, width: int) -> None:
        self.fakes.note("resize", ref, height, width)
        self.fakes.find(ref)

    async def remove(self, ref: str, *, force: bool, volumes: bool, link: bool) -> None:
        self.fakes.note("remove", ref, force, volumes, link)
        found = self.fakes.find(ref)
        if found.program.running and not force:
            raise Conflict("cannot remove container: container is running: stop it first or use force")
        found.program.stop()
        del self.fakes.all[found.id]

    async def waiter(self, ref: str, condition: str) -> FakeWaiter:
        self.fakes.note("wait", ref, condition)
        waiter = FakeWaiter(self.fakes.find(ref).program, self._late())
        self.fakes.waiters.append(waiter)
        return waiter

    def _late(self) -> PydError | None:
        fault, self.fakes.late_fault = self.fakes.late_fault, None
        assert fault is None or isinstance(fault, PydError)
        return fault

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
    ) -> Plan:
        self.fakes.note("attach", ref, stream, logs, stdin, stdout, stderr, detach_keys)
        found = self.fakes.find(ref)
        if found.paused:
            raise Conflict(f"container {found.name} is paused, unpause the container before attach")
        return Plan(found.program, begin=False, framed=not found.program.tty, broken=self._late())

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
    ) -> FakeLogs:
        self.fakes.note("logs", ref, follow, stdout, stderr, since_ns, until_ns, timestamps, tail, details)
        found = self.fakes.find(ref)
        fault, self.fakes.late_fault = self.fakes.late_fault, None
        stream = FakeLogs(found.program.written, not found.program.tty, follow, fault)
        self.fakes.opened_logs.append(stream)
        return stream

    async def exec_create(self, ref: str, request: ExecConfig) -> str:
        self.fakes.note("exec_create", ref, request)
        found = self.fakes.find(ref)
        if not found.program.running:
            raise Conflict(f"container {found.id} is not running")
        exec_id = identifier(f"exec{len(self.fakes.executions)}")
        self.fakes.executions[exec_id] = (found, Program(list(request.cmd or ()), request.tty, request.attach_stdin))
        return exec_id

    def _exec(self, exec_id: str) -> Program:
        if exec_id not in self.fakes.executions:
            raise NotFound(f"No such exec instance: {exec_id}")
        return self.fakes.executions[exec_id][1]

    async def connect(self, network: str, body: bytes) -> None:
        self.fakes.note("connect", network, json.loads(body))

    async def disconnect(self, network: str, body: bytes) -> None:
        self.fakes.note("disconnect", network, json.loads(body))

    async def exec_start(self, exec_id: str, *, detach: bool, tty: bool, console_size: tuple[int, int] | None) -> Plan:
        self.fakes.note("exec_start", exec_id, detach, tty, console_size)
        program = self._exec(exec_id)
        if detach:
            program.start()
        return Plan(program, begin=not detach, framed=not program.tty, broken=self._late())

    async def exec_inspect(self, exec_id: str) -> Json:
        self.fakes.note("exec_inspect", exec_id)
        program = self._exec(exec_id)
        done = program.done.done()
        return {"ID": exec_id, "Running": program.running, "ExitCode": program.status if done else None, "Pid": 1}

    async def exec_resize(self, exec_id: str, height: int, width: int) -> None:
        self.fakes.note("exec_resize", exec_id, height, width)
        self._exec(exec_id)

    async def statistics_once(self, ref: str, *, one_shot: bool) -> Json:
        self.fakes.note("statistics_once", ref, one_shot)
        return {"id": self.fakes.find(ref).id, "read": "now"}

    async def statistics(self, ref: str) -> AsyncIterator[Json]:
        self.fakes.note("statistics", ref)
        for number in range(3):
            yield {"id": self.fakes.find(ref).id, "number": number}

    async def update(self, ref: str, body: bytes) -> list[str]:
        self.fakes.note("update", ref, body)
        return [] if b"Memory" in body else ["discarded"]

    async def top(self, ref: str, ps_args: str) -> Json:
        self.fakes.note("top", ref, ps_args)
        self.fakes.find(ref)
        return {"Titles": ["PID", "CMD"], "Processes": [["1", "app"]]}

    async def prune(self, filters: Filters) -> Json:
        self.fakes.note("prune", dict(filters))
        return {"ContainersDeleted": [], "SpaceReclaimed": 0}


class FakeImages(Part):
    def layers_size(self) -> int:
        return 0

    def _find(self, name: str) -> None:
        if name != IMAGE:
            raise NotFound(f"No such image: {name}")

    async def list(
        self,
        *,
        all: bool,  # noqa: A002 # the API's word
        filters: Filters,
        shared_size: bool,
    ) -> Objects:
        self.fakes.note("images", all, dict(filters), shared_size)
        return [{"Id": "sha256:" + "0" * 64, "RepoTags": [IMAGE], "RepoDigests": [], "Created": 0, "Size": 1}]

    async def inspect(self, name: str) -> Json:
        self.fakes.note("image", name)
        self._find(name)
        return {"Id": "sha256:" + "0" * 64, "RepoTags": [name], "Config": {}, "Os": "linux", "Architecture": "amd64"}

    async def history(self, name: str) -> Objects:
        self.fakes.note("history", name)
        self._find(name)
        return [{"Id": "<missing>", "Created": 0, "CreatedBy": "x", "Tags": None, "Size": 0, "Comment": ""}]

    async def tag(self, name: str, repository: str, tag: str) -> None:
        self.fakes.note("tag", name, repository, tag)
        self._find(name)

    async def remove(self, name: str, *, force: bool, prune: bool) -> Objects:
        self.fakes.note("remove_image", name, force, prune)
        self._find(name)
        return [{"Untagged": name}]

    async def prune(self, filters: Filters) -> Json:
        self.fakes.note("prune_images", dict(filters))
        return {"ImagesDeleted": [], "SpaceReclaimed": 0}

    async def pull(self, reference: str, *, platform: str | None, auth: RegistryAuth | None) -> AsyncIterator[Json]:
        self.fakes.note("pull", reference, platform, auth)
        yield {"status": f"Pulling from {reference}"}
        if self.fakes.late_fault is not None:
            raise self.fakes.late_fault
        yield {"status": "Status: Downloaded newer image"}

    async def push(self, name: str, *, tag: str, auth: RegistryAuth | None) -> AsyncIterator[Json]:
        self.fakes.note("push", name, tag, auth)
        yield {"status": f"The push refers to repository [{name}]"}

    async def load(self, archive: AsyncIterator[bytes], *, quiet: bool) -> AsyncIterator[Json]:
        size = 0
        async for piece in archive:
            size += len(piece)
        self.fakes.note("load", size, quiet)
        yield {"stream": f"Loaded image: {IMAGE}\n"}

    async def import_archive(
        self,
        archive: AsyncIterator[bytes],
        *,
        repository: str,
        tag: str,
        message: str,
        changes: Sequence[str],
        platform: str | None,
    ) -> AsyncIterator[Json]:
        size = 0
        async for piece in archive:
            size += len(piece)
        self.fakes.note("import", size, repository, tag, message, list(changes), platform)
        yield {"status": "sha256:" + "1" * 64}

    async def save(self, names: Sequence[str]) -> AsyncIterator[bytes]:
        self.fakes.note("save", list(names))
        for name in names:
            self._find(name)
        yield b"tar" * 1000
        if self.fakes.late_fault is not None:
            raise self.fakes.late_fault
        yield b"end"

    async def login(self, auth: RegistryAuth) -> Login:
        self.fakes.note("login", auth)
        if auth.password != "right":
            raise Unauthorized("login attempt failed with status: 401 Unauthorized")
        return Login()

    async def distribution(self, name: str, *, auth: RegistryAuth | None) -> Json:
        self.fakes.note("distribution", name, auth)
        return {"Descriptor": {"digest": "sha256:" + "0" * 64}, "Platforms": []}


class FakeNetworks(Part):
    async def list(self, *, filters: Filters) -> Objects:
        self.fakes.note("networks", dict(filters))
        return [{"Name": "bridge", "Id": identifier("bridge"), "Driver": "bridge", "Scope": "local"}]

    async def inspect(self, ref: str) -> Json:
        self.fakes.note("network", ref)
        if ref != "bridge":
            raise NotFound(f"network {ref} not found")
        return {"Name": "bridge", "Id": identifier("bridge"), "Driver": "bridge", "Scope": "local", "Containers": {}}

    async def create(self, request: NetworkCreate) -> tuple[str, str]:
        self.fakes.note("create_network", request)
        if request.name == "bridge":
            raise PermissionDenied("operation is not permitted on predefined bridge network")
        return identifier(request.name), ""

    async def remove(self, ref: str) -> None:
        self.fakes.note("remove_network", ref)
        if ref == "bridge":
            raise PermissionDenied("bridge is a pre-defined network and cannot be removed")

    async def prune(self, filters: Filters) -> Json:
        self.fakes.note("prune_networks", dict(filters))
        return {"NetworksDeleted": []}

    async def rules(self, container: str, port: str) -> Json:
        self.fakes.note("rules", container, port)
        return {"Containers": []}


class FakeBuilds(Part):
    async def build(
        self, request: BuildRequest, auths: Mapping[str, RegistryAuth], context: AsyncIterator[bytes]
    ) -> AsyncIterator[Json]:
        size = sum([len(piece) async for piece in context])
        self.fakes.note("build", request, dict(auths), size)
        yield {"stream": "Step 1/1 : FROM scratch\n"}
        if self.fakes.late_fault is not None:
            raise self.fakes.late_fault
        yield {"stream": "Successfully built 0123456789ab\n"}

    async def prune(self, filters: Filters, *, all_: bool) -> Json:
        self.fakes.note("prune_builds", dict(filters), all_)
        return {"CachesDeleted": ["a"], "SpaceReclaimed": 0}

    def usage(self) -> Objects:
        return []


class FakeVolumes(Part):
    async def list(self, *, filters: Filters) -> Json:
        self.fakes.note("volumes", dict(filters))
        return {"Volumes": [{"Name": "kept", "Driver": "local"}], "Warnings": None}

    async def inspect(self, name: str) -> Json:
        self.fakes.note("volume", name)
        if name != "kept":
            raise NotFound(f"get {name}: no such volume")
        return {"Name": name, "Driver": "local"}

    async def create(self, request: VolumeCreate) -> Json:
        self.fakes.note("create_volume", request)
        return {"Name": request.name or identifier("volume"), "Driver": request.driver or "local"}

    async def remove(self, name: str, *, force: bool) -> None:
        self.fakes.note("remove_volume", name, force)
        if name == "kept":
            raise Conflict("remove kept: volume is in use - [abc]")

    async def prune(self, filters: Filters, *, named: bool) -> Json:
        self.fakes.note("prune_volumes", dict(filters), named)
        return {"VolumesDeleted": [], "SpaceReclaimed": 0}


class Client:
    """A thin HTTP client on the API's unix socket."""

    def __init__(self, session: aiohttp.ClientSession, path: str) -> None:
        self.session = session
        self.path = path

    async def __call__(
        self, method: str, target: str, *, version: str | None = "1.50", **options: Any
    ) -> tuple[int, Any, aiohttp.ClientResponse]:
        prefix = f"/v{version}" if version else ""
        if "json" not in options:
            options["skip_auto_headers"] = {"Content-Type"}
        async with self.session.request(method, f"http://docker{prefix}{target}", **options) as response:
            body = await response.read()
            value = (
                await response.json()
                if response.content_type == "application/json" and not body.endswith(b"\r\n")
                else body
            )
            return response.status, value, response

    async def connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await asyncio.open_unix_connection(self.path)


@pytest.fixture
async def fakes() -> AsyncIterator[Fakes]:
    fakes = Fakes()
    yield fakes
    fakes.close()


@pytest.fixture
async def api(fakes: Fakes, tmp_path: Path) -> AsyncIterator[Client]:
    runner = await make_runner(Api(fakes.backends, version="1.0.0"), shutdown_timeout=1.0)
    path = str(tmp_path / "api.sock")
    await web.UnixSite(runner, path).start()
    async with aiohttp.ClientSession(connector=aiohttp.UnixConnector(path)) as session:
        yield Client(session, path)
    await runner.cleanup()


FAULTS: list[tuple[PydError, int]] = [
    (InvalidArgument("bad"), 400),
    (Unauthorized("who"), 401),
    (PermissionDenied("no"), 403),
    (NotFound("gone"), 404),
    (AlreadyExists("taken"), 409),
    (Conflict("used"), 409),
    (FailedPrecondition("stopped"), 409),
    (ResourceExhausted("no space left on device"), 500),
    (Unavailable("later"), 503),
    (DriverFault("bug"), 500),
]


@pytest.fixture(params=FAULTS, ids=lambda pair: pair[0].kind)
def fault(request: pytest.FixtureRequest) -> tuple[PydError, int]:
    pair: tuple[PydError, int] = request.param
    return pair


@pytest.fixture
def until() -> Callable[[Callable[[], bool]], Any]:
    """Wait for a fact, five seconds at most."""

    async def wait(fact: Callable[[], bool]) -> None:
        async with asyncio.timeout(5):
            while not fact():
                await asyncio.sleep(0.001)

    return wait
