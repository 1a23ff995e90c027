"""Patterns, sources and layers of builds, where no container is needed."""

from __future__ import annotations

import asyncio
import io
import json
import os
import subprocess
import sys
import tarfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from pyd_engine.builds.fetching import is_git
from pyd_engine.builds.patterns import PatternError, excluded, has_wildcards, matcher
from pyd_engine.builds.placing import Placing, owner_in
from pyd_engine.builds.scratch import Scratch, clear
from pyd_engine.builds.sources import digest, find
from pyd_engine.files.paths import Refused
from pyd_engine.files.tarwriter import TarWriter

pytestmark = pytest.mark.root


def opened(path: Path) -> int:
    return os.open(path, os.O_RDONLY | os.O_DIRECTORY)


@pytest.fixture
def origin(tmp_path: Path) -> Path:
    """A context."""
    top = tmp_path / "origin"
    (top / "d" / "sub").mkdir(parents=True)
    (top / "a.txt").write_text("A")
    (top / "b.txt").write_text("B")
    (top / "d" / "one").write_text("1")
    (top / "d" / "sub" / "two").write_text("2")
    (top / "link").symlink_to("d/one")
    (top / "out").symlink_to("/etc/passwd")
    (top / "up").symlink_to("../../../../../../etc/passwd")
    (top / "loop").symlink_to("loop")
    return top


# --- patterns --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("pattern", "name", "fits"),
    [  # Go's own table, path/match_test.go
        ("abc", "abc", True), ("*", "abc", True), ("*c", "abc", True), ("a*", "a", True), ("a*", "ab/c", False),
        ("a*b*c*d*e*", "axbxcxdxe", True), ("a*b?c*x", "abxbbxdbxebxczzx", True), ("a*b?c*x", "abxbbxdbxebxczzy", False),
        ("ab[c]", "abc", True), ("ab[b-d]", "abc", True), ("ab[e-g]", "abc", False), ("ab[^c]", "abc", False),
        ("ab[^e-g]", "abc", True), ("a\\*b", "a*b", True), ("a\\*b", "ab", False), ("a?b", "a☺b", True),
        ("a[^a]b", "a☺b", True), ("*[a-ζ]", "A", False), ("a?b", "a/b", False),
        ("[\\]a]", "]", True), ("[\\-]", "-", True), ("[x\\-]", "z", False), ("*x", "xxx", True), ("a[", "a", None),
        ("[]a]", "]", None), ("[-]", "-", None), ("[x-]", "x", None), ("[", "a", None), ("[^", "a", None), ("a\\", "a", None),
    ],
)  # fmt: skip
def test_patterns_match_as_in_go(pattern: str, name: str, fits: bool | None) -> None:
    if fits is None:
        with pytest.raises(PatternError):
            matcher(pattern)
    else:
        assert (matcher(pattern).fullmatch(name) is not None) is fits


@pytest.mark.parametrize(
    ("path", "ignore", "out"),
    [
        ("Dockerfile", "", False), ("Dockerfile", "*", True), ("Dockerfile", "*\n!Dockerfile", False), ("d/x", "d", True),
        ("d/x", "/d/", True), ("d/x", "**/x", True), ("x", "**/x", True), ("d/x", "*", True), ("d/x", "d/*\n!d/x", False),
        ("d/x", "#d\n", False), ("#d", " #d", True), ("a", "!a\na", True), ("a", "[", False), ("a/b/c", "a/**/c", True),
    ],
)  # fmt: skip
def test_lines_of_an_ignore_file(path: str, ignore: str, out: bool) -> None:
    assert excluded(path, ignore) is out


def test_which_paths_have_wildcards() -> None:
    assert [has_wildcards(each) for each in ("a", "a*", "a\\*", "a[b]", "a?")] == [False, True, False, True, True]


@pytest.mark.parametrize(
    ("remote", "answer"),
    [
        ("git://h/x", True), ("github.com/a/b", True), ("https://h/x.git", True), ("https://h/x.git#b:d", True),
        ("https://h/x", False), ("http://h/x.gitx", False), ("git@h:x", True), ("ftp://x", False),
    ],
)  # fmt: skip
def test_which_addresses_are_repositories(remote: str, answer: bool) -> None:
    assert is_git(remote) is answer


# --- sources ---------------------------------------------------------------------------------------------------------


def found(origin: Path, *asked: str, context: bool = True) -> list[str]:
    return [each.path for each in find(opened(origin), asked, context=context, wildcards=True)]


def test_sources(origin: Path) -> None:
    assert found(origin, "a.txt", "/b.txt", "./d/") == ["/a.txt", "/b.txt", "/d"]
    assert found(origin, ".") == ["/"]
    assert found(origin, "link") == ["/d/one"]
    assert found(origin, "*.txt", "d/*/t*", "d/s[t-v]b") == ["/a.txt", "/b.txt", "/d/sub/two", "/d/sub"]
    assert found(origin, "*.zz") == []
    assert found(origin, "../../a.txt", context=False) == ["/a.txt"]


