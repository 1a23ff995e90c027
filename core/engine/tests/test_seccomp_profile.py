"""The default seccomp profile decides as containers are used to, and profiles of users are read as Docker reads them."""

from __future__ import annotations

import errno
from collections.abc import Collection
from typing import Any

import pytest

from pyd_contracts.errors import InvalidArgument
from pyd_engine.containers import capabilities
from pyd_engine.containers.seccomp_names import BY_CAPABILITY, ORDINARY
from pyd_engine.containers.seccomp_profile import default_profile, load_profile


def decide(profile: dict[str, Any], name: str, *args: int) -> int | None:
    """None: allowed; else the errno. The first rule that matches decides, as no two of one call disagree here."""
    for rule in profile["syscalls"]:
        if name in rule["names"] and all(_holds(arg, args) for arg in rule.get("args", ())):
            return None if rule["action"] == "SCMP_ACT_ALLOW" else int(rule["errnoRet"])
    return int(profile["defaultErrnoRet"])


def _holds(arg: dict[str, Any], args: tuple[int, ...]) -> bool:
    given = args[arg["index"]]
    if arg["op"] == "SCMP_CMP_MASKED_EQ":
        return bool(given & arg["value"] == arg["valueTwo"])
    return bool({"SCMP_CMP_EQ": given == arg["value"], "SCMP_CMP_LT": given < arg["value"]}[arg["op"]])


DEFAULT = default_profile(capabilities.DEFAULT)


def test_themes_do_not_overlap() -> None:
    names = [name for theme in ORDINARY.values() for name in theme.split()]
    assert len(names) == len(set(names)) == 361


@pytest.mark.parametrize("name", "openat read execve futex epoll_wait mmap kill statx ptrace chroot arch_prctl".split())
def test_ordinary_calls_pass(name: str) -> None:
    assert decide(DEFAULT, name) is None


@pytest.mark.parametrize(
    "name",
    (
        "mount umount2 unshare setns bpf perf_event_open keyctl add_key request_key userfaultfd io_uring_setup "
        "io_uring_enter io_uring_register open_by_handle_at kexec_load init_module swapon reboot iopl acct quotactl "
        "fsopen move_mount open_tree settimeofday clock_settime syslog mbind move_pages nfsservctl pivot_root vhangup "
        "lookup_dcookie kcmp process_madvise sethostname"
    ).split(),
)
def test_what_hosts_fear_is_refused(name: str) -> None:
    assert decide(DEFAULT, name) == errno.EPERM


@pytest.mark.parametrize("domain", range(64))
def test_socket_families(domain: int) -> None:
    assert decide(DEFAULT, "socket", domain) == (errno.EPERM if domain in (38, 40) else None)


@pytest.mark.parametrize("domain", [38, 40])
def test_socket_families_behind_the_upper_half(domain: int) -> None:
    """The kernel takes an int and drops the upper half of the register; the filter must not be fooled by it."""
    for upper in (1, 2, 1 << 31, (1 << 32) - 1):
        assert decide(DEFAULT, "socket", domain | upper << 32) == errno.EPERM
        assert decide(DEFAULT, "socket", 2 | upper << 32) is None


@pytest.mark.parametrize("domain", [41, 42, 47, 48, 64, 1000, 1 << 31, (1 << 32) - 1])
def test_unknown_families_are_left_to_the_kernel(domain: int) -> None:
    assert decide(DEFAULT, "socket", domain) is None


def test_clone_makes_threads_and_no_namespaces() -> None:
    thread = 0x003D0F00
    assert decide(DEFAULT, "clone", thread) is None
    for flag in (0x00020000, 0x02000000, 0x04000000, 0x08000000, 0x10000000, 0x20000000, 0x40000000):
        assert decide(DEFAULT, "clone", thread | flag) == errno.EPERM
    assert decide(DEFAULT, "clone3") == errno.ENOSYS


def test_personalities() -> None:
    for persona in (0, 8, 0x20000, 0x20008, 0xFFFFFFFF):
        assert decide(DEFAULT, "personality", persona) is None
    for persona in (1, 0x0040000, 0x0400000):
        assert decide(DEFAULT, "personality", persona) == errno.EPERM


@pytest.mark.parametrize("capability", BY_CAPABILITY)
def test_a_capability_opens_its_calls(capability: str) -> None:
    opened = default_profile([capability])
    for name in BY_CAPABILITY[capability].split():
        assert decide(opened, name, 0x7E020000) is None, name
        if name not in ("ptrace", "process_vm_readv", "process_vm_writev", "clone", "clone3"):
            assert decide(default_profile([]), name) == errno.EPERM


