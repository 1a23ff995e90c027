"""The whole contract on each file system that an operator may have, made in a file of the test; and where overlay declines."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from pyd_conformance import StorageContract
from pyd_conformance.mounting import mounted, takes_user_attributes, tight, unmount
from pyd_conformance.storage_stage import Place
from pyd_contracts.errors import Declined, InvalidArgument
from pyd_storage_overlay import quota
from pyd_storage_overlay.driver import OverlayDriver


@contextlib.contextmanager
def made(work: Path, size: int, *maker: str, options: str = "") -> Iterator[Path]:
    """A file system of *size* MiB, made by *maker*, mounted from a file; skips with the reason where there is none."""
    if shutil.which(maker[0], path="/usr/sbin:/sbin:/usr/bin:/bin") is None:
        pytest.skip(f"not installed here: {maker[0]}")
    image, point = work / "image", work / "mounted"
    point.mkdir(parents=True)
    with image.open("wb") as file:
        file.truncate(size << 20)
    done = subprocess.run([*maker, str(image)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    command = ["mount", "-o", f"loop{options and ',' + options}", str(image), str(point)]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"this kernel does not mount what {' '.join(maker)} makes with options {options or 'none'}")
    try:
        yield point
    finally:
        unmount(point)
        image.unlink()


class _OnOwnFileSystem(StorageContract):
    maker: tuple[str, ...]
    size = 512
    least = 24
    options = ""

    def make(self, root: Path, run: Path) -> OverlayDriver:
        return OverlayDriver(root, run)

    @pytest.fixture(scope="class")
    @classmethod
    def file_system(cls, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
        with made(tmp_path_factory.mktemp("fs"), cls.size, *cls.maker, options=cls.options) as point:
            yield point

    uncertain = {"id-mapped": "overlayfs takes id-mapped layers from Linux 5.19, tmpfs can be one from 6.3"}  # noqa: RUF012

    @pytest.fixture(scope="class", autouse=True)
    @classmethod
    def _id_maps(cls, file_system: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
        """Whether ids can be mapped is a matter of the kernel's age."""
        place = Place.at(file_system / "looked-at", tmp_path_factory.mktemp("looked-at"))
        cls.capabilities |= OverlayDriver(place.root, place.run).capabilities & {"id-mapped"}

    @pytest.fixture
    def place(self, file_system: Path, tmp_path: Path) -> Iterator[Place]:
        yield Place.at(file_system / "root", tmp_path)
        subprocess.run(["rm", "-rf", str(file_system / "root")], check=True)  # deep trees are too much for shutil

    @pytest.fixture
    def cramped(self, tmp_path: Path) -> Iterator[Place]:
        with made(tmp_path / "fs", self.least, *self.maker, options=self.options) as point:
            yield Place.at(point / "root", tmp_path)


_CAPABILITIES = frozenset({"layer-targets", "rebase", "native-diff", "shared"})


@pytest.mark.root
class TestOverlayOnExt4(_OnOwnFileSystem):
    capabilities = _CAPABILITIES
    maker = ("mkfs.ext4", "-q", "-F")


@pytest.mark.root
class TestOverlayOnXfs(_OnOwnFileSystem):
    capabilities = _CAPABILITIES
    maker = ("mkfs.xfs", "-q", "-f")
    least = 300  # mkfs.xfs makes none below


@pytest.mark.root
class TestOverlayOnBtrfs(_OnOwnFileSystem):
    capabilities = _CAPABILITIES
    maker = ("mkfs.btrfs", "-q", "-f")
    least = 110


@pytest.mark.root
class TestOverlayOnTmpfs(_OnOwnFileSystem):
    capabilities = _CAPABILITIES

    @pytest.fixture(scope="class")
    @classmethod
    def file_system(cls, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
        with tight(tmp_path_factory.mktemp("fs") / "tmpfs", 1 << 30) as point:
            if not takes_user_attributes(point):
                pytest.skip("tmpfs of this kernel takes no attributes user.* (Linux 6.6), which layers have")
            yield point

    @pytest.fixture
    def cramped(self, tmp_path: Path) -> Iterator[Place]:
        with tight(tmp_path / "cramped", 24 << 20) as point:
            yield Place.at(point / "root", tmp_path)


@pytest.mark.root
class TestOverlayOnXfsWithQuotas(_OnOwnFileSystem):
    """What Docker has as ``overlay2.size``. Skips on kernels without CONFIG_XFS_QUOTA; the virtual machine has it."""

    maker = ("mkfs.xfs", "-q", "-f")
    least = 300
    options = "pquota"

    capabilities = _CAPABILITIES | {"size"}

    def test_a_removed_snapshot_leaves_no_bound(self, place: Place) -> None:
        driver = self.make(place.root, place.run)
        driver.storage_prepare("key", None, {"size": str(8 << 20)})
        project = quota.project_of(f"{place.root}/1/f")
        assert project > 1 << 24

        driver.storage_remove("key")

        report = subprocess.run(
            ["xfs_quota", "-x", "-c", "report -p -n", str(place.root.parent)], capture_output=True, text=True
        )
        assert report.returncode == 0, report.stderr
        assert f"#{project}" not in report.stdout

    def test_df_shows_the_bound(self, place: Place) -> None:
        driver = self.make(place.root, place.run)
        with mounted(driver.storage_prepare("key", None, {"size": str(64 << 20)})) as top:
            found = os.statvfs(top)

        assert found.f_blocks * found.f_frsize == 64 << 20


@pytest.mark.root
def test_ext4_quotas_would_bind_nobody(tmp_path: Path) -> None:
    maker = ("mkfs.ext4", "-q", "-F", "-O", "quota,project", "-E", "quotatype=prjquota")
    with made(tmp_path / "fs", 128, *maker, options="prjquota") as point:
        place = Place.at(point / "root", tmp_path)
        driver = OverlayDriver(place.root, place.run)

        assert "size" not in driver.capabilities
        with pytest.raises(InvalidArgument, match="xfs mounted with pquota"):
            driver.storage_prepare("key", None, {"size": str(8 << 20)})
        assert os.listdir(place.root / "new") == []


@pytest.mark.root
def test_declines_without_types_of_entries(tmp_path: Path) -> None:
    with made(tmp_path / "fs", 64, "mkfs.ext4", "-q", "-F", "-O", "^filetype") as point:
        place = Place.at(point / "root", tmp_path)

        with pytest.raises(Declined, match="d_type"):
            OverlayDriver(place.root, place.run)
        assert os.listdir(place.root / "new") == []
