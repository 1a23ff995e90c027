"""Several machines at once, without a machine: what is shown, in which order, and how it ends."""

from __future__ import annotations

import io
import re
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import pytest

import fleet
import kernels
from machine import BROKEN, TIMED_OUT
from suites import SUITES

ROOT = Path(__file__).resolve().parents[2]
GOOD = b"........\n======== 8 passed, 1 skipped in 2.50s ========\n"
BAD = b"""..F
=========== short test summary info ===========
FAILED a/test_b.py::test_c - assert 1 == 2
ERROR a/test_b.py::test_d
===== 1 failed, 2 passed, 1 error in 61.00s (0:01:01) =====
"""
SLOW = b"...vm: timed out after 900 s, in a/test_b.py::test_c\n"


def says(words: bytes, status: int) -> fleet.Run:
    def job(said: BinaryIO) -> int:
        said.write(words)
        return status

    return job


def ran(*works: tuple[str, fleet.Run], machines: int = 2) -> tuple[int, list[str]]:
    out = io.BytesIO()
    return fleet.run(works, machines, out), out.getvalue().decode().splitlines()


def test_the_end_tells_how_each_fared_and_what_failed() -> None:
    works = [
        ("good", says(GOOD, 0)),
        ("bad", says(BAD, 1)),
        ("slow", says(SLOW, TIMED_OUT)),
        ("broken", says(b"Kernel panic\n", BROKEN)),
    ]
    status, lines = ran(*works)
    assert status == BROKEN
    assert [re.sub(r" +", " ", line) for line in lines[-6:]] == [
        "vm: good passed 0 s 8 passed, 1 skipped",
        "vm: bad FAILED 0 s 1 failed, 2 passed, 1 error",
        "vm: FAILED a/test_b.py::test_c - assert 1 == 2",
        "vm: ERROR a/test_b.py::test_d",
        "vm: slow TIMED OUT 0 s timed out after 900 s, in a/test_b.py::test_c",
        "vm: broken BROKEN 0 s status 125, see its output",
    ]


def test_what_has_not_begun_in_time_is_left_out_and_named() -> None:
    out, ran_at_all = io.BytesIO(), []

    def slow(said: BinaryIO) -> int:
        ran_at_all.append("slow")
        time.sleep(0.3)
        said.write(GOOD)
        return 0

    works = [("first", slow), ("second", says(BAD, 1)), ("third", says(BAD, 1))]
    assert fleet.run(works, 1, out, begin_within=0.1) == 0
    lines = out.getvalue().decode().splitlines()
    assert lines[-1] == "vm: LEFT OUT, not begun within 0 s: second, third"
    assert ran_at_all == ["slow"]
    assert not [line for line in lines if "did not end" in line or "second: begun" in line]


def test_the_worst_status_is_that_of_all() -> None:
    assert ran(("one", says(GOOD, 0)), ("two", says(GOOD, 0)))[0] == 0
    assert ran(("one", says(BAD, 1)), ("two", says(GOOD, 0)))[0] == 1
    assert ran(("nothing", says(b"===== no tests ran in 0.10s =====\n", 5)))[0] == 5


def test_outputs_are_whole_and_those_that_ran_together_ran_together() -> None:
    both = threading.Barrier(2)

    def job(letter: bytes) -> fleet.Run:
        def talking(said: BinaryIO) -> int:
            for _ in range(3):
                both.wait(timeout=30)
                said.write(letter + b"\n")
            return 0

        return talking

    _, lines = ran(("a", job(b"A")), ("b", job(b"B")))
    text = "\n".join(lines)
    assert "a| A\na| A\na| A\nvm: a: passed\n" in text
    assert "b| B\nb| B\nb| B\nvm: b: passed\n" in text


def test_no_line_of_a_machine_looks_like_pytests_last_of_all() -> None:
    _, lines = ran(("good", says(GOOD, 0)), ("bad", says(BAD, 1)))
    assert [line for line in lines if line.startswith("=")] == []
    assert "good| ======== 8 passed, 1 skipped in 2.50s ========" in lines


def test_no_more_at_once_than_said() -> None:
    begun: list[str] = []
    running = threading.Semaphore(1)

    def job(name: str) -> fleet.Run:
        def alone(said: BinaryIO) -> int:
            assert running.acquire(blocking=False)
            begun.append(name)
            running.release()
            return 0

        return alone

    ran(*((name, job(name)) for name in "abcde"), machines=1)
    assert begun == list("abcde"), "begun in order"


def test_an_error_of_the_harness_is_raised() -> None:
    def job(said: BinaryIO) -> int:
        raise kernels.Unavailable("nothing to start")

    out = io.BytesIO()
    with pytest.raises(kernels.Unavailable, match="nothing to start"):
        fleet.run([("good", says(GOOD, 0)), ("bad", job)], 1, out)
    lines = [re.sub(r" +", " ", line) for line in out.getvalue().decode().splitlines()]
    assert lines[-2:] == ["vm: good passed 0 s 8 passed, 1 skipped", "vm: did not end: bad"], "the rest is told even so"


def test_one_machine_runs_however_little_memory_there_is(monkeypatch: pytest.MonkeyPatch) -> None:
    assert fleet.how_many(1 << 40) == 1
    monkeypatch.setattr("os.sched_getaffinity", lambda _pid: set(range(64)))
    assert fleet.how_many(1) > 1


def marked() -> Iterator[str]:
    """Test files that can run nowhere else."""
    for path in ROOT.glob("[!.]*/**/test_*.py"):
        if re.search(r"^(pytestmark.*|    |)@?pytest\.mark\.vm\b", path.read_text(), re.MULTILINE):
            yield str(path.relative_to(ROOT))


def test_no_test_of_the_virtual_machine_is_forgotten() -> None:
    paths = [argument for suite in SUITES for argument in suite.arguments if re.match(r"[a-z]+/", argument)]
    named = [path.partition("::")[0] for path in paths]
    assert [name for name in named if not (ROOT / name).exists()] == []
    found = set(marked())
    assert "tests/vm/test_vm_sctp.py" in found
    assert found - {name for name in found for part in named if name == part or name.startswith(f"{part}/")} == set()
    assert len({suite.name for suite in SUITES}) == len(SUITES)
