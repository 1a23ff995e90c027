"""The fake under the isolation contract: no privilege, no kernel."""

from __future__ import annotations

from pathlib import Path

from pyd_conformance import IsolationContract
from pyd_conformance.fakes import FakeIsolation
from pyd_conformance.isolation import IsolationStage


class TestFakeIsolation(IsolationContract):
    """What only a kernel shows is skipped; the rest runs anywhere."""

    subject = "fake"
    capabilities = frozenset({"terminal", "exec", "pause"})
    kernel = False

    def make(self, root: Path, run: Path) -> FakeIsolation:
        return FakeIsolation(root, run)

    def lose_supervisor(self, stage: IsolationStage, container: str) -> None:
        backend = stage.backend
        assert isinstance(backend, FakeIsolation)
        backend.lose_supervisor(container)


def test_another_directory_is_another_host(tmp_path: Path) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    one.mkdir()
    two.mkdir()

    assert list(FakeIsolation(one).isolation_walk()) == list(FakeIsolation(two).isolation_walk()) == []