def test_old_kernels_and_other_machines() -> None:
    assert decide(default_profile([], kernel=(4, 7)), "ptrace") == errno.EPERM
    arm = default_profile([], machine="aarch64")
    assert arm["architectures"] == ["SCMP_ARCH_AARCH64", "SCMP_ARCH_ARM"]
    assert decide(arm, "arch_prctl") == errno.EPERM
    assert decide(arm, "set_tls") is None
    assert default_profile([], machine="riscv64")["architectures"] == []


def load(rule: dict[str, Any], caps: Collection[str] = (), **options: Any) -> list[dict[str, Any]]:
    document = {"defaultAction": "SCMP_ACT_ERRNO", "syscalls": [{"names": ["a"], "action": "SCMP_ACT_ALLOW", **rule}]}
    found: list[dict[str, Any]] = load_profile(document, caps, **options)["syscalls"]
    return found


@pytest.mark.parametrize(
    ("rule", "applies"),
    [
        ({}, True),
        ({"includes": {"caps": ["CAP_A"]}}, True),
        ({"includes": {"caps": ["CAP_A", "CAP_B"]}}, False),
        ({"excludes": {"caps": ["CAP_A"]}}, False),
        ({"excludes": {"caps": ["CAP_B"]}}, True),
        ({"includes": {"arches": ["amd64", "x32"]}}, True),
        ({"includes": {"arches": ["arm64"]}}, False),
        ({"excludes": {"arches": ["amd64"]}}, False),
        ({"includes": {"minKernel": "4.8"}}, True),
        ({"includes": {"minKernel": "6.10"}}, False),
        ({"excludes": {"minKernel": "6.0"}}, False),
        ({"includes": {}, "excludes": None, "args": None, "comment": "x"}, True),
    ],
)
def test_rules_apply_by_capability_machine_and_kernel(rule: dict[str, Any], applies: bool) -> None:
    assert load(rule, {"CAP_A"}, kernel=(6, 9)) == ([{"names": ["a"], "action": "SCMP_ACT_ALLOW"}] if applies else [])


def test_a_profile_in_dockers_form() -> None:
    profile = load_profile(
        {
            "defaultAction": "SCMP_ACT_ERRNO",
            "defaultErrnoRet": 38,
            "flags": ["SECCOMP_FILTER_FLAG_LOG"],
            "archMap": [
                {"architecture": "SCMP_ARCH_AARCH64", "subArchitectures": ["SCMP_ARCH_ARM"]},
                {"architecture": "SCMP_ARCH_X86_64", "subArchitectures": ["SCMP_ARCH_X86"]},
            ],
            "syscalls": [
                {"name": "old", "action": "SCMP_ACT_ALLOW", "args": []},
                {
                    "names": ["x"],
                    "action": "SCMP_ACT_ERRNO",
                    "errnoRet": 5,
                    "args": [{"index": 0, "value": 1, "op": "y"}],
                },
            ],
        },
        (),
    )
    assert profile == {
        "defaultAction": "SCMP_ACT_ERRNO",
        "defaultErrnoRet": 38,
        "flags": ["SECCOMP_FILTER_FLAG_LOG"],
        "architectures": ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86"],
        "syscalls": [
            {"names": ["old"], "action": "SCMP_ACT_ALLOW"},
            {"names": ["x"], "action": "SCMP_ACT_ERRNO", "errnoRet": 5, "args": [{"index": 0, "value": 1, "op": "y"}]},
        ],
    }


@pytest.mark.parametrize(
    ("document", "said"),
    [
        ({}, "defaultAction is missing"),
        ({"defaultAction": "a", "architectures": ["b"], "archMap": [{}]}, "use either"),
        ({"defaultAction": "a", "archMap": {}}, "archMap"),
        ({"defaultAction": "a", "syscalls": [3]}, "syscalls: a list of objects"),
        ({"defaultAction": "a", "syscalls": [{"name": "x", "names": ["y"]}]}, "use either"),
        ({"defaultAction": "a", "syscalls": [{"names": "x"}]}, "syscalls[0].names"),
        ({"defaultAction": "a", "syscalls": [{"names": ["x"], "includes": []}, {"names": [1]}]}, "syscalls[1].names"),
        ({"defaultAction": "a", "syscalls": [{"names": ["x"], "includes": [1]}]}, "syscalls[0].includes"),
        ({"defaultAction": "a", "syscalls": [{"names": ["x"], "includes": {"minKernel": "5"}}]}, "minKernel"),
    ],
)
def test_faulty_profiles_name_the_field(document: dict[str, Any], said: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        load_profile(document, ())
    assert said in str(caught.value)
