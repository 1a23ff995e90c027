"""The fake under the volume contract."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

from pyd_conformance import VolumeContract
from pyd_conformance.fakes import FakeVolumes


class TestFakeVolumes(VolumeContract):
    options: ClassVar = {"color": "red"}

    def make(self, root: Path, run: Path) -> FakeVolumes:
        return FakeVolumes(root, run)
