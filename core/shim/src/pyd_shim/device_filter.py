"""Device access on cgroup v2: a BPF_PROG_TYPE_CGROUP_DEVICE program built from OCI rules (bpf(2), cgroup-v2.rst).

The kernel hands the program a struct bpf_cgroup_dev_ctx {u32 access_type; u32 major; u32 minor}: the low half of
access_type is the kind (1 block, 2 character), the high half what is wanted (1 mknod, 2 read, 4 write). The last rule that
matches decides, so rules are tested from the last to the first.
"""

from __future__ import annotations

import ctypes
import os
import struct
from collections.abc import Mapping, Sequence
from typing import Any

__all__ = ["attach", "program"]

_NR_BPF = 280 if os.uname().machine == "aarch64" else 321
_BPF_PROG_LOAD, _BPF_PROG_ATTACH = 5, 8
_PROG_TYPE_CGROUP_DEVICE, _ATTACH_TYPE_CGROUP_DEVICE, _F_ALLOW_MULTI = 15, 6, 2
_KINDS = {"b": 1, "c": 2}
_ACCESS = {"m": 1, "r": 2, "w": 4}


def _insn(code: int, dst: int = 0, src: int = 0, off: int = 0, imm: int = 0) -> bytes:
    """struct bpf_insn (linux/bpf.h)."""
    return struct.pack("<BBhi", code, dst | src << 4, off, imm)


_LDX_W, _MOV_X, _MOV_K, _AND_K, _RSH_K, _JNE_K, _JNE_X, _EXIT = 0x61, 0xBF, 0xB7, 0x57, 0x77, 0x55, 0x5D, 0x95


def program(rules: Sequence[Mapping[str, Any]]) -> bytes:
    """Assemble: r2 kind, r3 wanted access, r4 major, r5 minor; without a match access is refused."""
    code = [
        _insn(_LDX_W, 2, 1, 0),
        _insn(_MOV_X, 3, 2),
        _insn(_AND_K, 2, imm=0xFFFF),
        _insn(_RSH_K, 3, imm=16),
        _insn(_LDX_W, 4, 1, 4),
        _insn(_LDX_W, 5, 1, 8),
    ]
    for rule in reversed(rules):
        tests: list[tuple[bytes, int]] = []  # instruction code and operands; the jump distance is filled in below
        kind = rule.get("type") or "a"
        if kind != "a":
            tests.append((b"kind", _KINDS["c" if kind == "u" else kind]))
        access = 0
        for letter in rule.get("access") or "rwm":
            access |= _ACCESS[letter]
        body: list[bytes] = []
        if access != 7:
            # Everything wanted must be among what the rule speaks of: wanted & access == wanted.
            body += [_insn(_MOV_X, 1, 3), _insn(_AND_K, 1, imm=access)]
            tests.append((b"access", 0))
        if kind != "a":
            tests += [
                (key.encode(), rule[key]) for key in ("major", "minor") if rule.get(key) is not None and rule[key] >= 0
            ]
        block = body + [b""] * len(tests) + [_insn(_MOV_K, 0, imm=1 if rule["allow"] else 0), _insn(_EXIT)]
        for index, (what, value) in enumerate(tests):
            position = len(body) + index
            distance = len(block) - position - 1
            if what == b"access":
                block[position] = _insn(_JNE_X, 1, 3, distance)
            else:
                block[position] = _insn(_JNE_K, {b"kind": 2, b"major": 4, b"minor": 5}[what], 0, distance, value)
        code += block
        if not tests:
            break  # it decides whatever is left: the verifier refuses instructions that cannot be reached
    else:
        code += [_insn(_MOV_K, 0, imm=0), _insn(_EXIT)]
    return b"".join(code)


def _bpf(command: int, attributes: bytes) -> int:
    libc = ctypes.CDLL(None, use_errno=True)
    libc.syscall.restype = ctypes.c_long
    buffer = ctypes.create_string_buffer(attributes, len(attributes))
    result: int = libc.syscall(
        ctypes.c_long(_NR_BPF), ctypes.c_long(command), ctypes.byref(buffer), ctypes.c_long(len(attributes))
    )
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"bpf(2) for device access: {os.strerror(number)}")
    return result


def attach(directory: str, rules: Sequence[Mapping[str, Any]]) -> None:
    """Put the rules on a cgroup v2 directory."""
    code = program(rules)
    instructions = ctypes.create_string_buffer(code, len(code))
    licence = ctypes.create_string_buffer(b"Apache-2.0")
    load = struct.pack(
        "<IIQQIIQII16sI", _PROG_TYPE_CGROUP_DEVICE, len(code) // 8, ctypes.addressof(instructions),
        ctypes.addressof(licence), 0, 0, 0, 0, 0, b"pyd_devices", 0,
    )  # fmt: skip
    loaded = _bpf(_BPF_PROG_LOAD, load + bytes(-len(load) % 8))
    try:
        target = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            _bpf(_BPF_PROG_ATTACH, struct.pack("<IIIII", target, loaded, _ATTACH_TYPE_CGROUP_DEVICE, _F_ALLOW_MULTI, 0))
        finally:
            os.close(target)
    finally:
        os.close(loaded)
