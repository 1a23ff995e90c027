"""The storage suite's sixth part: layers over layers, up to a hundred, and trees that change across them at random."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from pyd_conformance.clauses import clause
from pyd_conformance.storage_stage import Stage
from pyd_conformance.trees import deep, edit, furnish, layer, mutate, overwrite, rename_directories

__all__ = ["StorageLayers"]


class StorageLayers:
    """Clauses about many layers; collected as a part of StorageContract."""

    @pytest.mark.root
    @clause("STO-10", "a hundred layers, one on the other: each adds, changes and removes")
    @clause("STO-31", "and they are removed from the top")
    @pytest.mark.parametrize("layers", [1, 2, 3, 20, 100])
    def test_many_layers(self, stage: Stage, layers: int) -> None:
        before = stage.on_disk()
        parent = None
        for number in range(1, layers + 1):
            parent = stage.layer(f"layer-{number}", parent, layer(number)).name
        stage.driver.storage_prepare(key="key", parent=parent, options={})
        expected = stage.model(*(layer(number) for number in range(1, layers + 1)))

        assert stage.tree("key") == expected
        assert stage.tree_of(f"layer-{layers}") == expected
        stage.reopen()
        assert stage.tree("key") == expected
        stage.driver.storage_remove(name="key")
        for number in range(layers, 0, -1):
            stage.driver.storage_remove(name=f"layer-{number}")
        assert stage.on_disk() == before

    @pytest.mark.root
    @clause("STO-10", "directories and files renamed over layers, away, back and over one another")
    def test_renames_over_layers(self, stage: Stage) -> None:
        stage.layer("base", None, furnish)
        stage.layer("renamed", "base", rename_directories)
        stage.layer("again", "renamed", _swap)
        stage.driver.storage_prepare(key="key", parent="again", options={})
        stage.write("key", layer(1))

        assert stage.tree_of("renamed") == stage.model(furnish, rename_directories)
        assert stage.tree("key") == stage.model(furnish, rename_directories, _swap, layer(1))

    @pytest.mark.root
    @clause("STO-10", "a directory removed and made again hides what lower layers have in it, layer after layer")
    def test_opaque_directories(self, stage: Stage) -> None:
        changes = [furnish, _again, edit, _again, _again]
        parent = None
        for number, expected in enumerate(stage.models(*changes)):
            parent = stage.layer(f"layer-{number}", parent, changes[number]).name
            assert stage.tree_of(parent) == expected

    @pytest.mark.root
    @clause("STO-10", "files replaced by rename, links by files, hard links made and taken apart")
    def test_replacements_over_layers(self, stage: Stage) -> None:
        stage.layer("base", None, furnish)
        stage.layer("upper", "base", overwrite)
        stage.driver.storage_prepare(key="key", parent="upper", options={})

        expected = stage.model(furnish, overwrite, twins=False)
        assert {path: node.alone() for path, node in stage.tree("key").items()} == expected

    @pytest.mark.root
    @clause("STO-10", "names of one inode stay one inode in the layers above")
    def test_hard_links_over_layers(self, stage: Stage) -> None:
        def link(top: Path) -> None:
            for number in range(50):
                os.link(top / "bin/hard-1", top / f"link-{number}")

        stage.layer("base", None, furnish, link)
        stage.layer("upper", "base", layer(1))
        stage.driver.storage_prepare(key="key", parent="upper", options={})

        assert stage.tree("key") == stage.model(furnish, link, layer(1))
        with stage.open("key") as top:
            assert os.stat(top / "link-7").st_nlink == 53

    @pytest.mark.root
    @clause("STO-10", "trees deeper than PATH_MAX")
    def test_deep_trees_over_layers(self, stage: Stage) -> None:
        stage.layer("base", None, deep(1200))
        stage.layer("upper", "base", layer(1))
        stage.driver.storage_prepare(key="key", parent="upper", options={})

        with stage.open("key") as top:
            fd = os.open(top, os.O_RDONLY | os.O_DIRECTORY)
            for _ in range(1200):
                inner = os.open("d", os.O_RDONLY | os.O_DIRECTORY, dir_fd=fd)
                os.close(fd)
                fd = inner
            assert {"end"} <= set(os.listdir(fd))
            os.close(fd)
        for name in ("key", "upper", "base"):  # nobody else who cleans up after tests can
            stage.driver.storage_remove(name=name)

    @pytest.mark.root
    @clause("STO-10", "whatever is done at random in five layers is what a plain directory has afterwards")
    @clause("STO-11", "and no layer below changes")
    @pytest.mark.parametrize("seed", range(4))
    def test_random_changes(self, stage: Stage, seed: int) -> None:
        changes = [_unlinked, *(mutate(seed * 100 + number) for number in range(4))]
        parent = None
        for number, change in enumerate(changes):
            parent = stage.layer(f"layer-{number}", parent, change).name
        stage.reopen()

        for number, expected in enumerate(stage.models(*changes, twins=False)):
            assert {path: node.alone() for path, node in stage.tree_of(f"layer-{number}").items()} == expected


def _unlinked(top: Path) -> None:
    """No file has two names: overlayfs says of them what their layer says, and chance would take another course."""
    furnish(top)
    os.unlink(top / "hard-3")
    os.unlink(top / "lib/hard-2")


def _swap(top: Path) -> None:
    """Exchange two files by rename, and rename a file over a link."""
    at = os.fsencode(top) + b"/"
    os.rename(at + b"grow", at + b"aside")
    os.rename(at + b"touched", at + b"grow")
    os.rename(at + b"aside", at + b"touched")
    os.rename(at + b"var/old", at + b"links/dangling")


def _again(top: Path) -> None:
    """Remove ``lib`` with all in it and make it again with one new file; ``names`` becomes a file and a directory again."""
    at = os.fsencode(top) + b"/"
    for name in (b"lib", b"names"):
        for child in os.listdir(at + name):
            os.unlink(at + name + b"/" + child)
        os.rmdir(at + name)
    os.close(os.open(at + b"names", os.O_CREAT | os.O_WRONLY, 0o600))
    os.unlink(at + b"names")
    for name in (b"lib", b"names"):
        os.mkdir(at + name)
        os.chmod(at + name, 0o755)
        os.close(os.open(at + name + b"/new", os.O_CREAT | os.O_WRONLY, 0o600))
    for name in (b"caf\xe9", b"a b"):
        os.close(os.open(at + b"names/" + name, os.O_CREAT | os.O_WRONLY, 0o600))