@pytest.mark.parametrize("asked", ["nothing", "out", "up", "loop", "a.txt/x", "d/../../nothing", "x" * 300])
def test_what_is_not_there(origin: Path, asked: str) -> None:
    with pytest.raises(Refused, match="file does not exist|forbidden path"):
        found(origin, asked)


def test_the_digest_knows_what_makes_a_difference(origin: Path) -> None:
    def of(*asked: str) -> str:
        return digest(find(opened(origin), asked, context=True, wildcards=True))

    first = of("d")
    assert first.startswith("dir:")
    assert of("a.txt").startswith("file:")
    assert of("a.txt", "b.txt").startswith("multi:")
    os.utime(origin / "d" / "one", (1, 1))
    os.utime(origin / "d", (1, 1))
    assert of("d") == first
    for change in (
        lambda: (origin / "d" / "one").chmod(0o600),
        lambda: os.chown(origin / "d" / "one", 1, 1),
        lambda: (origin / "d" / "one").write_text("3"),
        lambda: (origin / "d" / "one").rename(origin / "d" / "uno"),
        (origin / "d" / "new").mkdir,
        lambda: os.setxattr(origin / "d" / "uno", "user.a", b"b"),
    ):
        before = of("d")
        change()
        assert of("d") != before


# --- layers ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def image(tmp_path: Path) -> Path:
    """A root file system."""
    top = tmp_path / "image"
    (top / "etc").mkdir(parents=True)
    (top / "etc" / "passwd").write_text("root:x:0:0::/:\nwho:x:55:66::/:\nbad line\n")
    (top / "etc" / "group").write_text("them:x:77:\n")
    (top / "real").mkdir(mode=0o711)
    os.chown(top / "real", 3, 4)
    (top / "ln").symlink_to("/real")
    (top / "esc").symlink_to("../../../../../../tmp")
    (top / "dangling").symlink_to("/not/yet")
    (top / "loop").symlink_to("loop")
    return top


def layer(image: Path, origin: Path, asked: Sequence[str], destination: str, **more: Any) -> dict[str, tarfile.TarInfo]:
    read, write = os.pipe()
    writer = TarWriter(write, nanoseconds=True)
    placing = Placing(writer, opened(image), more.get("owner", (0, 0)), more.get("mode"))
    for source in find(opened(origin), asked, context=True, wildcards=True):
        placing.put(source, destination)
    if not asked:
        placing.directory(destination)
    writer.finish()
    os.close(write)
    with os.fdopen(read, "rb") as file, tarfile.open(fileobj=io.BytesIO(file.read())) as tar:
        return {each.name: each for each in tar.getmembers()}


@pytest.mark.parametrize(
    ("asked", "destination", "names"),
    [
        (["a.txt"], "/x", ["x"]),
        (["a.txt"], "/x/", ["x", "x/a.txt"]),
        (["a.txt"], "/real", ["real", "real/a.txt"]),
        (["a.txt"], "/ln/", ["real", "real/a.txt"]),
        (["a.txt"], "/ln/../x", ["x"]),
        (["a.txt"], "/esc/f", ["tmp", "tmp/f"]),
        (["a.txt"], "/dangling", ["not", "not/yet"]),
        (["link"], "/x/", ["x", "x/link"]),
        (["d"], "/x", ["x", "x/one", "x/sub", "x/sub/two"]),
        (["d"], "/ln", ["real", "real/one", "real/sub", "real/sub/two"]),
        (["a.txt", "d"], "/x/", ["x", "x/a.txt", "x/one", "x/sub", "x/sub/two"]),
        ([], "/real/", []),
        ([], "/new/dir/", ["new", "new/dir"]),
    ],
)
def test_where_things_come_to_lie(
    image: Path, origin: Path, asked: list[str], destination: str, names: list[str]
) -> None:
    assert list(layer(image, origin, asked, destination)) == names


def test_owners_and_modes(image: Path, origin: Path) -> None:
    made = layer(image, origin, ["d"], "/real/n", owner=(5, 6), mode=0o444)
    assert {name: (each.uid, each.gid, each.mode) for name, each in made.items()} == {
        "real": (3, 4, 0o711), "real/n": (5, 6, 0o755), "real/n/one": (5, 6, 0o444), "real/n/sub": (5, 6, 0o444),
        "real/n/sub/two": (5, 6, 0o444),
    }  # fmt: skip
    os.chown(origin / "a.txt", 8, 9)
    kept = layer(image, origin, ["a.txt"], "/f", owner=None)["f"]
    assert (kept.uid, kept.gid) == (8, 9)


