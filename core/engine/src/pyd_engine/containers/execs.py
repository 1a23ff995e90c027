"""Further processes in running containers: ``docker exec``."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from pyd_contracts.errors import AlreadyExists, Conflict, FailedPrecondition, InvalidArgument, NotFound, PydError
from pyd_contracts.values import Connection, Status, Stdio
from pyd_engine.containers.attach import ConnectPlan, parse_detach_keys
from pyd_engine.containers.config import ExecConfig
from pyd_engine.containers.container import Container, Phase
from pyd_engine.containers.runner import Runner
from pyd_engine.containers.store import ContainerStore
from pyd_engine.identities import new_id

__all__ = ["ExecRecord", "Execs"]

log = logging.getLogger(__name__)
_KEPT_AFTER_END = 5 * 60.0
"""Seconds that an ended exec can still be inspected (dockerd's clean-up interval)."""


class ExecRecord(msgspec.Struct, frozen=True, kw_only=True):
    """One exec. exit_code is None until it has ended."""

    id: str
    container: str
    config: ExecConfig
    running: bool = False
    started: bool = False
    pid: int = 0
    exit_code: int | None = None


class Execs:
    """All execs, in memory as in dockerd: they end with their containers. Lives on the event loop."""

    def __init__(
        self, store: ContainerStore, runner: Runner,
        process_spec: Callable[[Container, ExecConfig], Mapping[str, Any]],
        publish: Callable[[str, Container, Mapping[str, str]], None],
    ) -> None:  # fmt: skip
        self._store = store
        self._runner = runner
        self._process_spec = process_spec
        self._publish = publish
        self._records: dict[str, ExecRecord] = {}
        self._births: dict[str, asyncio.Lock] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    def get(self, exec_id: str) -> ExecRecord:
        """By id. Raises NotFound."""
        try:
            return self._records[exec_id]
        except KeyError:
            raise NotFound(f"No such exec instance: {exec_id}") from None

    def of(self, container: str) -> list[str]:
        """Ids of a container's execs that have not ended."""
        return [each.id for each in self._records.values() if each.container == container and each.exit_code is None]

    def create(self, ref: str, config: ExecConfig) -> str:
        """Remember what is to be run."""
        container = self._running(ref)
        if config.detach_keys is not None:
            parse_detach_keys(config.detach_keys)
        record = ExecRecord(id=new_id(), container=container.id, config=config)
        self._records[record.id] = record
        self._publish(f"exec_create: {_told(config)}", container, {"execID": record.id})
        return record.id

    def _running(self, ref: str) -> Container:
        container = self._store.get(ref)
        if container.state.phase is Phase.PAUSED:
            raise Conflict(f"container {container.name} is paused, unpause the container before exec")
        if container.state.phase is Phase.RESTARTING:
            raise Conflict(f"Container {container.id} is restarting, wait until the container is running")
        if not container.state.phase.alive:
            raise Conflict(f"container {container.id} is not running")
        return container

    async def start(
        self, exec_id: str, *, detach: bool, tty: bool, console_size: tuple[int, int] | None
    ) -> ConnectPlan:  # fmt: skip
        """Check; when detached also start. Otherwise the plan starts the process once the client is there."""
        record = self.get(exec_id)
        if record.exit_code is not None:
            raise Conflict(f"exec instance {exec_id} has already run")
        if record.running or record.started:
            raise AlreadyExists(f"exec instance {exec_id} is already running")
        container = self._running(record.container)
        config = record.config
        size = console_size or _pair(config.console_size)
        stdio = Stdio(
            terminal=config.tty,
            stdin=config.attach_stdin and not detach,
            stdin_once=True,
            height=size[0],
            width=size[1],
        )
        wiring = Connection(
            fd=-1,
            stdin=config.attach_stdin,
            stdout=config.attach_stdout,
            stderr=config.attach_stderr,
            framed=not config.tty,
            detach_keys=parse_detach_keys(config.detach_keys) if config.tty and config.attach_stdin else b"",
        )
        self._change(exec_id, started=True)
        if detach:
            await self._run(container, exec_id, stdio, [])

        async def perform(connection: Connection) -> None:
            await self._run(container, exec_id, stdio, [connection])

        return ConnectPlan(framed=not config.tty, wiring=wiring, perform=perform)

    async def _run(self, container: Container, exec_id: str, stdio: Stdio, connections: list[Connection]) -> None:
        record = self.get(exec_id)
        process = self._process_spec(container, record.config)
        # Told before it is tried, as dockerd does: a short one may have ended, and been told so, before its start is known.
        self._publish(f"exec_start: {_told(record.config)}", container, {"execID": exec_id})
        try:
            pid = await self._born(container, exec_id, process, stdio, connections)
        except PydError as error:
            code = 127 if error.kind == "not-found" else 126
            self._change(exec_id, exit_code=code)
            raise InvalidArgument(f"OCI runtime exec failed: exec failed: {error}") from error
        if self.get(exec_id).exit_code is None:  # a short one may have ended, and been inspected, meanwhile
            self._change(exec_id, running=True, pid=pid)
        fd = await asyncio.to_thread(
            self._runner.isolation(container).isolation_exit_fd, container=container.id, process=exec_id
        )
        self._spawn(self._watch(container, exec_id, fd))

    async def _born(self, container: Container, *arguments: Any) -> int:
        """Start the process. Not while the container is being frozen: a half-made process would stop with it, and its
        supervisor, which waits for it, with both."""

        async def born() -> int:
            async with self.births(container.id):
                return await asyncio.to_thread(self._runner.execute, container, *arguments)

        # Who asked may leave; the lock is held until the process is there.
        return await asyncio.shield(asyncio.ensure_future(born()))

    def births(self, container: str) -> asyncio.Lock:
        """Held while a process of the container is made, and while it is frozen."""
        return self._births.setdefault(container, asyncio.Lock())

    def _spawn(self, work: Any) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _watch(self, container: Container, exec_id: str, fd: int) -> None:
        await readable(fd)
        self._settle(container, exec_id, ended=True)
        await asyncio.sleep(_KEPT_AFTER_END)
        self._records.pop(exec_id, None)

    def _settle(self, container: Container, exec_id: str, *, ended: bool) -> None:
        """Take over how an exec ended, once; *ended* says that it must have."""
        record = self._records.get(exec_id)
        if record is None or record.exit_code is not None:
            return
        code: int | None = None
        try:
            state = self._runner.isolation(container).isolation_state(container=container.id, process=exec_id)
            if state.status is not Status.STOPPED:
                return
            code = state.exit_code
        except PydError as error:
            if not ended:
                return  # it is not there yet
            log.info("exec %s: %s", exec_id[:12], error)  # its container ended, and the supervisor with it
        self._change(exec_id, running=False, exit_code=137 if code is None else code)
        self._publish("exec_die", container, {"execID": exec_id, "exitCode": str(self._records[exec_id].exit_code)})

    async def ended(self, exec_id: str) -> int:
        """Wait for the end of an exec that was started; its exit code."""
        record = self.get(exec_id)
        container = self._store.get(record.container)
        if record.exit_code is None:
            isolation = self._runner.isolation(container)
            await readable(
                await asyncio.to_thread(isolation.isolation_exit_fd, container=container.id, process=exec_id)
            )
            self._settle(container, exec_id, ended=True)
        code = self.get(exec_id).exit_code
        return 137 if code is None else code

    async def kill(self, exec_id: str) -> None:
        """End an exec; one that has ended is fine."""
        record = self.get(exec_id)
        if not record.running:
            return
        container = self._store.get(record.container)
        with contextlib.suppress(FailedPrecondition, NotFound):
            await asyncio.to_thread(
                self._runner.isolation(container).isolation_kill,
                container=container.id, process=exec_id, signal=9, everyone=False,
            )  # fmt: skip

    def inspect(self, exec_id: str) -> dict[str, Any]:
        """Docker's ExecInspect. A client that saw the stream end must see the exit code: ask now, not when told."""
        record = self.get(exec_id)
        container = self._store.find(record.container)
        if record.started and record.exit_code is None and container is not None:
            self._settle(container, exec_id, ended=False)
            record = self.get(exec_id)
        config = record.config
        command = config.cmd or ("",)
        return {
            "ID": record.id,
            "Running": record.running,
            "ExitCode": record.exit_code,
            "ProcessConfig": {
                "tty": config.tty,
                "entrypoint": command[0],
                "arguments": list(command[1:]),
                "privileged": config.privileged,
                **({"user": config.user} if config.user else {}),
            },
            "OpenStdin": config.attach_stdin,
            "OpenStderr": config.attach_stderr,
            "OpenStdout": config.attach_stdout,
            "CanRemove": record.exit_code is not None,
            "ContainerID": record.container,
            "DetachKeys": "",
            "Pid": record.pid,
        }

    async def resize(self, exec_id: str, height: int, width: int) -> None:
        """Set the size of an exec's terminal, if it has one."""
        record = self.get(exec_id)
        container = self._store.find(record.container)
        if not record.running or container is None:
            raise Conflict(f"exec instance {exec_id} is not running")
        if not record.config.tty:
            return
        await asyncio.to_thread(
            self._runner.isolation(container).isolation_resize,
            container=container.id, process=exec_id, height=height, width=width,
        )  # fmt: skip

    def ended_with(self, container: Container) -> None:
        """The container has stopped: so have its execs."""
        for exec_id in self.of(container.id):
            if self._records[exec_id].running:
                self._change(exec_id, running=False, exit_code=137)

    def forget(self, container: str) -> None:
        """The container is removed."""
        self._births.pop(container, None)
        for record in tuple(self._records.values()):
            if record.container == container:
                del self._records[record.id]

    def close(self) -> None:
        """Stop watching."""
        for task in self._tasks:
            task.cancel()

    def _change(self, exec_id: str, **changes: Any) -> None:
        record = self._records.get(exec_id)
        if record is not None:
            self._records[exec_id] = msgspec.structs.replace(record, **changes)


def _told(config: ExecConfig) -> str:
    """The command in an event's action: dockerd puts a space behind the program also when it has no arguments."""
    words = config.cmd or ("",)
    return f"{words[0]} {' '.join(words[1:])}"


def _pair(size: tuple[int, ...] | None) -> tuple[int, int]:
    return (size[0], size[1]) if size and len(size) == 2 else (0, 0)


async def readable(fd: int) -> None:
    """Wait until *fd* is readable, and close it."""
    loop = asyncio.get_running_loop()
    future: asyncio.Future[None] = loop.create_future()

    def ready() -> None:
        if not future.done():
            future.set_result(None)

    loop.add_reader(fd, ready)
    try:
        await future
    finally:
        loop.remove_reader(fd)
        os.close(fd)
