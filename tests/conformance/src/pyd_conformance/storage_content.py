"""The storage suite's second part: what is seen in the mounts. Needs root, as mounting does."""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from pyd_conformance.clauses import clause, needs
from pyd_conformance.storage_powers import blob
from pyd_conformance.storage_stage import Stage
from pyd_conformance.trees import deep, edit, furnish, layer
from pyd_contracts.values import LayerTarget, Whiteouts

__all__ = ["StorageContent", "layer_model", "write_layer"]

_MARK = b"pyd-kit-mark"


class StorageContent:
    """Clauses about content; collected as a part of StorageContract."""

    @pytest.mark.root
    @clause("STO-10", "without a parent: empty, mode 0755, root's")
    def test_a_first_snapshot_is_empty(self, stage: Stage) -> None:
        before = os.umask(0o077)  # the daemon's umask is no part of an image
        try:
            stage.driver.storage_prepare(key="key", parent=None, options={})
        finally:
            os.umask(before)

        assert stage.tree("key") == stage.model()
        with stage.open("key") as top:
            assert os.stat(top).st_mode & 0o7777 == 0o755
            assert (os.stat(top).st_uid, os.stat(top).st_gid) == (0, 0)

    @pytest.mark.root
    @clause("STO-10", "the tree equals the parent's: every kind of file, every attribute")
    @clause("STO-25", "what was written is there")
    def test_a_snapshot_starts_equal_to_its_parent(self, stage: Stage) -> None:
        stage.layer("base", None, furnish)

        stage.driver.storage_prepare(key="key", parent="base", options={})

        assert stage.tree("key") == stage.model(furnish)

    @pytest.mark.root
    @clause("STO-10", "removals, replacements and turned kinds are seen in the next layer")
    def test_a_second_layer(self, stage: Stage) -> None:
        stage.layer("base", None, furnish)
        stage.layer("upper", "base", edit)
        expected = stage.model(furnish, edit)

        stage.driver.storage_prepare(key="key", parent="upper", options={})

        assert stage.tree("key") == expected
        assert stage.tree_of("upper") == expected

    @pytest.mark.root
    @clause("STO-10", "mode, owner and attributes of the root directory come from the parent")
    def test_the_root_directory_comes_from_the_parent(self, stage: Stage) -> None:
        def mark(top: Path) -> None:
            os.chown(top, 4, 5)
            os.chmod(top, 0o1770)
            os.setxattr(top, "user.root", b"mark")
            os.utime(top, ns=(10**9, 10**9 + 7))

        stage.layer("base", None, mark)
        stage.layer("upper", "base", lambda _top: None)
        stage.driver.storage_prepare(key="key", parent="upper", options={})

        assert stage.tree("key") == stage.model(mark)

    @pytest.mark.root
    @clause("STO-10", "a sparse file stays sparse")
    def test_a_sparse_file_stays_sparse(self, stage: Stage) -> None:
        def hole(top: Path) -> None:
            with open(top / "hole", "wb") as file:
                file.truncate(64 << 20)
                file.seek(32 << 20)
                file.write(b"middle")

        stage.layer("base", None, hole)
        stage.driver.storage_prepare(key="key", parent="base", options={})

        with stage.open("key") as top:
            status = os.stat(top / "hole")
            assert status.st_size == 64 << 20
            assert status.st_blocks * 512 < 1 << 20

    @pytest.mark.root
    @clause("STO-11", "the parent stays as it is, whatever is written")
    def test_a_parent_does_not_change(self, stage: Stage) -> None:
        stage.layer("base", None, furnish)
        before = stage.tree_of("base")
        stage.driver.storage_prepare(key="one", parent="base", options={})
        stage.driver.storage_prepare(key="two", parent="base", options={})

        stage.write("one", edit)

        assert stage.tree_of("base") == before
        assert stage.tree("two") == before, "a sister saw the changes"
        assert stage.tree("one") == stage.model(furnish, edit)

    @pytest.mark.root
    @clause("STO-11", "not even a write in place through an open descriptor reaches it")
    def test_writes_in_place_do_not_reach_the_parent(self, stage: Stage) -> None:
        stage.layer("base", None, blob("data", 1 << 20))
        before = stage.tree_of("base")
        stage.driver.storage_prepare(key="key", parent="base", options={})

        with stage.open("key") as top, open(top / "data", "r+b") as file:
            file.seek(12345)
            file.write(b"changed in place")
            file.flush()
            os.ftruncate(file.fileno(), 99999)

        assert stage.tree_of("base") == before
        assert stage.tree("key") != before

    @pytest.mark.root
    @clause("STO-15", "a view equals its parent")
    def test_a_view_equals_its_parent(self, stage: Stage) -> None:
        stage.layer("base", None, furnish)
        stage.layer("upper", "base", edit)
        stage.layer("top", "upper", layer(1))

        assert stage.tree_of("base") == stage.model(furnish)
        assert stage.tree_of("upper") == stage.model(furnish, edit)
        assert stage.tree_of("top") == stage.model(furnish, edit, layer(1))

    @pytest.mark.root
    @clause("STO-15", "a view refuses writes with EROFS")
    @pytest.mark.parametrize("depth", [1, 3])
    def test_a_view_refuses_writes(self, stage: Stage, depth: int) -> None:
        parent = None
        for number in range(1, depth + 1):
            parent = stage.layer(f"layer-{number}", parent, layer(number)).name
        assert parent is not None
        stage.driver.storage_view(key="view", parent=parent)

        with stage.open("view") as top:
            attempts: tuple[Callable[[], object], ...] = (
                lambda: os.open(top / "new", os.O_CREAT | os.O_WRONLY),
                lambda: os.open(top / "d/shared", os.O_WRONLY),
                lambda: os.unlink(top / "d/shared"),
                lambda: os.chmod(top / "d", 0o700),
                lambda: os.mkdir(top / "d/new"),
                lambda: os.setxattr(top / "d/shared", "user.x", b""),
                lambda: os.utime(top / "d"),
            )
            for attempt in attempts:
                with pytest.raises(OSError) as refused:  # noqa: PT011  # its errno is checked below
                    attempt()
                assert refused.value.errno == errno.EROFS

    @pytest.mark.root
    @clause("STO-4", "content survives close and reopen")
    def test_content_survives_reopen(self, stage: Stage) -> None:
        stage.layer("base", None, furnish)
        stage.driver.storage_prepare(key="key", parent="base", options={})
        stage.write("key", edit)

        stage.reopen()

        assert stage.tree("key") == stage.model(furnish, edit)
        assert stage.tree_of("base") == stage.model(furnish)

    @pytest.mark.root
    @clause("STO-25", "a committed key keeps all that was written, once and again after reopen")
    def test_commit_keeps_what_was_written(self, stage: Stage) -> None:
        stage.layer("base", None, furnish)
        stage.driver.storage_prepare(key="key", parent="base", options={})
        stage.write("key", edit)

        stage.driver.storage_commit(name="name", key="key")

        assert stage.tree_of("name") == stage.model(furnish, edit)
        stage.reopen()
        assert stage.tree_of("name") == stage.model(furnish, edit)

    @pytest.mark.root
    @clause("STO-30", "nothing is left on disk")
    def test_remove_leaves_nothing(self, stage: Stage) -> None:
        stage.layer("base", None, furnish)
        before = stage.on_disk()

        def mark(top: Path) -> None:
            edit(top)
            os.mkdir(os.fsencode(top) + b"/" + _MARK)

        stage.layer("upper", "base", mark)
        stage.driver.storage_prepare(key="key", parent="upper", options={})
        stage.write("key", lambda top: os.rename(top / "names/moved", top / "var/moved"))
        stage.driver.storage_view(key="view", parent="upper")
        for name in ("view", "key", "upper"):
            stage.driver.storage_remove(name=name)

        assert stage.on_disk() == before

    @pytest.mark.root
    @clause("STO-30", "a tree deeper than any recursion is removed too")
    def test_remove_of_a_deep_tree(self, stage: Stage) -> None:
        before = stage.on_disk()
        stage.driver.storage_prepare(key="key", parent=None, options={})
        stage.write("key", deep(1500))

        stage.driver.storage_remove(name="key")

        assert stage.on_disk() == before

    @pytest.mark.root
    @clause("STO-45", "usage grows by what is written")
    def test_usage(self, stage: Stage) -> None:
        stage.driver.storage_prepare(key="key", parent=None, options={})
        before = stage.driver.storage_usage(name="key")
        stage.write("key", blob("data", 4 << 20), layer(1))
        after = stage.driver.storage_usage(name="key")

        assert after.bytes >= before.bytes + (4 << 20)
        assert after.inodes >= before.inodes + 4 or after.inodes == before.inodes == 0
        stage.driver.storage_commit(name="base", key="key")
        assert stage.driver.storage_usage(name="base") == after
        stage.driver.storage_view(key="view", parent="base")
        assert stage.driver.storage_usage(name="view").bytes < 1 << 20

    @pytest.mark.root
    @clause("STO-5", "hooks leave no mounts, no descriptors and no files elsewhere")
    def test_a_driver_keeps_to_its_place(self, stage: Stage) -> None:
        stage.layer("warm", None)  # what is made once may stay
        mounts = Path("/proc/self/mountinfo").read_text(encoding="utf-8", errors="surrogateescape")
        around = sorted(os.listdir(stage.place.work.parent))
        descriptors = len(os.listdir("/proc/self/fd"))

        stage.layer("base", None, furnish)
        stage.layer("upper", "base", edit)
        stage.driver.storage_prepare(key="key", parent="upper", options={})
        stage.driver.storage_view(key="view", parent="upper")
        stage.driver.storage_usage(name="key")
        stage.walk()
        stage.driver.storage_remove(name="key")

        assert len(os.listdir("/proc/self/fd")) == descriptors
        after = Path("/proc/self/mountinfo").read_text(encoding="utf-8", errors="surrogateescape")
        place = str(stage.place.root)
        assert [x for x in after.splitlines() if place in x] == [x for x in mounts.splitlines() if place in x]
        assert sorted(os.listdir(stage.place.work.parent)) == around

    @pytest.mark.root
    @clause("STO-3", "writers in many snapshots at once keep apart")
    def test_writers_at_once_keep_apart(self, stage: Stage) -> None:
        def only(number: int) -> Callable[[Path], None]:
            def change(top: Path) -> None:
                (top / "who").write_text(f"{number}" * 1000)

            return change

        stage.layer("base", None, furnish)
        start = threading.Barrier(4)

        def build(number: int) -> str:
            start.wait(timeout=30)
            return stage.layer(f"built-{number}", "base", only(number)).name

        with ThreadPoolExecutor(4) as threads:
            built = list(threads.map(build, range(4)))

        for number, name in enumerate(built):
            assert stage.tree_of(name) == stage.model(furnish, only(number))

    @pytest.mark.root
    @needs("layer-targets")
    @clause("STO-60", "what is written into the target, removals in its dialect, is seen in the mounts")
    def test_layer_target(self, stage: Stage) -> None:
        stage.layer("base", None, furnish)
        stage.driver.storage_prepare(key="key", parent="base", options={})
        target: LayerTarget = stage.driver.storage_layer_target(key="key")  # type: ignore[attr-defined]  # LayerTargets

        write_layer(target)

        assert stage.tree("key") == stage.model(furnish, layer_model)
        stage.driver.storage_commit(name="name", key="key")
        assert stage.tree_of("name") == stage.model(furnish, layer_model)

    @pytest.mark.root
    @needs("layer-targets")
    @clause("STO-60", "the target of a first layer is the whole tree")
    def test_layer_target_of_a_first_layer(self, stage: Stage) -> None:
        stage.driver.storage_prepare(key="key", parent=None, options={})
        target: LayerTarget = stage.driver.storage_layer_target(key="key")  # type: ignore[attr-defined]  # LayerTargets

        furnish(target.path)

        assert stage.tree("key") == stage.model(furnish)
        stage.driver.storage_commit(name="name", key="key")
        assert stage.tree_of("name") == stage.model(furnish)


