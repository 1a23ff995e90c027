"""What containers use, as ``GET /containers/{id}/stats`` shows it: one sample a second for all who watch a container."""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any

from pyd_contracts.errors import NotFound, PydError
from pyd_contracts.values import Statistics
from pyd_engine.containers.container import Container
from pyd_engine.containers.runner import Runner
from pyd_engine.containers.store import ContainerStore
from pyd_engine.logs.reader import rfc3339nano

__all__ = ["Meter", "document"]

log = logging.getLogger(__name__)
_NEVER = "0001-01-01T00:00:00Z"
_IO = (
    "io_service_bytes_recursive io_serviced_recursive io_queue_recursive io_service_time_recursive "
    "io_wait_time_recursive io_merged_recursive io_time_recursive sectors_recursive"
).split()
_NO_IO: dict[str, Any] = dict.fromkeys(_IO)
_NO_CPU = {
    "cpu_usage": {"total_usage": 0, "usage_in_kernelmode": 0, "usage_in_usermode": 0},
    "throttling_data": {"periods": 0, "throttled_periods": 0, "throttled_time": 0},
}


class _Sampler:
    """The samples of one container, taken while somebody watches."""

    def __init__(self, take: Callable[[], Any]) -> None:
        self._take = take
        self._watchers: set[asyncio.Queue[dict[str, Any] | None]] = set()
        self._task: asyncio.Task[None] | None = None

    def watch(self) -> asyncio.Queue[dict[str, Any] | None]:
        """A queue of one: who is slow misses samples and delays nobody. None ends it."""
        queue: asyncio.Queue[dict[str, Any] | None] = asyncio.Queue(1)
        self._watchers.add(queue)
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._run())
        return queue

    def leave(self, queue: asyncio.Queue[dict[str, Any] | None]) -> bool:
        """Whether that was the last one."""
        self._watchers.discard(queue)
        if not self._watchers and self._task is not None:
            self._task.cancel()
            self._task = None
        return not self._watchers

    async def _run(self) -> None:
        previous: dict[str, Any] | None = None
        sample: dict[str, Any] | None
        while True:
            began = time.monotonic()
            try:
                sample = await asyncio.to_thread(self._take)
            except NotFound:
                sample = None  # it was removed
            except PydError as error:
                log.warning("statistics: %s", error)
                sample = None
            for queue in tuple(self._watchers):
                if queue.full():
                    queue.get_nowait()
                queue.put_nowait(None if sample is None else _with_previous(sample, previous))
            if sample is None:
                return
            previous = sample
            await asyncio.sleep(max(0.0, 1.0 - (time.monotonic() - began)))


class Meter:
    """Statistics of containers."""

    def __init__(self, store: ContainerStore, runner: Runner) -> None:
        self._store = store
        self._runner = runner
        self._samplers: dict[str, _Sampler] = {}

    async def once(self, ref: str, *, one_shot: bool) -> dict[str, Any]:
        """One document. Unless *one_shot*, it is the second of two samples, so that rates can be told."""
        container = self._store.get(ref)
        if one_shot or not container.state.phase.alive:
            return await asyncio.to_thread(self._take, container.id)
        stream = self.stream(container.id)
        try:
            first = await anext(stream)
            return await anext(stream, first)
        finally:
            await stream.aclose()

    def stream(self, ref: str) -> _Stream:
        """A document each second until the container is removed; to be closed."""
        container = self._store.get(ref)
        sampler = self._samplers.get(container.id)
        if sampler is None:
            sampler = self._samplers[container.id] = _Sampler(lambda: self._take(container.id))
        queue = sampler.watch()

        def leave() -> None:
            if sampler.leave(queue):
                self._samplers.pop(container.id, None)

        return _Stream(queue, leave)

    def _take(self, container_id: str) -> dict[str, Any]:
        """Blocks. Raises NotFound when there is no such container any more."""
        container = self._store.get(container_id)
        if not container.state.phase.alive:
            return document(container, None)
        try:
            found = self._runner.isolation(container).isolation_statistics(container=container_id)
        except PydError:
            if self._store.get(container_id).state.phase.alive and self._runner.state(container).pid:
                raise
            return document(container, None)  # it has ended meanwhile
        return document(container, found)


