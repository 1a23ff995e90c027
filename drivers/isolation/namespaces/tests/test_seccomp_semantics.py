"""The compiled filter means what the profile says: a BPF interpreter against a plain reading of the document."""

from __future__ import annotations

import errno
import random
import struct
from collections.abc import Mapping
from typing import Any

import pytest

from pyd_isolation_namespaces.seccomp import ProfileError, compile_filter, filter_flags
from pyd_isolation_namespaces.syscalls import MACHINES, table

ARCH = {"x86_64": 0xC000003E, "i386": 0x40000003, "aarch64": 0xC00000B7}
WORD = {"x86_64": "SCMP_ARCH_X86_64", "i386": "SCMP_ARCH_X86", "aarch64": "SCMP_ARCH_AARCH64"}
ALLOW, KILL_PROCESS, ERRNO = 0x7FFF0000, 0x80000000, 0x00050000
RETURNS = {
    "SCMP_ACT_ALLOW": ALLOW,
    "SCMP_ACT_LOG": 0x7FFC0000,
    "SCMP_ACT_TRAP": 0x00030000,
    "SCMP_ACT_KILL": 0,
    "SCMP_ACT_KILL_THREAD": 0,
    "SCMP_ACT_KILL_PROCESS": KILL_PROCESS,
}


def run(program: bytes, arch: int, number: int, args: tuple[int, ...]) -> int:
    """What the kernel's interpreter returns for the subset of classic BPF that seccomp checks allow us."""
    data = struct.pack("<iIQ6Q", number if number < 1 << 31 else number - (1 << 32), arch, 0, *args)
    code = [struct.unpack_from("<HBBI", program, at) for at in range(0, len(program), 8)]
    accumulator, at = 0, 0
    for _ in range(len(code) + 1):
        word, then, other, value = code[at]
        at += 1
        if word == 0x20:
            accumulator = struct.unpack_from("<I", data, value)[0]
        elif word == 0x54:
            accumulator &= value
        elif word == 0x06:
            return int(value)
        elif word == 0x05:
            at += value
        else:
            taken = {
                0x15: accumulator == value,
                0x25: accumulator > value,
                0x35: accumulator >= value,
            }[word]
            at += then if taken else other
    raise AssertionError("the program does not end")


def returned(action: str, data: int | None) -> int:
    if action in RETURNS:
        return RETURNS[action]
    base = {"SCMP_ACT_ERRNO": ERRNO, "SCMP_ACT_TRACE": 0x7FF00000}[action]
    return base | (errno.EPERM if data is None else data)


def holds(arg: Mapping[str, Any], args: tuple[int, ...], bits: int) -> bool:
    width = (1 << bits) - 1
    given, value, two = (each & width for each in (args[arg["index"]], arg["value"], arg.get("valueTwo", 0)))
    outcomes: dict[str, bool] = {
        "SCMP_CMP_EQ": given == value,
        "SCMP_CMP_NE": given != value,
        "SCMP_CMP_LT": given < value,
        "SCMP_CMP_LE": given <= value,
        "SCMP_CMP_GT": given > value,
        "SCMP_CMP_GE": given >= value,
        "SCMP_CMP_MASKED_EQ": given & value == two,
    }
    return outcomes[arg["op"]]


