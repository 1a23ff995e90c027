"""The overlay driver under the storage contract."""

from __future__ import annotations

from pathlib import Path

import pytest

from pyd_conformance import StorageContract
from pyd_conformance.storage_stage import Place
from pyd_storage_overlay.driver import OverlayDriver


@pytest.mark.root
class TestOverlay(StorageContract):
    """Default options."""

    capabilities = frozenset({"layer-targets", "rebase", "native-diff", "shared"})
    uncertain = {"id-mapped": "overlayfs takes id-mapped layers from Linux 5.19"}  # noqa: RUF012

    @pytest.fixture(scope="class", autouse=True)
    @classmethod
    def _id_maps(cls, tmp_path_factory: pytest.TempPathFactory) -> None:
        """Whether ids can be mapped is a matter of the kernel's age."""
        place = Place.at(tmp_path_factory.mktemp("looked-at") / "root", tmp_path_factory.mktemp("run"))
        cls.capabilities |= OverlayDriver(place.root, place.run).capabilities & {"id-mapped"}

    def make(self, root: Path, run: Path) -> OverlayDriver:
        return OverlayDriver(root, run)


@pytest.mark.root
class TestOverlayRedirects(TestOverlay):
    """Renamed directories stay in their layer, as marks; changed attributes take no data along."""

    def make(self, root: Path, run: Path) -> OverlayDriver:
        return OverlayDriver(root, run, options=["redirect_dir=on", "metacopy=on", "volatile"])
