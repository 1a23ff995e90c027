"""The life of containers: start, stop, kill, restart, remove, and what happens when they end by themselves.

Lives on the event loop; what blocks runs in worker threads (`runner`). One lock a container keeps its operations in order.
Every transition is on disk before its effects, so that a killed daemon can finish or undo them (`adoption`).
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import time
from collections import defaultdict
from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from pyd_contracts.errors import (
    Conflict,
    InvalidArgument,
    NotFound,
    NotModified,
    PydError,
)
from pyd_contracts.isolation import INIT
from pyd_contracts.values import State
from pyd_engine.containers import joining
from pyd_engine.containers.attach import Pending, parse_detach_keys
from pyd_engine.containers.container import Container, Doing, Phase, after, failed
from pyd_engine.containers.execs import Execs, readable
from pyd_engine.containers.health import HealthChecks, after_the_end
from pyd_engine.containers.restarting import Backoff, should_restart
from pyd_engine.containers.runner import Runner
from pyd_engine.containers.stops import Stops
from pyd_engine.containers.store import ContainerStore
from pyd_engine.containers.waiting import Waiter, Waiters

__all__ = ["Lifecycle", "Publish"]

log = logging.getLogger(__name__)
Publish = Callable[[str, Container, Mapping[str, str]], None]
"""Tells that something happened to a container: action, container, further attributes."""


class Lifecycle:
    """Moves containers through their phases. A *ref* is an id, a unique prefix of one, or a name.

    *forget_document* is told when a container is gone; *pending* are clients that attached before the start.
    """

    def __init__(
        self,
        store: ContainerStore,
        runner: Runner,
        execs: Execs,
        pending: Pending,
        publish: Publish,
        forget_document: Callable[[str], None],
    ) -> None:
        self.store = store
        self.runner = runner
        self.execs = execs
        self._pending = pending
        self._tell = publish
        self._forget_document = forget_document
        self._locks: dict[str, asyncio.Lock] = defaultdict(asyncio.Lock)
        self._waiters = Waiters()
        self._stopped: dict[str, asyncio.Event] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._backoff: dict[str, Backoff] = defaultdict(Backoff)
        self._coming_back: set[str] = set()
        self.health = HealthChecks(store, execs, publish)
        self._stops = Stops(store, runner, self._waiters, self.lock, self.unpause, publish)
        self.stop, self.kill = self._stops.stop, self._stops.kill
        self._closing = False
        self._wanted: list[Container] = []

    # --- start ---------------------------------------------------------------------------------------------------

    async def start(self, ref: str, *, detach_keys: str | None = None) -> None:
        """Run it. NotModified when it runs; an error of the program is InvalidArgument, as dockerd has it."""
        if detach_keys is not None:
            parse_detach_keys(detach_keys)
        container = self.store.get(ref)
        async with self.lock(container.id):
            container = self.store.get(container.id)
            if container.state.phase.alive:
                raise NotModified(f"container {container.name} is already started")
            self._backoff.pop(container.id, None)
            await self._start_locked(container.id, restarts=0)

    async def _start_locked(self, container_id: str, *, restarts: int) -> None:
        container = self.store.change(
            container_id,
            lambda c: msgspec.structs.replace(
                c.moved(after(c, Doing.START), error="", oom_killed=False),
                runs=c.runs + 1,
                restart_count=restarts,
                stopped_by_user=False,
            ),
        )
        connections = self._pending.take(container_id)
        self._stopped[container_id] = asyncio.Event()
        try:
            joined, companion = joining.joined(self.store, container), joining.companion(self.store, container)
            started = await asyncio.to_thread(self.runner.start, container, connections, joined, companion)
        except PydError as error:
            await self._start_failed(container, error)
        finally:
            for connection in connections:
                os.close(connection.fd)
        container = self.store.change(
            container_id,
            lambda c: msgspec.structs.replace(
                c.moved(
                    after(c, Doing.STARTED), pid=started.pid, started_ns=time.time_ns(), finished_ns=0, exit_code=0
                ),
                warnings=started.warnings,
            ),
            fact=True,
        )
        for warning in started.warnings:
            log.warning("container %s: %s", container.name, warning)
        self._publish("start", container)
        self.health.begin(container)
        self._spawn(self._finish(container_id, started.exit_fd))

    async def _start_failed(self, container: Container, error: PydError) -> None:
        """Record, tell, clean; raises the error for the client."""
        program = str(error).startswith("exec: ")  # it is not there, or must not be run
        code = {"not-found": 127, "permission-denied": 126}.get(error.kind, 128) if program else 128
        text = f"failed to create task for container: {error}" if program else str(error)
        self.store.change(container.id, lambda c: failed(c, code, text), fact=True)
        self._publish("die", container, {"exitCode": str(code)})
        self._tell_stopped(container.id, (code, None))
        if container.host_config.auto_remove:
            await self._remove_locked(container.id)
        if code == 128 and not isinstance(error, InvalidArgument):
            raise error
        raise InvalidArgument(text) from error

    async def _finish(self, container_id: str, fd: int) -> None:
        await readable(fd)
        async with self.lock(container_id):
            container = self.store.find(container_id)
            if container is None or not container.state.phase.alive:
                return
            await self.finish_locked(container)

    async def finish_locked(self, container: Container) -> None:
        """A run has ended: record it, tell, take back what it had, and do what the policies say."""
        state = await asyncio.to_thread(self.runner.state, container)
        container = self.record_exit(container, state)
        try:
            await asyncio.to_thread(self.runner.clean_up, container)
        except PydError as error:
            log.error(
                "clean up after container %s: %s; it is repeated at its next start or removal", container.name, error
            )
        if self._closing:
            return
        if should_restart(container, container.state.exit_code):
            container = self.store.change(
                container.id,
                lambda c: msgspec.structs.replace(c.moved(after(c, Doing.RETRY)), restart_count=c.restart_count + 1),
            )
            self._spawn(self._restart_later(container))
        elif container.host_config.auto_remove and container.id not in self._coming_back:
            await self._remove_locked(container.id)

    def record_exit(self, container: Container, state: State) -> Container:
        """Put the end on disk and tell those who wait."""
        code = (
            255 if state.exit_code is None and not state.error else 137 if state.exit_code is None else state.exit_code
        )
        finished = int(state.finished_at * 1e9) if state.finished_at else time.time_ns()
        container = self.store.change(
            container.id,
            lambda c: msgspec.structs.replace(
                c.moved(
                    after(c, Doing.EXIT), pid=0, exit_code=code, oom_killed=state.oom_killed, error=state.error,
                    finished_ns=finished,
                ),
                health=after_the_end(c.health),
            ),
            fact=True,
        )  # fmt: skip
        self.health.pause(container.id)
        self.execs.ended_with(container)
        if state.oom_killed:
            self._publish("oom", container)
        duration = (finished - container.state.started_ns) // 1_000_000_000
        self._publish("die", container, {"exitCode": str(code), "execDuration": str(max(0, duration))})
        self._tell_stopped(container.id, (code, None))
        return container

    def _tell_stopped(self, container_id: str, ending: tuple[int, str | None]) -> None:
        event = self._stopped.pop(container_id, None)
        if event is not None:
            event.set()
        self._waiters.exited(container_id, ending)

    async def _restart_later(self, container: Container) -> None:
        """Apply the restart policy after its back-off."""
        ran = (container.state.finished_ns - container.state.started_ns) / 1e9
        await asyncio.sleep(self._backoff[container.id].next(ran))
        async with self.lock(container.id):
            current = self.store.find(container.id)
            if current is None or current.state.phase is not Phase.RESTARTING or self._closing:
                return
            try:
                await self._start_locked(container.id, restarts=current.restart_count)
            except PydError as error:
                log.warning("restart container %s: %s", container.name, error)

    # --- stop, restart -------------------------------------------------------------------------------------------

    async def restart(self, ref: str, *, timeout: int | None = None, signal: str | None = None) -> None:  # noqa: ASYNC109
        """Stop if it runs, then start. What is to be removed at its end (``--rm``) is not: this is no end."""
        container = self.store.get(ref)
        self._coming_back.add(container.id)
        try:
            with contextlib.suppress(NotModified):
                await self.stop(container.id, timeout=timeout, signal=signal)
            await self.start(container.id)
        finally:
            self._coming_back.discard(container.id)
        self._publish("restart", self.store.get(container.id))

    async def pause(self, ref: str, *, passing: bool = False) -> None:
        """Freeze all processes; *passing*: for the time of one request."""
        await self._freeze(ref, Doing.PAUSE, "pause", passing)

    async def unpause(self, ref: str) -> None:
        """Let them go on."""
        await self._freeze(ref, Doing.UNPAUSE, "unpause")

    async def _freeze(self, ref: str, doing: Doing, word: str, passing: bool = False) -> None:
        container = self.store.get(ref)
        async with self.lock(container.id):
            container = self.store.get(container.id)
            if doing is Doing.UNPAUSE and container.state.phase is not Phase.PAUSED:
                raise Conflict(f"Container {container.id} is not paused")
            if container.state.phase is Phase.RESTARTING:
                raise Conflict(f"Container {container.id} is restarting, wait until the container is running")
            if not container.state.phase.alive:
                raise Conflict(f"Container {container.id} is not running")
            if doing is Doing.PAUSE and container.state.phase is Phase.PAUSED:
                raise Conflict(f"Container {container.id} is already paused")
            if doing is Doing.PAUSE:
                self.health.pause(container.id)
            isolation, frozen = self.runner.isolation(container), doing is Doing.PAUSE
            async with self.execs.births(container.id):
                await asyncio.to_thread(isolation.isolation_freeze, container=container.id, frozen=frozen)
            container = self.store.change(container.id, lambda c: c.moved(after(c, doing), passing=passing))
            self._publish(word, container)
            if not frozen:
                self.health.resume(container)

    # --- wait ---------------------------------------------------------------------------------------------------

    async def waiter(self, ref: str, condition: str) -> Waiter:
        """Register a wait; nothing that happens from now on is missed."""
        container = self.store.get(ref)
        waiter = self._waiters.register(container.id, condition or "not-running")
        phase = container.state.phase
        if waiter.condition == "not-running" and not phase.alive and phase is not Phase.STARTING:
            waiter.resolve((container.state.exit_code, None))
        waiter.last = (container.state.exit_code, None)
        return waiter

    # --- remove --------------------------------------------------------------------------------------------------

    async def remove(self, ref: str, *, force: bool, volumes: bool = False) -> None:
        """Remove it and all it has; a running one only by force."""
        container = await self._stops.at_rest(ref)
        if container.state.phase is Phase.RESTARTING and force:
            self._stops.stay_down(container.id)
        elif container.state.phase.alive or container.state.phase in (Phase.RESTARTING, Phase.STARTING):
            if not force:
                state = container.shown_phase
                raise Conflict(
                    f'cannot remove container "{container.name}": container is {state}: '
                    f"{'unpause and then ' if state == 'paused' else ''}stop the container before removing or force remove"
                )
            with contextlib.suppress(Conflict, NotFound):
                await self.kill(container.id, signal="SIGKILL")
        async with self.lock(container.id):
            if self.store.find(container.id) is not None:
                await self._remove_locked(container.id, volumes=volumes)

    async def _remove_locked(self, container_id: str, *, volumes: bool = True) -> None:
        container = self.store.change(  # also on a full disk: this is what frees it
            container_id,
            lambda c: msgspec.structs.replace(c.moved(after(c, Doing.REMOVE)), remove_volumes=volumes),
            fact=True,
        )
        try:
            await asyncio.to_thread(self._unmake, container)
            self.store.drop(container_id)
        except PydError:
            self.move(container_id, Doing.FAIL, fact=True)
            raise
        self._pending.drop(container_id)
        self.execs.forget(container_id)
        self._forget_document(container_id)
        self._backoff.pop(container_id, None)
        self._publish("destroy", container)
        self._waiters.removed(container_id, (container.state.exit_code, None))
        self._locks.pop(container_id, None)

    def _unmake(self, container: Container) -> None:
        self.runner.clean_up(container)
        self.runner.unmake(container)
        cut_off = container.state.phase is Phase.CREATING
        self.runner.mounts.release(container, anonymous=container.remove_volumes or cut_off)

    # --- the daemon's own life -----------------------------------------------------------------------------------

    async def start_up(self) -> None:
        """Take over what an earlier daemon left: adopt, finish, undo, sweep. What policies want up is started by
        `start_wanted`, once the networks have taken back what nobody vouches for."""
        from pyd_engine.containers.adoption import adopt

        self._wanted = await adopt(self)
        await asyncio.to_thread(self.runner.delivery.resume, self.store.all())

    def start_wanted(self) -> None:
        """Start what restart policies want up, in the background."""
        wanted, self._wanted = self._wanted, []
        for container in wanted:
            self._spawn(self._start_quietly(container))

    async def shut_down(self) -> None:
        """Follow nobody any more; containers run on."""
        self._closing = True
        self.health.close()
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=5)

    async def follow(self, container: Container) -> None:
        """Watch a container that an earlier daemon started."""
        self._stopped[container.id] = asyncio.Event()
        isolation = self.runner.isolation(container)
        fd = await asyncio.to_thread(isolation.isolation_exit_fd, container=container.id, process=INIT)
        if container.state.phase is Phase.RUNNING:
            self.health.resume(container)
        self._spawn(self._finish(container.id, fd))

    async def _start_quietly(self, container: Container) -> None:
        try:
            await self.start(container.id)
        except PydError as error:
            log.warning("start container %s by its restart policy: %s", container.name, error)

    async def finish_removal(self, container: Container) -> None:
        """Complete a removal that was cut off."""
        async with self.lock(container.id):
            await asyncio.to_thread(self._unmake, container)
            self.store.drop(container.id)
            self._publish("destroy", container)

    # --- small things --------------------------------------------------------------------------------------------

    def lock(self, container_id: str) -> asyncio.Lock:
        """What keeps one container's operations in order."""
        return self._locks[container_id]

    def move(self, container_id: str, doing: Doing, *, fact: bool = False) -> Container:
        """Take a step of the table, on disk first; *fact*: also when the disk is full."""
        return self.store.change(container_id, lambda c: c.moved(after(c, doing)), fact=fact)

    def _publish(self, action: str, container: Container, extra: Mapping[str, str] | None = None) -> None:
        self._tell(action, container, extra or {})

    def _spawn(self, work: Any) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._settled)

    def _settled(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and task.exception() is not None:
            log.error("following a container failed", exc_info=task.exception())

    def stopped_event(self, container_id: str) -> asyncio.Event:
        """Set when the present run ends; one that is set already when there is none."""
        event = self._stopped.get(container_id)
        if event is None:
            event = asyncio.Event()
            event.set()
        return event
