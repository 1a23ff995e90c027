"""The kit's pytest plugin and its static half, run as their users run them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from pyd_conformance.clauses import Clause, clause, clauses_of, documented, needs, needs_of
from pyd_conformance.mounting import mounted
from pyd_contracts.values import Mount

_SUITE = """
import pytest
from pyd_conformance.clauses import clause, needs

class Base:
    capabilities = frozenset({"one"})

    @clause("STO-1", "it works")
    def test_works(self): pass

    @clause("STO-2", "it does not")
    def test_works_not(self): assert type(self).__name__ != "TestBad"

    @clause("STO-10", "only with two")
    @needs("two")
    def test_two(self): raise AssertionError

    @needs("one")
    def test_one(self): pass

    @pytest.mark.root
    @clause("STO-3", "privileged")
    def test_privileged(self): pass

class TestGood(Base): pass
class TestBad(Base):
    subject = "bad one"

class TestNet:
    @clause("NET-7", "another contract")
    def test_net(self): pass

    @clause("NET-7", "of two")
    @clause("ODD-1", "and one of somebody else")
    def test_more(self): pass
"""


_UNCERTAIN = (
    _SUITE
    + """
class TestHost(Base):
    capabilities = frozenset()
    uncertain = {"one": "no ones here", "two": "no twos here"}

    @pytest.fixture(scope="class", autouse=True)
    @classmethod
    def _look(cls): cls.capabilities = frozenset({"one"})
