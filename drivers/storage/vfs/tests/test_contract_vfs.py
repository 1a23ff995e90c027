"""The vfs driver under the storage contract."""

from __future__ import annotations

from pathlib import Path

import pytest

from pyd_conformance import StorageContract
from pyd_storage_vfs.driver import VfsDriver


@pytest.mark.root
class TestVfs(StorageContract):
    """Default options."""

    capabilities = frozenset({"layer-targets", "id-mapped"})

    def make(self, root: Path, run: Path) -> VfsDriver:
        return VfsDriver(root, run)