class _Stream(AsyncIterator[dict[str, Any]]):
    """What one watcher gets."""

    def __init__(self, queue: asyncio.Queue[dict[str, Any] | None], leave: Callable[[], None]) -> None:
        self._queue = queue
        self._leave = leave

    async def __anext__(self) -> dict[str, Any]:
        sample = await self._queue.get()
        if sample is None:
            raise StopAsyncIteration
        return sample

    async def aclose(self) -> None:
        self._leave()


def document(container: Container, found: Statistics | None) -> dict[str, Any]:
    """Docker's ContainerStatsResponse; of a container that does not run, one without figures."""
    head: dict[str, Any] = {"name": f"/{container.name}", "id": container.id, "num_procs": 0, "storage_stats": {}}
    if found is None:
        return {
            **head, "read": _NEVER, "preread": _NEVER, "pids_stats": {}, "blkio_stats": _NO_IO, "cpu_stats": _NO_CPU,
            "precpu_stats": _NO_CPU, "memory_stats": {},
        }  # fmt: skip
    answer = {
        **head,
        "read": rfc3339nano(time.time_ns()),
        "preread": _NEVER,
        "pids_stats": _pids(found),
        "blkio_stats": {**_NO_IO, **{kind: _entries(rows) for kind, rows in found.io.items()}},
        "cpu_stats": _cpu(found),
        "precpu_stats": _NO_CPU,
        "memory_stats": _memory(found),
    }
    if found.networks:
        answer["networks"] = {name: dict(counters) for name, counters in found.networks.items()}
    return answer


def _with_previous(sample: dict[str, Any], previous: dict[str, Any] | None) -> dict[str, Any]:
    if previous is None:
        return sample
    return {**sample, "preread": previous["read"], "precpu_stats": previous["cpu_stats"]}


def _pids(found: Statistics) -> dict[str, int]:
    limit = found.pids_limit
    if limit is None and found.cgroup == 2:
        limit = (1 << 64) - 1
    return {"current": found.pids, **({} if limit is None else {"limit": limit})}


def _entries(rows: tuple[tuple[int, int, str, int], ...]) -> list[dict[str, Any]]:
    return [{"major": major, "minor": minor, "op": word, "value": value} for major, minor, word, value in rows]


def _cpu(found: Statistics) -> dict[str, Any]:
    usage: dict[str, Any] = {
        "total_usage": found.cpu_total,
        "usage_in_kernelmode": found.cpu_kernel,
        "usage_in_usermode": found.cpu_user,
    }
    if found.cpu_each:
        usage["percpu_usage"] = list(found.cpu_each)
    periods, throttled, throttled_time = found.throttling
    return {
        "cpu_usage": usage,
        "system_cpu_usage": _system_time(),
        "online_cpus": os.sysconf("SC_NPROCESSORS_ONLN"),
        "throttling_data": {"periods": periods, "throttled_periods": throttled, "throttled_time": throttled_time},
    }


def _memory(found: Statistics) -> dict[str, Any]:
    stats: Mapping[str, int] = found.memory_stats
    memory: dict[str, Any] = {
        "usage": found.memory_usage,
        "stats": dict(stats),
        "limit": found.memory_limit or os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"),
    }
    if found.cgroup == 1:
        memory["max_usage"] = found.memory_peak or found.memory_usage
    if found.memory_failures:
        memory["failcnt"] = found.memory_failures
    return memory


def _system_time() -> int:
    """Nanoseconds of all processors since boot, idle ones included (proc(5), /proc/stat)."""
    with open("/proc/stat", encoding="ascii") as file:
        words = file.readline().split()
    return sum(map(int, words[1:9])) * 1_000_000_000 // os.sysconf("SC_CLK_TCK")
