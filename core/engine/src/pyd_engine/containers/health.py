"""Health checks: a command that runs in the container again and again, and what its ends say.

Timing, texts and the rules of the start period are dockerd's (moby daemon/health.go). The state is part of the container's
record, so that a daemon that starts again goes on where the last one was.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import time
from collections.abc import Callable, Mapping
from dataclasses import replace

import msgspec

from pyd_contracts.errors import NotFound, PydError
from pyd_engine.containers.config import ContainerConfig, ExecConfig, HealthConfig
from pyd_engine.containers.container import Container, Health, Phase, Probe
from pyd_engine.containers.execs import Execs
from pyd_engine.containers.store import ContainerStore

__all__ = ["HealthChecks", "after_the_end", "judged", "probe_command"]

log = logging.getLogger(__name__)
_SECOND = 1_000_000_000
_INTERVAL, _TIMEOUT, _START_INTERVAL, _RETRIES = 30 * _SECOND, 30 * _SECOND, 5 * _SECOND, 3
_KEPT, _OUTPUT = 5, 4096


class _Monitor:
    """The watch over one run of a container, from its begin until it ends or is frozen."""

    def __init__(self) -> None:
        self.stopped = asyncio.Event()
        self.exec_id = ""
        self.task: asyncio.Task[None] | None = None


class HealthChecks:
    """Runs the checks of all containers that have one; a task each, asleep between two probes. Lives on the event loop."""

    def __init__(
        self, store: ContainerStore, execs: Execs, publish: Callable[[str, Container, Mapping[str, str]], None]
    ) -> None:
        self._store = store
        self._execs = execs
        self._publish = publish
        self._monitors: dict[str, _Monitor] = {}
        self._endings: set[asyncio.Task[None]] = set()

    def begin(self, container: Container) -> None:
        """A run has begun."""
        if probe_command(container.config) is None:
            return
        self._change(container.id, lambda _old: Health(status="starting"))
        self.resume(container)

    def resume(self, container: Container) -> None:
        """It runs: go on probing. Twice is once."""
        command = probe_command(container.config)
        if command is not None and container.id not in self._monitors:
            monitor = self._monitors[container.id] = _Monitor()
            monitor.task = asyncio.get_running_loop().create_task(self._follow(container.id, command, monitor))
            monitor.task.add_done_callback(lambda done: self._settled(container.id, monitor, done))

    def pause(self, container_id: str) -> None:
        """It has ended, or is to be frozen: no more probes, and the one under way does not count."""
        monitor = self._monitors.pop(container_id, None)
        if monitor is not None:
            monitor.stopped.set()
            if monitor.exec_id:
                self._end(monitor.exec_id)

    def close(self) -> None:
        """Probe nobody any more."""
        for monitor in self._monitors.values():
            if monitor.task is not None:
                monitor.task.cancel()
        for ending in self._endings:
            ending.cancel()

    def _settled(self, container_id: str, monitor: _Monitor, task: asyncio.Task[None]) -> None:
        if self._monitors.get(container_id) is monitor:
            del self._monitors[container_id]
        if not task.cancelled() and task.exception() is not None:
            log.error("health check of container %s failed", container_id[:12], exc_info=task.exception())

    def _end(self, exec_id: str, started: asyncio.Future[None] | None = None) -> None:
        """End a probe in the background, once it has begun."""

        async def ending() -> None:
            with contextlib.suppress(PydError):
                if started is not None:
                    await started
                await self._execs.kill(exec_id)

        task = asyncio.get_running_loop().create_task(ending())
        self._endings.add(task)
        task.add_done_callback(self._endings.discard)

    # --- probing -------------------------------------------------------------------------------------------------

    async def _follow(self, container_id: str, command: tuple[str, ...], monitor: _Monitor) -> None:
        while True:
            container = self._store.find(container_id)
            if container is None or container.config.healthcheck is None:
                return
            seconds = _pause(container, container.config.healthcheck, time.time_ns()) / _SECOND
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(monitor.stopped.wait(), seconds)
            container = self._store.find(container_id)
            if monitor.stopped.is_set() or container is None or container.config.healthcheck is None:
                return
            probe = await self._probe(container, command, container.config.healthcheck.timeout or _TIMEOUT, monitor)
            if monitor.stopped.is_set():
                return
            self._judge(container_id, probe)

    async def _probe(self, container: Container, command: tuple[str, ...], timeout_ns: int, monitor: _Monitor) -> Probe:
        """Run the command once; -1 is the exit code of one that did not start or took too long."""
        begun = time.time_ns()
        config = ExecConfig(cmd=command, attach_stdout=True, attach_stderr=True)
        output, code = bytearray(), -1
        ours, theirs = socket.socketpair()
        try:
            exec_id = monitor.exec_id = self._execs.create(container.id, config)
            starting = asyncio.ensure_future(self._start(exec_id, theirs))
            try:
                async with asyncio.timeout(timeout_ns / _SECOND):
                    await asyncio.shield(starting)
                    await _read(ours, output)
                    code = await self._execs.ended(exec_id)
                text = _shown(output)
            except TimeoutError:
                self._end(exec_id, starting)
                text = f"Health check exceeded timeout ({_duration(timeout_ns)}): {_shown(output)}"
        except PydError as error:
            text = str(error)
        finally:
            monitor.exec_id = ""
            ours.close()
        return Probe(start_ns=begun, end_ns=time.time_ns(), exit_code=code, output=text)

    async def _start(self, exec_id: str, theirs: socket.socket) -> None:
        """Start the exec with its streams wired to *theirs*. Not to be cancelled: the descriptor is under way."""
        try:
            theirs.setblocking(False)
            plan = await self._execs.start(exec_id, detach=False, tty=False, console_size=None)
            await plan.perform(replace(plan.wiring, fd=theirs.fileno(), framed=False))
        finally:
            theirs.close()

    def _judge(self, container_id: str, probe: Probe) -> None:
        container = self._store.find(container_id)
        if container is None or container.state.phase is not Phase.RUNNING or container.health is None:
            return  # it ended under the probe
        before = container
        after = self._change(container_id, lambda old: judged(before, old, probe))
        if after is not None and after.health is not None and after.health.status != container.health.status:
            self._publish(f"health_status: {after.health.status}", after, {})

    def _change(self, container_id: str, to: Callable[[Health], Health]) -> Container | None:
        try:
            return self._store.change(
                container_id, lambda c: msgspec.structs.replace(c, health=to(c.health or Health(status="starting")))
            )
        except NotFound:
            return None  # removed meanwhile


async def _read(ours: socket.socket, output: bytearray) -> None:
    """All a probe writes, until it ends; what is too much is dropped."""
    ours.setblocking(False)
    loop = asyncio.get_running_loop()
    while piece := await loop.sock_recv(ours, 65536):
        if len(output) <= _OUTPUT:
            output += piece


def probe_command(config: ContainerConfig) -> tuple[str, ...] | None:
    """What is to be run; None when there is no health check."""
    health = config.healthcheck
    if health is None or not health.test or health.test[0] in ("", "NONE"):
        return None
    kind, *words = health.test
    if not words:
        return None
    if kind == "CMD-SHELL":
        return (*(config.shell or ("/bin/sh", "-c")), words[0])
    return tuple(words)


def judged(container: Container, health: Health, probe: Probe) -> Health:
    """The health after one more probe. A failure in the start period does not count, a success ends it."""
    config = container.config.healthcheck or HealthConfig()
    status, streak = health.status, health.failing_streak
    if probe.exit_code == 0:
        status, streak = "healthy", 0
    elif status != "starting" or probe.start_ns - container.state.started_ns >= config.start_period:
        streak += 1
        if streak >= (config.retries or _RETRIES):
            status = "unhealthy"
    return Health(status=status, failing_streak=streak, log=(*health.log, probe)[-_KEPT:])


def after_the_end(health: Health | None) -> Health | None:
    """A container that has ended is not healthy, says dockerd."""
    return None if health is None else msgspec.structs.replace(health, status="unhealthy")


def _pause(container: Container, config: HealthConfig, now_ns: int) -> int:
    """Nanoseconds until the next probe."""
    young = now_ns - container.state.started_ns < config.start_period
    if young and container.health is not None and container.health.status == "starting":
        return config.start_interval or _START_INTERVAL
    return config.interval or _INTERVAL


def _shown(output: bytearray) -> str:
    text = bytes(output[:_OUTPUT]).decode(errors="replace")
    return f"{text}..." if len(output) > _OUTPUT else text


def _duration(nanoseconds: int) -> str:
    """As Go prints a duration: ``1m30s``, ``1.5s``, ``100ms``."""
    if nanoseconds < _SECOND:
        return f"{nanoseconds / 1_000_000:g}ms"
    minutes, rest = divmod(nanoseconds / _SECOND, 60)
    hours, minutes = divmod(int(minutes), 60)
    return (f"{hours}h" if hours else "") + (f"{minutes}m" if hours or minutes else "") + f"{rest:g}s"
