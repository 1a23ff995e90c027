"""Stopping containers: by their stop signal and then by force, or by any signal. What ends by itself is `lifecycle`'s business.

Constraint: one that restarts for ever is most of the time being started or taken down, and who stops it means all of it; and
the restart policy must know who was stopped and who merely ended.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Mapping

import msgspec

from pyd_contracts.errors import Conflict, DriverFault, FailedPrecondition, NotFound, NotModified
from pyd_contracts.isolation import INIT
from pyd_engine.containers.container import Container, Doing, Phase, after
from pyd_engine.containers.runner import Runner
from pyd_engine.containers.signals import parse_signal
from pyd_engine.containers.store import ContainerStore
from pyd_engine.containers.waiting import Waiters, ends

__all__ = ["Stops"]

_STOP_SECONDS = 10
_KILL_SECONDS = 30.0


class Stops:
    """Ends the runs of containers. *lock* keeps one container's operations in order; *unpause* lets it go on."""

    def __init__(
        self,
        store: ContainerStore,
        runner: Runner,
        waiters: Waiters,
        lock: Callable[[str], asyncio.Lock],
        unpause: Callable[[str], Awaitable[None]],
        publish: Callable[[str, Container, Mapping[str, str]], None],
    ) -> None:
        self._store = store
        self._runner = runner
        self._waiters = waiters
        self._lock = lock
        self._unpause = unpause
        self._publish = publish

    async def stop(self, ref: str, *, timeout: int | None = None, signal: str | None = None) -> None:  # noqa: ASYNC109
        """Ask with the stop signal, then kill. NotModified when it does not run. A timeout of -1 waits for ever."""
        container = await self.at_rest(ref)
        if container.state.phase is Phase.RESTARTING:
            self.stay_down(container.id)
            self._publish("stop", container, {})
            return
        if not container.state.phase.alive:
            raise NotModified(f"container {container.name} is already stopped")
        self._by_user(container.id)
        number = parse_signal(signal or container.config.stop_signal or "SIGTERM")
        if timeout is None:
            timeout = container.config.stop_timeout
        seconds = _STOP_SECONDS if timeout is None else timeout
        waiter = self._waiters.register(container.id, "not-running")
        try:
            if container.state.phase is Phase.PAUSED:
                await self._unpause(container.id)
            await self._signal(container, number)
            if not await ends(waiter, None if seconds < 0 else float(seconds)):
                await self._signal(container, 9)
                if not await ends(waiter, _KILL_SECONDS):
                    raise DriverFault(f"container {container.name} did not end within {_KILL_SECONDS:.0f} s of SIGKILL")
        finally:
            waiter.cancel()
        async with self._lock(container.id):
            pass  # what the run had is taken back
        self._publish("stop", self._store.find(container.id) or container, {})

    async def _signal(self, container: Container, number: int) -> None:
        self._publish("kill", container, {"signal": str(number)})
        isolation = self._runner.isolation(container)
        with contextlib.suppress(FailedPrecondition):  # it was faster
            await asyncio.to_thread(
                isolation.isolation_kill, container=container.id, process=INIT, signal=number, everyone=False
            )

    async def kill(self, ref: str, *, signal: str) -> None:
        """Send a signal. SIGKILL waits for the end, as dockerd does.

        SIGKILL and the container's own stop signal are a stop: the restart policy leaves it alone, and a paused one goes
        on to see its signal. With any other signal, one that tells a server to reload, say, the policy stays in force.
        """
        number = parse_signal(signal or "SIGKILL")
        try:
            container = await self.at_rest(ref)
        except NotFound as error:
            raise NotFound(f"cannot kill container: {ref}: {error}") from error
        if container.state.phase is Phase.RESTARTING:  # no process to tell: it stays as it is
            self.stay_down(container.id)
            return
        if not container.state.phase.alive:
            raise Conflict(f"cannot kill container: {ref}: container {container.id} is not running")
        if number == 9:
            self._by_user(container.id)
            waiter = self._waiters.register(container.id, "not-running")
            try:
                await self._signal(container, number)
                if not await ends(waiter, _KILL_SECONDS):
                    raise DriverFault(f"container {container.name} did not end within {_KILL_SECONDS:.0f} s of SIGKILL")
            finally:
                waiter.cancel()
            return
        ends_it = number == parse_signal(container.config.stop_signal or "SIGTERM")
        if ends_it:
            self._by_user(container.id)
        await self._signal(container, number)
        if ends_it and container.state.phase is Phase.PAUSED:
            with contextlib.suppress(Conflict, NotFound):  # somebody else was faster
                await self._unpause(container.id)

    async def at_rest(self, ref: str) -> Container:
        """The container, after a start or an end that is under way: one that restarts for ever is found in one of these
        as often as not, and who stops it means all of it."""
        container = self._store.get(ref)
        if container.state.phase in (Phase.STARTING, Phase.EXITED) and self._lock(container.id).locked():
            async with self._lock(container.id):
                container = self._store.find(container.id) or container
        return container

    def _by_user(self, container_id: str) -> None:
        self._store.change(container_id, lambda c: msgspec.structs.replace(c, stopped_by_user=True))

    def stay_down(self, container_id: str) -> None:
        """It waits for its restart, which is called off."""
        self._store.change(
            container_id, lambda c: msgspec.structs.replace(c.moved(after(c, Doing.EXIT)), stopped_by_user=True)
        )
