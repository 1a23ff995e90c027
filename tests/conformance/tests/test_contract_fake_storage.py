"""The fake under the storage contract, and what it promises on top: no privilege."""

from __future__ import annotations

from pathlib import Path

from pyd_conformance import StorageContract
from pyd_conformance.fakes import FakeStorage


class TestFakeStorage(StorageContract):
    """Clauses that look into mounts need root; the others run anywhere."""

    capabilities = FakeStorage.capabilities

    def make(self, root: Path, run: Path) -> FakeStorage:
        return FakeStorage(root, run)


def test_content_is_at_hand_without_mounting(tmp_path: Path) -> None:
    fake = FakeStorage(tmp_path)
    fake.storage_prepare("one", None, {})
    (fake.storage_layer_target("one").path / "file").write_text("content")
    fake.storage_commit("layer", "one")

    fake.storage_prepare("two", "layer", {})

    assert (fake.storage_layer_target("two").path / "file").read_text() == "content"


def test_a_directory_made_anew_is_an_empty_disk(tmp_path: Path) -> None:
    root = tmp_path / "root"
    root.mkdir()
    FakeStorage(root).storage_prepare("one", None, {})
    root.rename(tmp_path / "kept-so-that-its-inode-stays-taken")
    root.mkdir()

    assert list(FakeStorage(root).storage_walk()) == []
