"""Trees into archives and back, in this process: no container is needed for what a tree is."""

from __future__ import annotations

import io
import os
import stat
import tarfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pyd_engine.files.changes import ADDED, DELETED, MODIFIED, changes
from pyd_engine.files.extract import Extractor
from pyd_engine.files.paths import Refused, cleaned, path_stat
from pyd_engine.files.tarwriter import TarWriter
from pyd_engine.files.tree import Archiver
from pyd_engine.layers.tar import TarError, TarReader


def directory(path: Path) -> int:
    return os.open(path, os.O_RDONLY | os.O_DIRECTORY)


def archived(path: Path, tmp_path: Path, *, nanoseconds: bool = True) -> bytes:
    """The tree below *path*, as `docker cp` sends it."""
    out = os.open(tmp_path / "archive.tar", os.O_RDWR | os.O_CREAT | os.O_TRUNC)
    writer = TarWriter(out, nanoseconds=nanoseconds)
    parent = directory(path.parent)
    Archiver(writer).tree(parent, os.fsencode(path.name), b".")
    writer.finish()
    os.close(parent)
    os.close(out)
    return (tmp_path / "archive.tar").read_bytes()


def extracted(archive: bytes, into: Path, *, keep_kinds: bool = False, root: Path | None = None) -> None:
    top, base = os.open(root or into, os.O_PATH | os.O_DIRECTORY), directory(into)
    try:
        Extractor(top, base, owner=None, keep_kinds=keep_kinds).extract(TarReader(iter([archive])))
    finally:
        os.close(top)
        os.close(base)


def shape(path: Path) -> dict[bytes, tuple[object, ...]]:
    """All there is to say about what is below a directory."""
    found: dict[bytes, tuple[object, ...]] = {}
    links: dict[int, bytes] = {}
    for at, directories, files in os.walk(os.fsencode(path)):
        for name in sorted([*directories, *files]):
            full = os.path.join(at, name)
            status = os.lstat(full)
            kind = stat.S_IFMT(status.st_mode)
            body: object = None
            if kind == stat.S_IFREG:
                with open(full, "rb") as file:
                    body = file.read()
            elif kind == stat.S_IFLNK:
                body = os.readlink(full)
            first = links.setdefault(status.st_ino, full) if kind != stat.S_IFDIR else full
            mode = kind if kind == stat.S_IFLNK else status.st_mode
            relative = os.path.relpath(full, os.fsencode(path))
            same = os.path.relpath(first, os.fsencode(path)) if status.st_nlink > 1 and kind != stat.S_IFDIR else b""
            found[relative] = (mode, status.st_uid, status.st_gid, body, status.st_mtime_ns, same)
    return found


NAMES = st.binary(min_size=1, max_size=120).filter(
    lambda name: b"/" not in name and b"\0" not in name and name not in (b".", b"..")
)
TREES = st.recursive(
    st.binary(max_size=2000)
    | st.tuples(st.just("link"), st.binary(min_size=1, max_size=150).filter(lambda t: b"\0" not in t)),
    lambda inner: st.dictionaries(NAMES, inner, max_size=4),
    max_leaves=12,
).filter(lambda tree: isinstance(tree, dict))


def plant(tree: object, path: bytes, moment: int) -> None:
    if isinstance(tree, dict):
        os.mkdir(path)
        for name, inner in tree.items():
            plant(inner, path + b"/" + name, moment + 1_000_000_007)
    elif isinstance(tree, tuple):
        os.symlink(tree[1], path)
    else:
        assert isinstance(tree, bytes)
        with open(path, "wb") as file:
            file.write(tree)
        os.chmod(path, 0o4711 if len(tree) % 2 else 0o600)
    os.utime(path, ns=(moment, moment), follow_symlinks=False)


@settings(max_examples=60, deadline=None)
@given(tree=TREES)
def test_what_is_archived_is_what_is_extracted(tmp_path_factory: pytest.TempPathFactory, tree: object) -> None:
    place = tmp_path_factory.mktemp("tree")
    plant(tree, os.fsencode(place / "from"), 981_173_106_123_456_789)
    (place / "to").mkdir()
    extracted(archived(place / "from", place), place / "to")
    assert shape(place / "to") == shape(place / "from")


def test_hard_links_pipes_and_long_names(tmp_path: Path) -> None:
    source, target = tmp_path / "from", tmp_path / "to"
    (source / ("d" * 90) / ("e" * 90) / ("f" * 90)).mkdir(parents=True)
    (source / "file").write_bytes(b"x" * 100_000)
    os.link(source / "file", source / ("d" * 90) / "same")
    os.mkfifo(source / "pipe")
    os.setxattr(source / "file", "user.note", b"\0hello\n")
    (source / ("n" * 255)).touch()
    target.mkdir()
    extracted(archived(source, tmp_path), target)
    assert shape(target) == shape(source)
    assert os.getxattr(target / "file", "user.note") == b"\0hello\n"


def test_other_readers_understand_it(tmp_path: Path) -> None:
    (tmp_path / "from" / ("d" * 120)).mkdir(parents=True)
    (tmp_path / "from" / ("d" * 120) / "file").write_text("content")
    (tmp_path / "from" / "link").symlink_to("t" * 130)
    with tarfile.open(fileobj=io.BytesIO(archived(tmp_path / "from", tmp_path))) as tar:
        names = {each.name: each for each in tar}
        assert tar.extractfile(names[f"./{'d' * 120}/file"]).read() == b"content"  # type: ignore[union-attr]
        assert names["./link"].linkname == "t" * 130


# --- extraction --------------------------------------------------------------------------------------------------


