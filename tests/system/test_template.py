"""The way of a third party: the template copied and renamed, built, installed beside the daemon, under the kit, and in use."""

from __future__ import annotations

import difflib
import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest

from clients import IMAGE, Client, docker_program
from engine_under_test import BIN, Daemon

pytestmark = [pytest.mark.root, pytest.mark.docker]

ROOT = Path(__file__).resolve().parents[2]
UV = BIN / "uv"


@pytest.fixture(scope="module")
def mine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A driver ``my-own``, outside of the tree."""
    target = tmp_path_factory.mktemp("author") / "pyd-storage-my-own"
    done = subprocess.run([BIN / "pyd", "plugin", "new", "storage", "my-own", target], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return target


@pytest.fixture(scope="module")
def installed(mine: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same as a wheel, in a directory of its own for PYTHONPATH."""
    if not UV.exists():
        pytest.skip("no uv here, which builds the wheel (scripts/setup)")
    dist, site = tmp_path_factory.mktemp("dist"), tmp_path_factory.mktemp("site")
    build: list[str | Path] = [UV, "build", "-q", "--wheel", "--out-dir", dist, mine]
    done = subprocess.run([*build, "--offline"], capture_output=True, text=True)
    if done.returncode:
        done = subprocess.run(build, capture_output=True, text=True, timeout=120)
    if done.returncode:
        pytest.skip(f"hatchling, which builds the wheel, is not to be had: {done.stderr.strip()[-200:]}")
    (wheel,) = dist.glob("*.whl")
    install: list[str | Path] = [
        UV,
        "pip",
        "install",
        "-q",
        "--python",
        sys.executable,
        "--no-deps",
        "--offline",
        "--target",
        site,
        wheel,
    ]
    subprocess.run(install, check=True, capture_output=True)
    return site


def test_a_hundred_lines_are_changed_at_most(mine: Path) -> None:
    template = ROOT / "plugin-template"
    changed = 0
    for path in sorted(path for path in mine.rglob("*") if path.is_file()):
        name = str(path.relative_to(mine)).replace("my_own", "template")
        before = (template / name).read_text().splitlines()
        lines = list(difflib.unified_diff(before, path.read_text().splitlines(), n=0, lineterm=""))[2:]
        changed += sum(line.startswith("+") for line in lines)
    assert 0 < changed <= 100


def test_its_readme_leads_all_the_way(mine: Path) -> None:
    """It speaks of the copy, and the folders it installs the kit from are all that the kit needs of ours."""
    text = (mine / "README.md").read_text()
    for words in ("dist/pyd_storage_my_own-*.whl", "--storage-opt driver=my-own ", 'default = "my-own"'):
        assert words in text
    folders = re.findall(r"\$PYD/([a-z]+/[a-z]+)", text)
    documents = [tomllib.loads((ROOT / folder / "pyproject.toml").read_text())["project"] for folder in folders]
    brought = {each["name"] for each in documents}
    assert "pyd-conformance" in brought
    needed = {need for each in documents for need in each.get("dependencies", ()) if need.startswith("pyd-")}
    assert needed <= brought


def test_the_copy_passes_the_kit(mine: Path, installed: Path) -> None:
    report = installed / "report.json"
    command: list[str | Path] = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-p",
        "no:cacheprovider",
        "--pyd-require=root",
        f"--pyd-report={report}",
    ]
    done = subprocess.run(
        [*command, "--rootdir", mine, mine], cwd=mine, env={**os.environ, "PYTHONPATH": str(installed)},
        capture_output=True, text=True, timeout=240,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-3000:]
    found = json.loads(report.read_text())
    assert list(found) == ["storage"]
    assert {name: entry["conforms"] for name, entry in found["storage"].items()} == {"MyOwn": True}
    checked = subprocess.run(
        [sys.executable, "-m", "pyd_conformance", "check", "pyd-storage-my-own"],
        env={**os.environ, "PYTHONPATH": str(installed)}, capture_output=True, text=True,
    )  # fmt: skip
    assert checked.returncode == 0, checked.stdout


def test_the_daemon_finds_it_and_runs_a_container(
    installed: Path,
    new_pydd: Callable[..., Daemon],
    client_environment: dict[str, str],
    image_archive: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(installed))
    daemon = new_pydd('[storage]\ndefault = "my-own"\n')
    docker = Client((docker_program(), "-H", daemon.url), client_environment)

    info = docker("info", "-f", "{{json .}}").stdout
    assert json.loads(info)["Driver"] == "my-own"
    shown = subprocess.run([BIN / "pyd", "-H", daemon.url, "plugin", "ls"], capture_output=True, text=True).stdout
    (line,) = [line.split() for line in shown.splitlines() if "my-own" in line]
    assert line[:5] == ["storage", "my-own", "pyd-storage-my-own", "0.1.0", "ready"]

    docker("load", "-q", "-i", image_archive)
    assert docker("run", "--name", "one", IMAGE, "sh", "-c", "echo from my own > /f; cat /f").stdout == "from my own\n"
    assert docker("inspect", "-f", "{{.GraphDriver.Name}}", "one").stdout == "my-own\n"
    assert docker("diff", "one").stdout == "A /f\n"
    docker("rm", "one")
    daemon.close()


@pytest.mark.parametrize(
    ("words", "fault"),
    [
        (("network", "x"), "no template for 'network'"),
        (("storage", "Mine"), "invalid name 'Mine'"),
        (("storage", "template"), "invalid name"),
        (("storage", "x", "."), "not empty"),
    ],
)
def test_what_cannot_be_is_said(words: tuple[str, ...], fault: str, tmp_path: Path) -> None:
    (tmp_path / "there").touch()
    done = subprocess.run([str(BIN / "pyd"), "plugin", "new", *words], cwd=tmp_path, capture_output=True, text=True)

    assert done.returncode == 1
    assert fault in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["there"]
    shutil.rmtree(tmp_path)
