"""The isolation suite: limits of a running container, and what it uses."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest

from pyd_conformance.clauses import clause
from pyd_conformance.isolation_stage import IsolationStage, until
from pyd_contracts.errors import FailedPrecondition, InvalidArgument

__all__ = ["IsolationResources"]

_MIB = 1 << 20


class IsolationResources:
    """Update and statistics."""

    if TYPE_CHECKING:

        def need_kernel(self) -> None: ...

    @clause("ISO-65", "a limit changed is the limit that counts, others stay")
    @clause("ISO-70", "limits and processes show")
    def test_update(self, stage: IsolationStage) -> None:
        container = stage.start("sleep", "100")
        stage.backend.isolation_update(container=container, resources={"pids": {"limit": 77}})
        stage.backend.isolation_update(container=container, resources={"memory": {"limit": 64 * _MIB}})
        found = stage.backend.isolation_statistics(container=container)
        assert (found.pids_limit, found.memory_limit) == (77, 64 * _MIB)
        assert found.pids >= 1

    @clause("ISO-65", "processes that run feel the new limit")
    def test_update_is_felt(self, stage: IsolationStage) -> None:
        self.need_kernel()
        script = "read x; (echo forked); :"  # a last subshell would not fork
        container = stage.create("sh", "-c", script, stdin=True)
        client = stage.attach(container, stdin=True)
        stage.backend.isolation_start(container=container)
        stage.backend.isolation_update(container=container, resources={"pids": {"limit": 1}})
        client.send(b"\n")
        said = client.read()
        assert 1 not in said
        assert b"fork" in said[2]

    @clause("ISO-66", "a change that is refused changes nothing")
    def test_update_refused(self, stage: IsolationStage) -> None:
        container = stage.start("sleep", "100")
        stage.backend.isolation_update(container=container, resources={"pids": {"limit": 55}})
        before = stage.backend.isolation_statistics(container=container).memory_limit
        less_than_a_kernel_schedules = {"quota": 5, "period": 100_000}  # microseconds
        change = {"pids": {"limit": 66}, "cpu": less_than_a_kernel_schedules, "memory": {"limit": 64 << 20}}
        with pytest.raises(InvalidArgument):
            stage.backend.isolation_update(container=container, resources=change)
        after = stage.backend.isolation_statistics(container=container)
        assert (after.pids_limit, after.memory_limit) == (55, before)

    @clause("ISO-67", "only a running container is updated")
    @clause("ISO-71", "only a running container is measured")
    def test_not_running(self, stage: IsolationStage) -> None:
        container = stage.create("sleep", "100")
        with pytest.raises(FailedPrecondition):
            stage.backend.isolation_update(container=container, resources={"pids": {"limit": 5}})
        with pytest.raises(FailedPrecondition):
            stage.backend.isolation_statistics(container=container)

    @clause("ISO-70", "processor time grows, memory is used")
    def test_statistics(self, stage: IsolationStage) -> None:
        self.need_kernel()
        container = stage.start("sh", "-c", "while :; do :; done")
        first = stage.backend.isolation_statistics(container=container)

        def grown() -> bool:
            time.sleep(0.05)
            return stage.backend.isolation_statistics(container=container).cpu_total > first.cpu_total + 10_000_000

        until(grown, "10 ms of processor time")
        found = stage.backend.isolation_statistics(container=container)
        assert 0 < found.memory_usage < 256 * _MIB
        assert found.memory_stats
        assert found.networks == {}
