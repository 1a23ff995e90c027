"""Root file systems as backends mount them: options, mounts that are served, what is said when one cannot be made."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from pyd_contracts.errors import InvalidArgument
from pyd_contracts.values import Mount
from pyd_shim import documents, fuse
from pyd_shim import kernel as k
from pyd_shim.ends import LaunchError
from pyd_shim.mounts import mount_rootfs, served, split_options


def _descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


def test_options_are_attributes_propagation_or_the_file_systems_own() -> None:
    set_, clear, propagation, recursive, data = split_options(
        ["rbind", "ro", "nosuid", "suid", "rslave", "relatime", "size=1m", "", "rw", "ro"]
    )

    assert (set_, clear) == (k.MOUNT_ATTR_RDONLY, k.MOUNT_ATTR_NOSUID)
    assert (propagation, recursive, data) == (k.MS_SLAVE, True, ["size=1m"])


@pytest.mark.root
def test_mounts_are_made_first_to_last_where_nobody_else_sees_them(tmp_path: Path) -> None:
    for name in ("tree", "target"):
        (tmp_path / name).mkdir()
    (tmp_path / "tree" / "file").touch()
    script = f"""
import errno, os
from pyd_shim.mounts import mount_rootfs, own_namespace
own_namespace()
target = {str(tmp_path / "target")!r}
mount_rootfs([
    {{"type": "tmpfs", "source": "tmpfs", "options": ["size=64k", "nodev"]}},
    {{"type": "bind", "source": {str(tmp_path / "tree")!r}, "options": ["rbind", "ro"]}},
], target)
try:
    open(f"{{target}}/new", "w")
except OSError as error:
    print(os.listdir(target), errno.errorcode[error.errno], len(os.listdir("/proc/self/fd")))
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)

    assert done.stdout == "['file'] EROFS 4\n", done.stderr
    assert str(tmp_path) not in Path("/proc/self/mountinfo").read_text()


@pytest.mark.root
def test_what_cannot_be_mounted_is_said(tmp_path: Path) -> None:
    before = _descriptors()
    for kind, source in (("no-such", "x"), ("bind", f"{tmp_path}/missing")):
        with pytest.raises(LaunchError, match=rf"mount the root file system \({kind}\): No such") as refused:
            mount_rootfs([{"type": kind, "source": source, "options": []}], str(tmp_path))
        assert refused.value.kind == "internal"
    assert _descriptors() == before


class TestServed:
    """Mounts with a process of their own, here a pipe in the place of each."""

    @pytest.fixture(autouse=True)
    def pipes(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def mount(kind: str, source: str, options: object) -> int:
            if source == "broken":
                raise OSError(107, "it ended")
            reading, writing = os.pipe()
            os.close(writing)
            return reading

        monkeypatch.setattr(fuse, "mount", mount)

    @staticmethod
    def _mounts(*sources: str) -> list[dict[str, Any]]:
        served = [{"type": "fuse.some", "source": each, "options": []} for each in sources]
        return [{"type": "bind", "source": "/", "options": []}, *served]

    def test_what_was_not_taken_is_closed(self) -> None:
        before, mounts = _descriptors(), self._mounts("one", "two")

        with served(mounts):
            assert ["made" in each for each in mounts] == [False, True, True]
            os.close(mounts[1].pop("made"))
            other = os.open("/dev/null", os.O_RDONLY)  # has that number now
        os.fstat(other)
        os.close(other)

        assert _descriptors() == before
        assert not any("made" in each for each in mounts)

    def test_nothing_is_left_when_one_cannot_be_made(self) -> None:
        before, mounts = _descriptors(), self._mounts("one", "broken")

        with pytest.raises(LaunchError, match=r"mount the root file system \(fuse.some\): it ended"), served(mounts):
            pytest.fail("it was entered")

        assert _descriptors() == before

    @pytest.mark.root
    def test_one_that_cannot_be_put_in_its_place_is_closed_once(self, tmp_path: Path) -> None:
        before, mounts = _descriptors(), self._mounts("one")[1:]

        with pytest.raises(OSError, match="Invalid argument"), served(mounts):
            mount_rootfs(mounts, str(tmp_path))  # a pipe is no mount

        assert _descriptors() == before


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"destination": "etc"}, "is not an absolute path"),
        ({"destination": "/etc", "source": "/a\0b"}, "a path holds a null byte"),
        ({"destination": "/etc", "source": "/a", "options": ["x\0"]}, "a path holds a null byte"),
        ({"destination": "/etc", "source": "a", "options": ["rbind"]}, "the source 'a' is not an absolute path"),
    ],
)
def test_mounts_of_a_document_are_checked(given: dict[str, Any], words: str) -> None:
    with pytest.raises(InvalidArgument, match=words):
        documents.mount(given)


def test_a_bind_is_told_by_type_or_option() -> None:
    for kind in ({"type": "bind"}, {"type": "none"}, {}, {"type": "whatever", "options": ["rbind"]}):
        assert documents.mount({"destination": "/a", "source": "/b", **kind})["type"] == "bind"
    proc = documents.mount({"destination": "/proc", "type": "proc"})
    assert proc == {"destination": "/proc", "type": "proc", "source": "", "options": []}


def test_devices_of_a_document_are_checked() -> None:
    assert documents.device({"type": "c", "path": "/dev/null"}) == {"type": "c", "path": "/dev/null"}
    with pytest.raises(InvalidArgument, match="unknown type 'x'"):
        documents.device({"type": "x", "path": "/dev/null"})
    for path in ("/etc/null", "/dev/../etc/null"):
        with pytest.raises(InvalidArgument, match="below /dev only"):
            documents.device({"type": "c", "path": path})


def test_a_root_file_system_is_plain_data() -> None:
    assert documents.rootfs([Mount("bind", "/a", ("ro",))]) == [{"type": "bind", "source": "/a", "options": ["ro"]}]