def read(profile: Mapping[str, Any], machine: str, arch: int, number: int, args: tuple[int, ...]) -> int:
    """The meaning of a profile, straight from the document."""
    words = [WORD[machine], *profile.get("architectures", ())]
    names = [name for name in ARCH if ARCH[name] == arch and WORD[name] in words]
    runnable = {"x86_64": ("x86_64", "i386"), "aarch64": ("aarch64",)}[machine]
    if not names or names[0] not in runnable:
        return KILL_PROCESS
    if arch == ARCH["x86_64"] and number >= 0x40000000:
        return ERRNO | errno.ENOSYS
    numbers = table(names[0])
    default = returned(profile["defaultAction"], profile.get("defaultErrnoRet"))
    newest = max((numbers[n] for item in profile["syscalls"] for n in item["names"] if n in numbers), default=None)
    refusing = default in (0, KILL_PROCESS, 0x00030000) or default & 0xFFFF0000 == ERRNO
    if newest is not None and refusing and number > newest:
        return ERRNO | errno.ENOSYS
    mine = [item for item in profile["syscalls"] if number in [numbers.get(name) for name in item["names"]]]
    mine = [item for item in mine if returned(item["action"], item.get("errnoRet")) != default]
    for item in mine:
        if not item.get("args"):
            return returned(item["action"], item.get("errnoRet"))
    for item in mine:
        indexes = [arg["index"] for arg in item["args"]]
        combine = all if len(set(indexes)) == len(indexes) else any
        bits = 32 if names[0] == "i386" else 64
        if combine(holds(arg, args, bits) for arg in item["args"]):
            return returned(item["action"], item.get("errnoRet"))
    return default


EDGES = (0, 1, 2, 37, 38, 39, 40, 41, 0xFFFFFFFF, 1 << 32, (1 << 32) + 38, 0x7E020000, 1 << 63, (1 << 64) - 1)


def some_profile(rng: random.Random, size: int) -> dict[str, Any]:
    names = [*sorted({name for machine in MACHINES for name in table(machine)}), "no_such_call"]
    actions = [*RETURNS, "SCMP_ACT_ERRNO", "SCMP_ACT_ERRNO", "SCMP_ACT_TRACE"]

    def arg() -> dict[str, Any]:
        word = rng.choice(["EQ", "NE", "LT", "LE", "GT", "GE", "MASKED_EQ"])
        value = rng.choice([*EDGES, rng.getrandbits(64)])
        two = rng.choice([0, value & rng.getrandbits(64), rng.choice(EDGES)])
        return {"index": rng.randrange(6), "value": value, "valueTwo": two, "op": f"SCMP_CMP_{word}"}

    def item() -> dict[str, Any]:
        found: dict[str, Any] = {
            "names": rng.sample(names, rng.randint(1, 12)),
            "action": rng.choice(actions),
            "args": [arg() for _ in range(rng.choice([0, 0, 1, 1, 2, 3]))],
        }
        if rng.random() < 0.5:
            found["errnoRet"] = rng.randrange(4096)
        return found

    profile: dict[str, Any] = {
        "defaultAction": rng.choice(actions),
        "architectures": rng.sample(list(WORD.values()), rng.randint(0, 3)),
        "syscalls": [item() for _ in range(rng.randint(0, size))],
    }
    if rng.random() < 0.3:
        profile["defaultErrnoRet"] = rng.randrange(4096)
    return profile


@pytest.mark.parametrize("machine", ["x86_64", "aarch64"])
@pytest.mark.parametrize("seed", range(30))
def test_the_filter_equals_the_profile(machine: str, seed: int) -> None:
    rng = random.Random(f"{machine}{seed}")
    profile = some_profile(rng, 1 + seed * 2)
    program = compile_filter(profile, machine)
    mentioned = [arg["value"] for item in profile["syscalls"] for arg in item["args"]]
    mentioned += [arg["valueTwo"] for item in profile["syscalls"] for arg in item["args"]]
    for _ in range(600):
        arch = rng.choice(list(ARCH.values()))
        number = rng.choice([rng.randrange(500), rng.randrange(500), 0x40000000 + rng.randrange(600), 0xFFFFFFFF])
        pool = [*EDGES, *mentioned, *(value + 1 & (1 << 64) - 1 for value in mentioned)]
        args = tuple(rng.choice([rng.choice(pool), rng.getrandbits(64)]) for _ in range(6))
        assert run(program, arch, number, args) == read(profile, machine, arch, number, args), (arch, number, args)


