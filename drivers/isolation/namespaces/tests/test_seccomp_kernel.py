"""The compiled filter in a real kernel: installed in a forked child, which then calls."""

from __future__ import annotations

import ctypes
import errno
import json
import mmap
import os
import platform
import signal
import struct
from collections.abc import Callable
from typing import Any

import pytest

from pyd_isolation_namespaces.seccomp import compile_filter
from pyd_isolation_namespaces.syscalls import table

pytestmark = [
    pytest.mark.root,
    pytest.mark.skipif(platform.machine() not in ("x86_64", "aarch64"), reason="no table for this machine"),
]

_PR_SET_NO_NEW_PRIVS = 38
_CLONE_NEWNS, _CLONE_NEWUSER = 0x00020000, 0x10000000


def in_child(
    profile: dict[str, Any],
    calls: list[tuple[str | int, tuple[int, ...]]],
    instead: Callable[[], list[int]] | None = None,
) -> list[int]:
    """The errno of each call (0: none) made by a child under the filter. A call is a name or a number, and arguments."""
    machine = platform.machine()
    program = compile_filter(profile, machine)
    numbers = table(machine)
    libc = ctypes.CDLL(None, use_errno=True)
    text = ctypes.create_string_buffer(program, len(program))
    fprog = ctypes.create_string_buffer(struct.pack("@HxxxxxxQ", len(program) // 8, ctypes.addressof(text)))
    readable, writable = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            assert libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0
            assert libc.syscall(numbers["seccomp"], 1, 0, fprog) == 0, os.strerror(ctypes.get_errno())
            found = instead() if instead else [_call(libc.syscall, numbers, name, args) for name, args in calls]
            os.write(writable, json.dumps(found).encode())
        finally:
            os._exit(0)
    os.close(writable)
    with os.fdopen(readable, "rb") as answers:
        answer = answers.read()
    _, status = os.waitpid(child, 0)
    if instead and os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGSEGV:
        return []
    assert answer, f"the child ended with status {status}"
    return [int(each) for each in json.loads(answer)]


def _call(syscall: Callable[..., int], numbers: dict[str, int], name: str | int, args: tuple[int, ...]) -> int:
    number = numbers[name] if isinstance(name, str) else name
    ctypes.set_errno(0)
    result = syscall(ctypes.c_long(number), *(ctypes.c_ulong(arg) for arg in args))
    return ctypes.get_errno() if result == -1 else 0


ALLOWING = {
    "defaultAction": "SCMP_ACT_ALLOW",
    "syscalls": [
        {"names": ["unshare", "mount", "keyctl"], "action": "SCMP_ACT_ERRNO"},
        {"names": ["clone3"], "action": "SCMP_ACT_ERRNO", "errnoRet": errno.ENOSYS},
        {
            "names": ["socket"],
            "action": "SCMP_ACT_ERRNO",
            "errnoRet": errno.EAFNOSUPPORT,
            "args": [{"index": 0, "value": 0xFFFFFFFF, "valueTwo": 38, "op": "SCMP_CMP_MASKED_EQ"}],
        },
        {
            "names": ["personality"],
            "action": "SCMP_ACT_ERRNO",
            "args": [{"index": 0, "value": 0xFFFFFFFF, "op": "SCMP_CMP_NE"}],
        },
    ],
}


def test_refusals_and_permissions() -> None:
    found = in_child(
        ALLOWING,
        [
            ("getpid", ()),
            ("unshare", (_CLONE_NEWNS,)),
            ("mount", (0, 0, 0, 0, 0)),
            ("keyctl", (0, 0, 0, 0, 0)),
            ("clone3", (0, 0)),
            ("socket", (38, 5, 0)),
            ("socket", (38 | 1 << 32, 5, 0)),
            ("socket", (1, 1, 0)),
            ("personality", (0xFFFFFFFF,)),
            ("personality", (0x0040000,)),
        ],
    )
    refused, family = errno.EPERM, errno.EAFNOSUPPORT
    assert found == [0, refused, refused, refused, errno.ENOSYS, family, family, 0, 0, refused]


def test_what_is_newer_than_the_profile_is_not_there() -> None:
    """Positive control: the call exists in the kernel and the default refuses, yet a C library must see ENOSYS."""
    numbers = table(platform.machine())
    everything = [name for name, number in numbers.items() if number < numbers["faccessat2"] and name != "unshare"]
    profile = {"defaultAction": "SCMP_ACT_ERRNO", "syscalls": [{"names": everything, "action": "SCMP_ACT_ALLOW"}]}
    calls: list[tuple[str | int, tuple[int, ...]]] = [
        ("unshare", (_CLONE_NEWUSER,)),
        ("faccessat2", (0, 0, 0, 0)),
        (100_000, ()),
        ("getpid", ()),
    ]
    found = in_child(profile, calls)
    assert found == [errno.EPERM, errno.ENOSYS, errno.ENOSYS, 0]


@pytest.mark.skipif(platform.machine() != "x86_64", reason="the x32 ABI is one of x86_64")
def test_the_x32_way_in_is_closed() -> None:
    assert in_child(ALLOWING, [(0x40000000 + 39, ()), ("getpid", ())]) == [errno.ENOSYS, 0]


def test_the_kernel_takes_the_largest_profile() -> None:
    """Trampolines and all: the kernel checks every jump when a filter is installed."""
    names = list(table(platform.machine()))
    items = [
        {"names": [name], "action": "SCMP_ACT_TRAP", "args": [{"index": 5, "value": n << 40, "op": "SCMP_CMP_GT"}]}
        for n, name in enumerate(names, 1 << 22)
        if name not in ("write", "exit_group", "exit", "futex", "getpid")
    ]
    assert in_child({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": items}, [("getpid", ())]) == [0]


_INT_80 = bytes.fromhex("53 89f8 4889f3 cd80 5b 4898 c3")
"""push rbx; mov eax, edi; mov rbx, rsi; int 0x80; pop rbx; cdqe; ret: f(number, first, third, second) -> -errno or more."""


@pytest.mark.skipif(platform.machine() != "x86_64", reason="the 32-bit way in is one of x86_64")
def test_the_upper_half_of_a_register_fools_no_32_bit_rule() -> None:
    """A 64-bit program calls int $0x80 with rbx = AF_ALG | 1 << 32: the kernel sees AF_ALG, and so must the filter."""
    profile = {
        "defaultAction": "SCMP_ACT_ALLOW",
        "architectures": ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86"],
        "syscalls": [
            {
                "names": ["socket"],
                "action": "SCMP_ACT_ERRNO",
                "errnoRet": errno.EXDEV,
                "args": [{"index": 0, "value": 38, "op": "SCMP_CMP_EQ"}],
            }
        ],
    }
    code = mmap.mmap(-1, mmap.PAGESIZE, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
    code.write(_INT_80)
    address = ctypes.addressof(ctypes.c_char.from_buffer(code))
    kind = ctypes.CFUNCTYPE(ctypes.c_long, ctypes.c_long, ctypes.c_ulong, ctypes.c_ulong, ctypes.c_ulong)
    call = kind(address)
    number = table("i386")["socket"]

    def through_the_gate(*_: object) -> list[int]:
        return [int(call(number, domain, 0, 5)) for domain in (38, 38 | 1 << 32, 1 << 32 | 1000)]

    answers = in_child(profile, [], through_the_gate)
    if not answers:
        pytest.skip("this kernel runs no 32-bit programs")
    assert answers == [-errno.EXDEV, -errno.EXDEV, -errno.EAFNOSUPPORT]
