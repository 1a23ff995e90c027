"""The tables of system calls: well-known numbers, no doubles, and agreement with this host's C headers."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from pyd_isolation_namespaces.syscalls import MACHINES, table

KNOWN = {
    "x86_64": {"read": 0, "execve": 59, "clone3": 435, "uretprobe": 335, "pidfd_send_signal": 424},
    "i386": {"read": 3, "execve": 11, "socketcall": 102, "socket": 359, "clone3": 435},
    "aarch64": {"read": 63, "execve": 221, "fcntl": 25, "renameat": 38, "clone3": 435},
}


@pytest.mark.parametrize("machine", MACHINES)
def test_known_numbers(machine: str) -> None:
    numbers = table(machine)
    assert {name: numbers[name] for name in KNOWN[machine]} == KNOWN[machine]
    assert len(set(numbers.values())) == len(numbers)
    assert numbers["file_setattr"] == max(numbers.values()) == 469
    assert numbers["mseal"] == 462


@pytest.mark.parametrize(("machine", "header"), [("x86_64", "unistd_64.h"), ("i386", "unistd_32.h")])
def test_headers_agree(machine: str, header: str) -> None:
    path = Path("/usr/include/x86_64-linux-gnu/asm") / header
    if not path.exists():
        pytest.skip(f"no kernel headers: {path}")
    found = dict(re.findall(r"#define __NR_(\w+) (\d+)", path.read_text()))
    numbers = table(machine)
    assert {name: int(number) for name, number in found.items() if name in numbers} == {
        name: numbers[name] for name in found if name in numbers
    }
    assert {name for name in found if int(found[name]) < 451} <= set(numbers)
