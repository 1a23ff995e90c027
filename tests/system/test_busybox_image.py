"""The images that need no registry: what is in them, and the program for hosts without a static busybox."""

from __future__ import annotations

import hashlib
import io
import json
import platform
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

import busybox_image


def test_static_and_dynamic_programs_are_told_apart(tmp_path: Path) -> None:
    assert not busybox_image.is_static(Path(sys.executable).resolve())
    (tmp_path / "script").write_text("#!/bin/sh\n")
    assert not busybox_image.is_static(tmp_path / "script")
    (tmp_path / "hello").write_bytes(busybox_image.hello_program("x86_64"))
    assert busybox_image.is_static(tmp_path / "hello")


@pytest.mark.root
@pytest.mark.skipif(platform.machine() not in {"x86_64", "aarch64"}, reason="no machine code for this architecture")
def test_the_assembled_program_says_hello_as_process_one(tmp_path: Path) -> None:
    program = tmp_path / "hello"
    program.write_bytes(busybox_image.hello_program())
    program.chmod(0o755)
    run = subprocess.run(["unshare", "--pid", "--fork", program], capture_output=True, text=True, timeout=20)
    assert (run.returncode, run.stdout.splitlines()[-1]) == (0, "and in here its process id is 1.")


def test_machine_code_for_arm_is_what_the_assembler_makes() -> None:
    code = busybox_image.hello_program("aarch64")[120:168].hex(" ", 4)
    # mov x8,#172; svc; add w0,w0,#48; adr x1,text; strb w0,[x1,#n]; mov x0,#1; mov x2,#len; mov x8,#64; svc; ...
    assert code.split()[:4] == ["881580d2", "010000d4", "00c00011", "21010010"]
    assert code.split()[-3:] == ["000080d2", "a80b80d2", "010000d4"]


def test_unknown_machines_are_refused_with_advice() -> None:
    with pytest.raises(LookupError, match="busybox-static"):
        busybox_image.hello_program("vax")


@pytest.mark.skipif(busybox_image.static_busybox() is None, reason="no static busybox here (scripts/provision)")
def test_the_archive_is_consistent_and_always_the_same() -> None:
    content = busybox_image.docker_archive("a/b:c")
    assert content == busybox_image.docker_archive("a/b:c")
    with tarfile.open(fileobj=io.BytesIO(content)) as archive:

        def read(name: str) -> bytes:
            file = archive.extractfile(name)
            assert file is not None
            return file.read()

        [entry] = json.loads(read("manifest.json"))
        assert entry["RepoTags"] == ["a/b:c"]
        config = json.loads(read(entry["Config"]))
        [layer] = entry["Layers"]
        assert config["rootfs"]["diff_ids"] == [f"sha256:{hashlib.sha256(read(layer)).hexdigest()}"]
        with tarfile.open(fileobj=io.BytesIO(read(layer))) as tree:
            assert tree.getmember("bin/sh").linkname == "busybox"


@pytest.mark.registry
def test_skopeo_accepts_the_archive(tmp_path: Path) -> None:
    archive = busybox_image.write_to(tmp_path)
    copy = ["skopeo", "--insecure-policy", "copy", "--quiet", f"docker-archive:{archive}", f"dir:{tmp_path}/out"]
    done = subprocess.run(copy, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert shutil.which("skopeo")
    assert json.loads((tmp_path / "out" / "manifest.json").read_text())["layers"]