def tar_of(*entries: tuple[tarfile.TarInfo, bytes]) -> bytes:
    raw = io.BytesIO()
    with tarfile.open(fileobj=raw, mode="w") as tar:
        for entry, content in entries:
            entry.size = len(content)
            tar.addfile(entry, io.BytesIO(content))
    return raw.getvalue()


def entry(name: str, kind: bytes = tarfile.REGTYPE, link: str = "") -> tarfile.TarInfo:
    made = tarfile.TarInfo(name)
    made.type, made.linkname, made.uid, made.gid = kind, link, os.getuid(), os.getgid()
    return made


def test_links_in_the_archive_stay_inside_the_root(tmp_path: Path) -> None:
    root = tmp_path / "root"
    (root / "into").mkdir(parents=True)
    (tmp_path / "outside").mkdir()
    archive = tar_of(
        (entry("up", tarfile.SYMTYPE, str(tmp_path / "outside")), b""),
        (entry("up/file"), b"x"),
        (entry("far", tarfile.SYMTYPE, "../../../../.."), b""),
        (entry("far/file"), b"y"),
    )
    with pytest.raises((OSError, TarError)):
        extracted(archive, root / "into", root=root)
    assert list((tmp_path / "outside").iterdir()) == []
    assert not (tmp_path / "file").exists()


@pytest.mark.parametrize("name", ["../x", "a/../../x"])
def test_names_that_leave_are_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / "into").mkdir()
    with pytest.raises(TarError, match="would leave"):
        extracted(tar_of((entry(name), b"")), tmp_path / "into")
    assert {each.name for each in tmp_path.iterdir()} == {"into"}


def test_a_hard_link_out_of_the_directory_is_refused(tmp_path: Path) -> None:
    (tmp_path / "into").mkdir()
    (tmp_path / "secret").write_text("x")
    with pytest.raises(TarError):
        extracted(tar_of((entry("l", tarfile.LNKTYPE, "../secret"), b"")), tmp_path / "into", root=tmp_path)


def test_what_is_there_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "directory" / "inner").mkdir(parents=True)
    (tmp_path / "directory" / "inner" / "old").touch()
    (tmp_path / "file").write_text("old")
    archive = tar_of(
        (entry("directory/inner/new"), b"n"),
        (entry("directory/inner"), b"now a file"),
        (entry("file", tarfile.DIRTYPE), b""),
        (entry("file/below"), b"b"),
    )
    extracted(archive, tmp_path)
    assert (tmp_path / "directory" / "inner").read_text() == "now a file"
    assert (tmp_path / "file" / "below").read_text() == "b"


@pytest.mark.parametrize(("there", "comes"), [("directory", tarfile.REGTYPE), ("file", tarfile.DIRTYPE)])
def test_kinds_are_kept_when_asked(tmp_path: Path, there: str, comes: bytes) -> None:
    (tmp_path / "directory").mkdir()
    (tmp_path / "file").write_text("old")
    with pytest.raises(Refused, match="cannot overwrite"):
        extracted(tar_of((entry(there, comes), b"")), tmp_path, keep_kinds=True)
    assert (tmp_path / "file").read_text() == "old"


# --- paths -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "clean"),
    [("a", "/a"), ("/a/", "/a/"), ("a/.", "/a/."), ("/", "/"), ("../../x", "/x"), ("a//b/../c", "/a/c"), (".", "/.")],
)
def test_cleaned(path: str, clean: str) -> None:
    assert cleaned(path) == clean


def test_stat_has_gos_modes_and_follows_links_inside(tmp_path: Path) -> None:
    (tmp_path / "directory").mkdir()
    (tmp_path / "directory" / "file").write_text("four")
    os.chmod(tmp_path / "directory" / "file", 0o4750)
    (tmp_path / "link").symlink_to("/directory/file")
    root = os.open(tmp_path, os.O_PATH | os.O_DIRECTORY)
    try:
        found, _ = path_stat(root, "/directory/file")
        assert (found["name"], found["size"], found["mode"]) == ("file", 4, (1 << 23) | 0o750)
        found, _ = path_stat(root, "/link")
        assert (found["mode"] & (1 << 27), found["linkTarget"]) == (1 << 27, "/directory/file")
        found, _ = path_stat(root, "/directory/")
        assert (found["name"], found["mode"]) == ("directory", (1 << 31) | 0o755)
        with pytest.raises(FileNotFoundError):
            path_stat(root, "/nosuch/x")
    finally:
        os.close(root)


# --- changes -----------------------------------------------------------------------------------------------------


def found_changes(new: Path, old: Path | None) -> dict[str, int]:
    one, other = directory(new), directory(old) if old else None
    try:
        return {os.fsdecode(each.path): each.kind for each in changes(one, other)}
    finally:
        os.close(one)
        if other is not None:
            os.close(other)


def test_two_trees_compared(tmp_path: Path) -> None:
    for name in ("old", "new"):
        (tmp_path / name / "same").mkdir(parents=True)
        for file in ("same/kept", "same/changed", "touched"):
            (tmp_path / name / file).write_text("x")
            os.utime(tmp_path / name / file, ns=(5, 5))
    (tmp_path / "old" / "gone").mkdir()
    (tmp_path / "old" / "gone" / "below").touch()
    (tmp_path / "new" / "same" / "changed").write_text("longer")
    os.utime(tmp_path / "new" / "touched", ns=(6, 6))
    (tmp_path / "new" / "made").mkdir()
    (tmp_path / "new" / "made" / "file").touch()
    assert found_changes(tmp_path / "new", tmp_path / "old") == {
        "/same": MODIFIED, "/same/changed": MODIFIED, "/touched": MODIFIED, "/gone": DELETED, "/made": ADDED,
        "/made/file": ADDED,
    }  # fmt: skip
