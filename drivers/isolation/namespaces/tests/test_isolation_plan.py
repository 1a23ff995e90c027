"""The plan: faults of a document are found before anything is made, and the field is named."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pyd_conformance.isolation_stage import oci_spec
from pyd_conformance.isolation_users import with_users
from pyd_contracts.errors import InvalidArgument, PydError, Unsupported
from pyd_contracts.values import Mount, Sandbox, Stdio
from pyd_isolation_namespaces import plan

ALL = (1 << 41) - 1
Spec = dict[str, Any]


def build(spec: Spec, own: int = ALL, **host: str) -> dict[str, Any]:
    sandbox = Sandbox(Path("/bundle"), Path("/state"), spec, (Mount("bind", "/tree", ("rbind",)),), Stdio())
    layout = {"v1": [], "v2": "/sys/fs/cgroup", "pure": True}
    return plan.build("c" * 64, sandbox, layout, own, lambda _profile: b"\0" * 8, "/pyd/" + "c" * 64, **host)


def put(*path: str | int, value: object) -> Callable[[Spec], None]:
    def change(spec: Spec) -> None:
        at: Any = spec
        for key in path[:-1]:
            at = at[key]
        at[path[-1]] = value

    return change


def add(*path: str, value: object) -> Callable[[Spec], None]:
    def change(spec: Spec) -> None:
        at: Any = spec
        for key in path:
            at = at.setdefault(key, []) if key == path[-1] else at[key]
        at.append(value)

    return change


@pytest.mark.parametrize(
    ("change", "kind", "words"),
    [
        (add("linux", "namespaces", value={"type": "time"}), Unsupported, "linux.namespaces.*time"),
        (add("linux", "namespaces", value={"type": "nets"}), InvalidArgument, "linux.namespaces.*nets"),
        (add("linux", "namespaces", value={"type": "mount", "path": "/proc/1/ns/mnt"}), InvalidArgument, "mount"),
        (put("linux", "namespaces", value=[]), InvalidArgument, "mount namespace"),
        (add("linux", "devices", value={"path": "/etc/x", "type": "c"}), InvalidArgument, "linux.devices: /etc/x"),
        (
            add("linux", "devices", value={"path": "/dev/../x", "type": "c"}),
            InvalidArgument,
            r"linux.devices: /dev/\.\.",
        ),
        (add("linux", "devices", value={"path": "/dev/x", "type": "z"}), InvalidArgument, "linux.devices.*'z'"),
        (add("mounts", value={"destination": "relative", "source": "/x"}), InvalidArgument, "mounts.*relative"),
        (add("mounts", value={"destination": "/a\0b", "source": "/x"}), InvalidArgument, "mounts.*null"),
        (add("mounts", value={"destination": "/a", "source": "/x\0"}), InvalidArgument, "mounts.*null"),
        (put("process", "capabilities", "bounding", value=["CAP_ALL"]), InvalidArgument, "bounding.*CAP_ALL"),
        (put("process", "capabilities", "ambient", value=["chown"]), InvalidArgument, "ambient.*chown"),
        (put("process", "rlimits", value=[{"type": "RLIMIT_NO", "soft": 1, "hard": 1}]), InvalidArgument, "RLIMIT_NO"),
        (put("process", "cwd", value="x"), InvalidArgument, "process.cwd"),
        (put("process", "args", value=[]), InvalidArgument, "process.args"),
        (put("process", "args", value=[1]), InvalidArgument, "process.args"),
        (put("process", value=[]), InvalidArgument, "process"),
        (put("linux", value="x"), InvalidArgument, "linux"),
    ],
)
def test_a_fault_is_named(change: Callable[[Spec], None], kind: type[PydError], words: str) -> None:
    spec = oci_spec(["true"])
    spec["process"]["capabilities"] = dict(spec["process"]["capabilities"])
    spec["linux"]["devices"] = list(spec["linux"]["devices"])
    change(spec)

    with pytest.raises(kind, match=words):
        build(spec)


def test_no_more_capabilities_than_our_own() -> None:
    spec = oci_spec(["true"])
    spec["process"]["capabilities"] = {"bounding": ["CAP_CHOWN", "CAP_SYS_ADMIN"], "effective": ["CAP_KILL"]}

    found = build(spec, own=0b1)["build"]["process"]["capabilities"]

    assert found == {"bounding": 1, "effective": 0, "permitted": 0, "inheritable": 0, "ambient": 0}


def test_terminals_are_among_the_devices_that_may_be_used() -> None:
    rules = build(oci_spec(["true"]))["build"]["cgroup"]["resources"]["devices"]

    assert [(rule["major"], rule["minor"]) for rule in rules[-2:]] == [(5, 2), (136, -1)]
    assert rules[0]["allow"] is False


@pytest.mark.parametrize(("given", "expected"), [(-1, -1), (2**63 - 1, -1), (2**64 - 1, -1), (5, 5)])
def test_unlimited_has_several_names(given: int, expected: int) -> None:
    spec = oci_spec(["true"])
    spec["process"]["rlimits"] = [{"type": "RLIMIT_NOFILE", "soft": 5, "hard": given}]

    assert build(spec)["build"]["process"]["rlimits"][0][2:] == (5, expected)


def test_binds_are_known_by_type_or_option() -> None:
    spec = oci_spec(["true"])
    spec["mounts"] = [
        {"destination": "/a", "source": "/x", "type": "bind"},
        {"destination": "/b", "source": "/x", "options": ["rbind", "ro"]},
        {"destination": "/c", "source": "/x", "type": "none", "options": ["bind"]},
        {"destination": "/d", "source": "tmpfs", "type": "tmpfs"},
    ]

    assert [each["type"] for each in build(spec)["build"]["mounts"]] == ["bind", "bind", "bind", "tmpfs"]


def test_a_host_without_user_namespaces_says_why() -> None:
    spec = with_users(oci_spec(["true"]))
    with pytest.raises(Unsupported, match=r"linux.namespaces: no user namespace can be made: switched off"):
        build(spec, no_users="switched off")