"""
)


def _pytest(
    tmp_path: Path, *arguments: str, uid: int | None = None, suite: str = _SUITE
) -> subprocess.CompletedProcess[str]:
    (tmp_path / "test_suite.py").write_text(suite)
    code = "import sys, pytest; sys.exit(pytest.main(sys.argv[1:]))"
    if uid is not None:  # the interpreter and its packages may lie where only root reads: import first
        code = f"import os, pytest, pyd_conformance.pytest_plugin; os.geteuid = lambda: {uid}; {code}"
    command = [sys.executable, "-c", code, "-q", "-p", "no:cacheprovider", "--rootdir", str(tmp_path), *arguments]
    return subprocess.run([*command, str(tmp_path)], cwd=tmp_path, capture_output=True, text=True)


def test_each_contract_has_a_report_by_driver_and_clause(tmp_path: Path) -> None:
    done = _pytest(tmp_path, f"--pyd-report={tmp_path}/report.json", uid=1000)

    lines = [" ".join(line.split()) for line in done.stdout.splitlines()]
    tables = [at for at, line in enumerate(lines) if line.strip("= ").startswith("conformance: ")]
    assert [lines[at].strip("= ") for at in tables] == [
        "conformance: storage", "conformance: network", "conformance: odd",
    ]  # fmt: skip
    storage, network, odd = tables
    assert lines[storage + 1 : network] == [
        "clause Good bad one",
        "STO-1 ok 1 ok 1",
        "STO-2 ok 1 FAILED 1/1",
        "STO-3 skip 1 skip 1",
        "STO-10 skip 1 skip 1",
    ]
    assert lines[network + 1 : odd] == ["clause Net", "NET-7 ok 2"]
    assert lines[odd + 1 : odd + 3] == ["clause Net", "ODD-1 ok 1"]
    report = json.loads((tmp_path / "report.json").read_text())
    conforms = {
        contract: {subject: entry["conforms"] for subject, entry in subjects.items()}
        for contract, subjects in report.items()
    }
    assert conforms == {"storage": {"Good": True, "bad one": False}, "network": {"Net": True}, "odd": {"Net": True}}
    assert {line["clause"] for line in report["network"]["Net"]["results"]} == {"NET-7"}
    results = {line["clause"]: line for line in report["storage"]["Good"]["results"]}
    assert results["STO-10"]["detail"] == "the driver does not declare two"
    assert results["STO-3"]["detail"] == "needs root, runs as uid 1000"
    assert results["STO-1"]["text"] == "it works"


def test_required_privileges_fail_when_absent(tmp_path: Path) -> None:
    done = _pytest(tmp_path, "--pyd-require=netns,root", "-k", "Good and privileged", uid=1000)

    assert done.returncode == 1
    assert "--pyd-require=root: needs root, runs as uid 1000" in done.stdout


def test_fixtures_find_out_what_is_uncertain(tmp_path: Path) -> None:
    done = _pytest(tmp_path, "-rs", "-k", "Host and (test_one or test_two)", suite=_UNCERTAIN)

    assert done.returncode == 0
    assert "1 passed, 1 skipped" in done.stdout
    assert "the driver does not declare two (no twos here)" in done.stdout


def test_without_clauses_there_is_no_table(tmp_path: Path) -> None:
    done = _pytest(tmp_path, "-k", "test_one")

    assert done.returncode == 0
    assert "conformance" not in done.stdout


def test_clauses_and_needs_add_up() -> None:
    @needs("a")
    @clause("STO-1", "first")
    @needs("b", "c")
    @clause("STO-2", "second")
    def test() -> None:
        """Nothing."""

    assert clauses_of(test) == (Clause("STO-1", "first"), Clause("STO-2", "second"))
    assert needs_of(test) == ("a", "b", "c")


def test_clauses_are_read_from_docstrings() -> None:
    class Contract:
        """A contract.

        ABC-1   The first.
        see ABC-9  which is no clause
        """

        def hook(self) -> None:
            """Do.

            ABC-20  The second,
                    continued.
            """

    assert documented(Contract) == {"ABC-1": "The first.", "ABC-20": "The second,"}


def test_check_tells_findings_and_rules(tmp_path: Path) -> None:
    package = tmp_path / "bad_driver"
    package.mkdir()
    (package / "__init__.py").write_text('"""A driver."""\n')
    (package / "plugin.py").write_text("from pyd_engine import store\ndef create(context, more) -> int: ...\n")
    info = tmp_path / "bad_driver-1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: bad-driver\nVersion: 1\n")
    (info / "entry_points.txt").write_text("[pyd.storage.v1]\nbad = bad_driver.plugin:create\n")
    (tmp_path / "pyd_engine").mkdir()
    (tmp_path / "pyd_engine" / "__init__.py").write_text("store = None\n")

    done = subprocess.run(
        [sys.executable, "-m", "pyd_conformance", "check", "bad-driver"],
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
    )

    assert done.returncode == 1, done.stderr
    for finding in (
        "takes ['context', 'more']",
        "int.storage_prepare is missing or not marked @hookimpl",
        "plugin.py:1 imports pyd_engine",
        "bad_driver has no driver.py",
        "plugin.py has none",
        "bad_driver has none",
    ):
        assert finding in done.stdout
    assert "rule: A driver imports the contracts and nothing else of the engine." in done.stdout


def test_check_of_what_is_not_installed() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "pyd_conformance", "check", "no-such-distribution"], capture_output=True, text=True
    )

    assert (done.returncode, done.stderr) == (2, "no-such-distribution: not installed\n")


@pytest.mark.root
def test_mounts_leave_no_trace(tmp_path: Path) -> None:
    (tmp_path / "source").mkdir()
    (tmp_path / "source" / "file").touch()
    table = Path("/proc/self/mountinfo")
    descriptors = len(os.listdir("/proc/self/fd"))
    bind = Mount("bind", str(tmp_path / "source"), ("rbind", "ro", "nosuid"))

    for mounts in ((bind,), (Mount("tmpfs", "tmpfs", ("mode=0700", "size=64k", "nodev")), bind)):
        with mounted(mounts) as top:
            assert os.listdir(top) == ["file"]
            with pytest.raises(OSError, match="Read-only"):
                (top / "new").touch()
            assert str(tmp_path) not in table.read_text()

    assert len(os.listdir("/proc/self/fd")) == descriptors


@pytest.mark.root
def test_a_refused_mount_says_why(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="no-such-option"), mounted((Mount("tmpfs", "tmpfs", ("no-such-option=1",)),)):
        pass
