"""The local driver keeps the promises of the volume contract."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

from pyd_conformance.volume import VolumeContract
from pyd_contracts.volume import VolumeDriver
from pyd_volume_local.driver import LocalDriver


class TestLocal(VolumeContract):
    subject = "local"
    options: ClassVar = {"type": "tmpfs", "device": "tmpfs", "o": "size=1m"}
    mounts = True

    def make(self, root: Path, run: Path) -> VolumeDriver:
        return LocalDriver(root, run)
