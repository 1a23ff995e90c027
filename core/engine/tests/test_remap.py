"""userns-remap: whose ranges, in the words of /etc/subuid and /etc/subgid."""

from __future__ import annotations

import os
import pwd
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from pyd_contracts.errors import InvalidArgument, Unsupported
from pyd_engine.containers.remap import Remap, check_place, check_powers, check_storage, read_remap


def ranges(etc: Path, users: str, groups: str | None = None) -> Path:
    (etc / "subuid").write_text(users)
    (etc / "subgid").write_text(users if groups is None else groups)
    return etc


def test_none_is_asked_for(tmp_path: Path) -> None:
    assert read_remap("", tmp_path) is None


def test_default_is_dockremap_and_ranges_follow_one_another(tmp_path: Path) -> None:
    etc = ranges(tmp_path, "# who\nother:1:2\ndockremap:100000:10\nbroken\ndockremap:300000:5\n", "dockremap:7:3\n")
    assert read_remap("default", etc) == Remap("dockremap", ((0, 100000, 10), (10, 300000, 5)), ((0, 7, 3),))


def test_names_and_numbers_mean_the_same(tmp_path: Path) -> None:
    me = pwd.getpwuid(os.getuid())
    etc = ranges(tmp_path, f"{me.pw_name}:500000:9\n", f"{me.pw_uid}:600000:9\n")
    by_number = read_remap(f"{me.pw_uid}:{me.pw_gid}", etc)
    assert by_number is not None
    assert (by_number.users, by_number.groups) == (((0, 500000, 9),), ((0, 600000, 9),))
    assert read_remap(me.pw_name, etc) == by_number
    assert by_number.mappings()["gidMappings"] == [{"containerID": 0, "hostID": 600000, "size": 9}]


def test_a_group_has_its_own_lines_before_those_of_the_user(tmp_path: Path) -> None:
    """Not both: the same ids twice are no map."""
    both = "one:300000:9\ntwo:300000:9\n"
    assert read_remap("one:two", ranges(tmp_path, both)) == Remap("one", ((0, 300000, 9),), ((0, 300000, 9),))
    found = read_remap("one:two", ranges(tmp_path, both, "one:5:9\n"))
    assert found is not None
    assert (found.groups, found.owner) == (((0, 5, 9),), (300000, 5))


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ("twice", "ranges for twice in .*subuid overlap"),
        ("nobody", "subuid has no range for nobody; add one with: echo nobody:165536:65536 >> "),
        ("root-range", "holds the host's root"),
        ("a:b:c", 'must be "default"'),
        ("a:", 'must be "default"'),
        (":b", 'must be "default"'),
    ],
)
def test_faults_say_what_helps(setting: str, words: str, tmp_path: Path) -> None:
    etc = ranges(tmp_path, "dockremap:100000:65536\nroot-range:0:5\ntwice:50:9\ntwice:40:11\n")
    with pytest.raises(InvalidArgument, match=words):
        read_remap(setting, etc)


def test_a_host_that_cannot_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pyd_engine.containers.remap.unavailable", lambda: "this kernel has no user namespaces")
    with pytest.raises(InvalidArgument, match=r'userns-remap = "default": this kernel has no user namespaces; leave'):
        check_place("default", tmp_path)


def having(*words: str) -> Any:
    return SimpleNamespace(capabilities=frozenset(words))


def test_a_storage_driver_that_cannot_says_which_can() -> None:
    storages = {"a": having(), "b": having("id-mapped"), "c": having("id-mapped", "size")}
    check_storage("default", "b", storages)
    check_storage("default", "absent", storages)  # whose absence is another's to tell
    with pytest.raises(InvalidArgument, match=r"driver 'a' cannot .* or choose \[storage\] default = b or c$"):
        check_storage("default", "a", storages)


def test_a_container_whose_drivers_cannot_says_what_helps() -> None:
    able, storages = having("users"), {"a": having(), "b": having("id-mapped")}
    check_powers(("i", able), ("b", storages["b"]), storages)
    with pytest.raises(Unsupported, match=r"backend 'i' makes no user namespaces here.*--userns=host"):
        check_powers(("i", having()), ("b", storages["b"]), storages)
    with pytest.raises(Unsupported, match=r"driver 'a' cannot .*--userns=host.*--storage-opt driver=b$"):
        check_powers(("i", able), ("a", storages["a"]), storages)
    with pytest.raises(Unsupported, match=r"of those that are ready, none can$"):
        check_powers(("i", able), ("a", storages["a"]), {"a": storages["a"]})


def test_files_that_are_not_there(tmp_path: Path) -> None:
    with pytest.raises(InvalidArgument, match="echo dockremap:100000:65536 >> .*/subuid"):
        read_remap("default", tmp_path)
