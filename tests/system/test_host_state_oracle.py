"""The oracle is only worth something if it sees a leak: each kind is leaked on purpose, seen, and taken back."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import host_state

pytestmark = [pytest.mark.root, pytest.mark.usefixtures("own_network")]


def leaked(before: frozenset[str], root: Path) -> list[str]:
    """First two words of each line that is new and about *root*."""
    found = host_state.difference(before, host_state.take(root))
    return [" ".join(line.split()[:2]) for line in found if str(root) in line]


def test_a_file_under_the_root(tmp_path: Path) -> None:
    before = host_state.take(tmp_path)
    (tmp_path / "left").touch()
    assert leaked(before, tmp_path) == ["LEAKED file"]
    (tmp_path / "left").unlink()
    assert host_state.settle(before, tmp_path) == []


def test_a_mount(tmp_path: Path) -> None:
    before = host_state.take(tmp_path)
    subprocess.run(["mount", "-t", "tmpfs", "tmpfs", tmp_path], check=True)
    assert "LEAKED mount" in leaked(before, tmp_path)
    subprocess.run(["umount", tmp_path], check=True)
    assert host_state.settle(before, tmp_path) == []


def test_a_bridge(tmp_path: Path) -> None:
    name = f"pydt{os.getpid()}"
    before = host_state.take()
    subprocess.run(["ip", "link", "add", name, "type", "bridge"], check=True)
    assert f"LEAKED interface {name}" in host_state.difference(before, host_state.take())
    subprocess.run(["ip", "link", "delete", name], check=True)
    assert host_state.settle(before) == []


def test_a_process_with_a_file_open_in_the_root_and_its_namespaces(tmp_path: Path) -> None:
    (tmp_path / "spool").touch()
    before = host_state.take(tmp_path)
    with (tmp_path / "spool").open() as spool:
        # its command line says nothing: it is known by the open file
        left = subprocess.Popen(["unshare", "--uts", "--net", "sleep", "60"], stdin=spool, cwd="/")
    try:
        while os.readlink(f"/proc/{left.pid}/exe") != os.path.realpath("/usr/bin/sleep"):
            assert left.poll() is None
        found = host_state.difference(before, host_state.take(tmp_path))
        assert f"LEAKED proc {left.pid} sleep 60" in found
        assert len([line for line in found if line.startswith("LEAKED namespace")]) == 2
    finally:
        left.kill()
        left.wait()
    assert host_state.settle(before, tmp_path) == []


def test_what_has_nothing_to_do_with_the_engine_does_no_harm(tmp_path: Path) -> None:
    before = host_state.take(tmp_path)
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE, cwd="/"):
        assert [line for line in host_state.difference(before, host_state.take(tmp_path)) if " proc " in line] == []