def test_every_call_of_a_wide_profile_is_found() -> None:
    """Every other number: the widest search tree there is, so that jumps beyond 255 instructions are needed."""
    names = [name for name, number in table("x86_64").items() if number % 2]
    args = [{"index": 0, "value": 7, "op": "SCMP_CMP_GT"}, {"index": 1, "value": 3 << 40, "op": "SCMP_CMP_NE"}]
    profile = {
        "defaultAction": "SCMP_ACT_ERRNO",
        "syscalls": [
            {"names": names[::2], "action": "SCMP_ACT_ALLOW", "args": args},
            {"names": names[1::2], "action": "SCMP_ACT_LOG"},
        ],
    }
    program = compile_filter(profile, "x86_64")
    assert len(program) // 8 > 600
    for number in range(480):
        for given in ((7, 0, 0, 0, 0, 0), (8, 0, 0, 0, 0, 0), (8, 3 << 40, 0, 0, 0, 0)):
            arch = ARCH["x86_64"]
            assert run(program, arch, number, given) == read(profile, "x86_64", arch, number, given)


def test_search_is_shallow() -> None:
    """A call costs at most a dozen comparisons, wherever it stands."""
    names = list(table("x86_64"))[::2]
    program = compile_filter(
        {"defaultAction": "SCMP_ACT_ERRNO", "syscalls": [{"names": names, "action": "SCMP_ACT_ALLOW"}]}, "x86_64"
    )
    code = [struct.unpack_from("<HBBI", program, at) for at in range(0, len(program), 8)]

    def depth(at: int) -> int:
        word, then, other, value = code[at]
        if word == 0x06:
            return 1
        if word == 0x05:
            return 1 + depth(at + 1 + value)
        if word == 0x20:
            return 1 + depth(at + 1)
        return 1 + max(depth(at + 1 + then), depth(at + 1 + other))

    assert depth(0) <= 18


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"defaultAction": "SCMP_ACT_NOTIFY"}, "agent"),
        ({"defaultAction": None}, "is not an action"),
        ({"defaultErrnoRet": 5000}, "0 to 4095"),
        ({"architectures": ["x86"]}, "SCMP_ARCH_"),
        ({"syscalls": [{"names": [], "action": "SCMP_ACT_ALLOW"}]}, "at least one name"),
        ({"syscalls": [{"names": ["read"], "action": "x"}]}, "syscalls[0].action"),
        ({"syscalls": [{"names": ["read"], "action": "SCMP_ACT_LOG", "args": [{"index": 6}]}]}, "args[0].index"),
        ({"syscalls": [{"names": ["read"], "action": "SCMP_ACT_LOG", "args": [{"index": 0, "op": "EQ"}]}]}, ".op"),
        (
            {
                "syscalls": [
                    {
                        "names": ["read"],
                        "action": "SCMP_ACT_LOG",
                        "args": [{"index": 0, "op": "SCMP_CMP_EQ", "value": -1}],
                    }
                ]
            },
            "64 bits",
        ),
    ],
)
def test_faulty_profiles_name_the_field(change: dict[str, Any], said: str) -> None:
    with pytest.raises(ProfileError, match="linux.seccomp") as caught:
        compile_filter({"defaultAction": "SCMP_ACT_ERRNO", "syscalls": [], **change}, "x86_64")
    assert said in str(caught.value)


def test_too_many_instructions_are_refused() -> None:
    items = [
        {
            "names": [name],
            "action": "SCMP_ACT_ALLOW",
            "args": [{"index": i, "value": number << 33, "op": "SCMP_CMP_EQ"} for i in range(6)],
        }
        for name, number in table("x86_64").items()
    ]
    with pytest.raises(ProfileError, match="4096"):
        compile_filter({"defaultAction": "SCMP_ACT_ERRNO", "syscalls": items}, "x86_64")


def test_a_machine_without_a_table_is_refused() -> None:
    with pytest.raises(ProfileError, match="riscv64"):
        compile_filter({"defaultAction": "SCMP_ACT_ERRNO"}, "riscv64")


def test_flags() -> None:
    assert filter_flags({}) == 0
    assert filter_flags({"flags": ["SECCOMP_FILTER_FLAG_LOG", "SECCOMP_FILTER_FLAG_SPEC_ALLOW"]}) == 6
    with pytest.raises(ProfileError, match="WAIT_KILLABLE"):
        filter_flags({"flags": ["SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV"]})