def layer_model(top: Path) -> None:
    """What `write_layer` means."""
    at = os.fsencode(top)
    os.unlink(at + b"/grow")
    for name in (b"a", b"b/c"):
        os.unlink(at + b"/gone/" + name)
    os.rmdir(at + b"/gone/b")
    os.rmdir(at + b"/gone")
    for name in (b"one", b"two"):
        os.unlink(at + b"/keep/" + name)
    os.removexattr(at + b"/keep", "user.dir")
    os.chmod(at + b"/keep", 0o700)
    Path(top, "keep/new").write_bytes(b"new")
    os.chmod(top / "keep/new", 0o640)


def write_layer(target: LayerTarget) -> None:
    """Remove ``grow`` and ``gone``, replace the directory ``keep`` by one with ``new`` only."""
    if target.whiteouts is Whiteouts.PLAIN:
        layer_model(target.path)
        return
    for name in ("grow", "gone"):
        os.mknod(target.path / name, 0o020000, os.makedev(0, 0))
    (target.path / "keep").mkdir()
    os.chmod(target.path / "keep", 0o700)
    os.setxattr(target.path / "keep", "trusted.overlay.opaque", b"y")
    (target.path / "keep/new").write_bytes(b"new")
    os.chmod(target.path / "keep/new", 0o640)
