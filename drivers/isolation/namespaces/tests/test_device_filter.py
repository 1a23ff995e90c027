"""The device program of cgroup v2: interpreted against a table, and attached to a real group."""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pyd_shim.cgroups import discover
from pyd_shim.device_filter import attach, program

READ, WRITE, MKNOD = 2, 4, 1
BLOCK, CHAR = 1, 2


def run(code: bytes, kind: int, wanted: int, major: int, minor: int) -> bool:
    """Interpret eBPF (Documentation/bpf/standardization/instruction-set.rst): the few instructions such programs have."""
    context = struct.pack("<III", wanted << 16 | kind, major, minor)
    registers: dict[int, Any] = {1: context}
    position = 0
    for _ in range(10_000):
        opcode, nibbles, offset, immediate = struct.unpack_from("<BBhi", code, position * 8)
        target, source = nibbles & 15, nibbles >> 4
        position += 1
        if opcode == 0x61:  # LDX W
            registers[target] = struct.unpack_from("<I", registers[source], offset)[0]
        elif opcode == 0xBF:
            registers[target] = registers[source]
        elif opcode == 0xB7:
            registers[target] = immediate
        elif opcode == 0x57:
            registers[target] &= immediate
        elif opcode == 0x77:
            registers[target] >>= immediate
        elif opcode in (0x55, 0x5D):  # JNE
            if registers[target] != (immediate if opcode == 0x55 else registers[source]):
                assert offset >= 0, "a loop"
                position += offset
        elif opcode == 0x95:
            answer = registers[0]
            assert answer in (0, 1)
            return bool(answer)
        else:
            raise AssertionError(f"unknown instruction {opcode:#x}")
    raise AssertionError("no end")


def expected(rules: list[dict[str, Any]], kind: int, wanted: int, major: int, minor: int) -> bool:
    """config-linux.md "Allowed Device list": the last rule that speaks of all that is wanted decides."""
    allowed = False
    for rule in rules:
        of_kind = rule.get("type") or "a"
        bits = sum({"r": READ, "w": WRITE, "m": MKNOD}[letter] for letter in rule.get("access") or "rwm")
        numbers = all(
            of_kind == "a" or rule.get(key) is None or rule[key] < 0 or rule[key] == value
            for key, value in (("major", major), ("minor", minor))
        )
        if of_kind in ("a", {BLOCK: "b", CHAR: "c"}[kind]) and wanted & bits == wanted and numbers:
            allowed = rule["allow"]
    return allowed


DENY = {"allow": False, "access": "rwm"}
NULL = {"allow": True, "type": "c", "major": 1, "minor": 3, "access": "rwm"}
TABLE: dict[str, list[dict[str, Any]]] = {
    "none": [],
    "deny-all": [DENY],
    "allow-all": [DENY, {"allow": True, "access": "rwm"}],
    "null": [DENY, NULL],
    "order": [NULL, DENY],
    "read-only": [DENY, {**NULL, "access": "r"}],
    "no-mknod": [DENY, {**NULL, "access": "rw"}],
    "two-parts": [DENY, {**NULL, "access": "r"}, {**NULL, "access": "w"}],
    "any-minor": [DENY, {"allow": True, "type": "c", "major": 136, "minor": -1, "access": "rw"}],
    "any-major": [DENY, {"allow": True, "type": "b", "minor": 0, "access": "r"}],
    "exception": [
        DENY,
        {"allow": True, "type": "c", "major": 10},
        {"allow": False, "type": "c", "major": 10, "minor": 229},
    ],
    "unbuffered": [DENY, {"allow": True, "type": "u", "major": 1, "minor": 3, "access": "r"}],
    "mknod-of-all": [DENY, {"allow": True, "type": "c", "access": "m"}, {"allow": True, "type": "b", "access": "m"}],
}


@pytest.mark.parametrize("name", sorted(TABLE))
def test_the_program_decides_as_the_rules_say(name: str) -> None:
    rules = TABLE[name]
    code = program(rules)
    plain = [{**rule, "type": "c"} if rule.get("type") == "u" else rule for rule in rules]

    for kind in (BLOCK, CHAR):
        for wanted in range(1, 8):
            for major, minor in ((1, 3), (1, 5), (136, 0), (136, 77), (10, 229), (10, 200), (8, 0), (0, 0)):
                answer = run(code, kind, wanted, major, minor)
                assert answer is expected(plain, kind, wanted, major, minor), (kind, wanted, major, minor)


@pytest.fixture
def leaf() -> Iterator[Path]:
    """A v2 group of our own."""
    root = discover()["v2"]
    if root is None:
        pytest.skip("no cgroup v2 hierarchy is mounted")
    path = Path(root) / f"pyd-test-devices-{os.urandom(4).hex()}"
    path.mkdir()
    yield path
    path.rmdir()


@pytest.mark.root
def test_the_kernel_takes_it(leaf: Path) -> None:
    attach(str(leaf), [DENY, NULL])
    readable, writable = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            (leaf / "cgroup.procs").write_text("0")
            said = []
            for name in ("null", "zero"):
                try:
                    os.close(os.open(f"/dev/{name}", os.O_RDONLY))
                    said.append(f"{name} opened")
                except PermissionError:
                    said.append(f"{name} refused")
            os.write(writable, ", ".join(said).encode())
        finally:
            os._exit(0)
    os.close(writable)
    with os.fdopen(readable, "rb") as answer:
        answered = answer.read()
    os.waitpid(child, 0)

    assert answered == b"null opened, zero refused"


@pytest.mark.root
def test_rules_that_are_attached_again_only_take_away(leaf: Path) -> None:
    attach(str(leaf), [{"allow": True, "access": "rwm"}])
    attach(str(leaf), [DENY])
    child = os.fork()
    if child == 0:
        try:
            (leaf / "cgroup.procs").write_text("0")
            os.open("/dev/null", os.O_RDONLY)
        except PermissionError:
            os._exit(0)
        finally:
            os._exit(1)

    assert os.waitpid(child, 0)[1] == 0
