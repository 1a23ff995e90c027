"""The btrfs driver under the storage contract, on a file system of the test's own."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from pyd_conformance import StorageContract
from pyd_conformance.faults import crashing
from pyd_conformance.storage import Place, Stage
from pyd_conformance.trees import furnish
from pyd_snapshots.trees import DIRECTORY, opened
from pyd_storage_btrfs import kernel
from pyd_storage_btrfs.driver import BtrfsDriver
from pyd_storage_btrfs.subvolumes import nested

_CHANGING = (
    "subvolume_create", "snapshot_create", "snapshot_destroy", "subvolume_read_only", "quota_enable", "qgroup_create",
    "qgroup_assign", "qgroup_limit",
)  # fmt: skip


@pytest.mark.root
class TestBtrfs(StorageContract):
    """Default options."""

    capabilities = frozenset({"layer-targets", "native-diff", "size", "shared", "id-mapped"})

    def make(self, root: Path, run: Path) -> BtrfsDriver:
        return BtrfsDriver(root, run)

    @pytest.fixture
    def place(self, btrfs: Path, tmp_path: Path) -> Place:
        return Place.at(btrfs / "root", tmp_path / "others")

    @pytest.fixture
    def cramped(self, new_btrfs: Callable[[str, int], Path], tmp_path: Path) -> Place:
        return Place.at(new_btrfs("cramped", 114 << 20) / "root", tmp_path / "others")

    @pytest.fixture(autouse=True)
    def ioctls_are_changes(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
        """The kit interrupts functions of `os`; with this, it interrupts this driver's ioctls in the same way."""

        def watched(real: Callable[..., Any]) -> Callable[..., Any]:
            def call(*arguments: Any, **keywords: Any) -> Any:
                os.ftruncate(scratch, 0)  # one of the calls that the kit lets fail or die
                return real(*arguments, **keywords)

            return call

        scratch = os.open(tmp_path / "scratch", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC)
        for name in _CHANGING:
            monkeypatch.setattr(kernel, name, watched(getattr(kernel, name)))
        yield
        os.close(scratch)

    def test_what_dies_with_a_limit_and_nested_subvolumes(self, stage: Stage, btrfs: Path) -> None:
        """The kit's way, with what it does not know of: quota groups, and subvolumes that a container made."""
        stage.layer("base", None, furnish)

        def prepare() -> None:
            stage.driver.storage_prepare(key="key", parent="base", options={"size": str(64 << 20)})

        def remove() -> None:
            stage.driver.storage_remove(name="key")

        prepare()
        remove()
        before = _everything(btrfs)
        for hook in (prepare, remove):
            for nth in range(1, 200):
                if hook is remove:
                    prepare()
                    _nest(stage.driver.storage_layer_target(key="key").path)  # type: ignore[attr-defined]  # LayerTargets
                with crashing(nth) as plan:
                    hook()
                if any(entry.name == "key" for entry in stage.lose().storage_walk()):
                    remove()
                assert _everything(btrfs) == before, f"something is left of dying at change {nth} of {hook.__name__}"
                if not plan.reached:
                    break
            else:
                pytest.fail(f"{hook.__name__} did not end")


def _nest(place: Path) -> None:
    for name in (b"one", b"two", b"three"):
        with opened(os.open(place, DIRECTORY)) as fd:
            kernel.subvolume_create(fd, name)
        place /= os.fsdecode(name)


def _everything(btrfs: Path) -> tuple[int, list[int]]:
    """How many subvolumes there are, and quota groups of ours."""
    with opened(os.open(btrfs, DIRECTORY)) as fd:
        span = (0, 242, 0x7079 << 48), (0, 242, (0x707A << 48) - 1)  # BTRFS_QGROUP_INFO_KEY
        groups = [offset for _, kind, offset, _ in kernel.tree_search(fd, 8, *span) if kind == 242]
        return len(nested(fd, 5)), groups  # BTRFS_FS_TREE_OBJECTID