@pytest.mark.parametrize("destination", ["/etc/passwd/x", "/loop/x"])
def test_where_nothing_can_lie(image: Path, origin: Path, destination: str) -> None:
    with pytest.raises(Refused):
        layer(image, origin, ["a.txt"], destination)


def test_whose_files_are(image: Path) -> None:
    root = opened(image)
    assert [owner_in(root, each) for each in ("who:them", "7", "7:8", "0:them")] == [(55, 77), (7, 7), (7, 8), (0, 77)]
    for wrong in ("who", "nobody", "1:nobody", "a:b:c", "99999999999"):
        with pytest.raises(Refused, match="unable to convert uid/gid chown string"):
            owner_in(root, wrong)


def test_accounts_are_looked_up_inside(image: Path) -> None:
    (image / "etc" / "passwd").unlink()
    (image / "etc" / "passwd").symlink_to("/proc/self/root/etc/passwd")
    with pytest.raises(Refused, match="no such user"):
        owner_in(opened(image), "daemon")


# --- the worker ------------------------------------------------------------------------------------------------------


def unpacked(directory: Path, archive: bytes, recipe: str = "Dockerfile") -> tuple[dict[str, Any], bytes]:
    code = "from pyd_engine.builds.worker import main; main()"
    request = {"op": "unpack", "directory": str(directory), "recipe": recipe, "archive": True}
    done = subprocess.run(
        [sys.executable, "-c", code],
        input=json.dumps(request).encode() + b"\n" + archive,
        capture_output=True,
        check=True,
    )
    line, _, rest = done.stdout.partition(b"\n")
    return json.loads(line), rest


def tarred(**files: str) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        for name, text in files.items():
            info = tarfile.TarInfo(name.replace("_", "."))
            info.size, info.uid, info.gid = len(text), 1000, 1000
            tar.addfile(info, io.BytesIO(text.encode()))
    return out.getvalue()


def test_a_context_is_unpacked_and_its_recipe_read(tmp_path: Path) -> None:
    answer, text = unpacked(tmp_path, tarred(Dockerfile="FROM x\n", f="y"))
    assert (answer, text) == ({"recipe": "Dockerfile"}, b"FROM x\n")
    assert sorted(each.name for each in tmp_path.iterdir()) == ["Dockerfile", "f"]
    assert (tmp_path / "f").stat().st_uid == 0


def test_the_recipe_may_be_left_out(tmp_path: Path) -> None:
    answer, text = unpacked(tmp_path, tarred(dockerfile="FROM x\n", _dockerignore="dockerfile\nf\n", f="y"))
    assert (answer, text) == ({"recipe": "dockerfile"}, b"FROM x\n")
    assert sorted(each.name for each in tmp_path.iterdir()) == [".dockerignore", "f"]


@pytest.mark.parametrize(
    ("recipe", "words"),
    [("nosuch", "Cannot locate specified Dockerfile"), ("../f", "forbidden path"), ("/etc/passwd", "Cannot locate")],
)
def test_a_recipe_that_is_not_there(tmp_path: Path, recipe: str, words: str) -> None:
    answer, _ = unpacked(tmp_path, tarred(f="y"), recipe)
    assert answer["failed"] == "invalid-argument"
    assert words in answer["message"]


@pytest.mark.parametrize("archive", [b"hello" * 200, tarred(f="y")[:600], b"\x1f\x8b\x08" + b"x" * 100])
def test_what_is_no_archive(tmp_path: Path, archive: bytes) -> None:
    assert unpacked(tmp_path, archive)[0]["failed"] == "invalid-argument"


# --- scratch ---------------------------------------------------------------------------------------------------------


def test_scratch_space_is_gone_afterwards_and_after_a_crash(tmp_path: Path) -> None:
    async def use() -> Path:
        async with Scratch(tmp_path).directory() as place:
            (place / "d").mkdir()
            (place / "d" / "f").write_text("x")
            assert place.stat().st_mode & 0o777 == 0o700
        return place

    assert not asyncio.run(use()).exists()
    (tmp_path / "build-1" / "d").mkdir(parents=True)
    (tmp_path / "other").mkdir()
    Scratch(tmp_path).sweep()
    assert [each.name for each in tmp_path.iterdir()] == ["other"]
    Scratch(tmp_path / "never").sweep()


def test_trees_deeper_than_a_path_can_be_long_are_removed(tmp_path: Path) -> None:
    at = opened(tmp_path)
    for _ in range(1200):
        os.mkdir("d" * 100, dir_fd=at)
        below = os.open("d" * 100, os.O_RDONLY | os.O_DIRECTORY, dir_fd=at)
        os.close(at)
        at = below
    os.close(at)
    (tmp_path / "l").symlink_to("/")
    clear(tmp_path)
    assert list(tmp_path.iterdir()) == []
