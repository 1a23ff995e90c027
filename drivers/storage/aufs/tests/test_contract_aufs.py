"""The aufs driver under the storage contract: all of it where the kernel has aufs, else what needs no mount."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from pyd_conformance import StorageContract
from pyd_conformance.storage import Stage
from pyd_storage_aufs import driver, kernel
from pyd_storage_aufs.driver import AufsDriver

HERE = "aufs" in kernel.file_systems()


@contextmanager
def _no_mount(_stage: Stage, _key: str) -> Iterator[Path]:
    pytest.skip("no aufs in this kernel: nothing to look at")
    yield Path()


@pytest.mark.root
class TestAufs(StorageContract):
    """Default options."""

    capabilities = frozenset({"shared"})

    def make(self, root: Path, run: Path) -> AufsDriver:
        return AufsDriver(root, run)

    @pytest.fixture(autouse=True)
    def without_aufs(self, monkeypatch: pytest.MonkeyPatch) -> None:
        if not HERE:
            monkeypatch.setattr(driver, "_probe", lambda _root, _run: None)
            monkeypatch.setattr(Stage, "open", _no_mount)
