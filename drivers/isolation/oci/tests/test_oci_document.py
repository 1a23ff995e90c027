"""What of a document reaches a runtime: checked and named, before any process is made."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from pyd_conformance.isolation_stage import oci_spec
from pyd_contracts.errors import InvalidArgument, Unsupported
from pyd_contracts.values import Sandbox, Stdio
from pyd_isolation_oci.document import build, groups_path

ALL = (1 << 41) - 1
BUNDLE = Path("/run/pyd/containers/c")


def built(own: int = ALL, **changes: Any) -> dict[str, Any]:
    """The document of an ordinary container with *changes*, by dotted field."""
    spec = oci_spec(["true"])
    spec["root"] = {"path": str(BUNDLE / "rootfs")}
    for field, value in changes.items():
        place = spec
        *above, last = field.split("__")
        for key in above:
            place = place.setdefault(key, {})
        place[last] = value
    return build(Sandbox(BUNDLE, BUNDLE, spec, (), Stdio()), own, "/pyd/c")


@pytest.mark.parametrize(
    ("field", "value", "named"),
    [
        ("hooks", {"prestart": [{"path": "/bin/true"}]}, "hooks"),
        ("windows", {"x": 1}, "windows"),
        ("linux__intelRdt", {"closID": "x"}, "linux.intelRdt"),
        ("root__path", "/elsewhere", "root.path"),
        ("root__path", str(BUNDLE / "../other/rootfs"), "root.path"),
        ("process__args", [], "process.args"),
        ("process__cwd", "relative", "process.cwd"),
        ("process__rlimits", [{"type": "RLIMIT_NONE", "soft": 1, "hard": 1}], "process.rlimits"),
        ("process__capabilities", {"bounding": ["CAP_NONE"]}, "process.capabilities.bounding"),
        ("mounts", [{"destination": "tmp", "type": "tmpfs"}], "mounts"),
        ("mounts", [{"destination": "/tmp", "type": "bind", "source": "here"}], "mounts"),
        ("linux__namespaces", [{"type": "mount"}, {"type": "strange"}], "linux.namespaces"),
        ("linux__namespaces", [{"type": "pid"}], "linux.namespaces"),
        ("linux__namespaces", [{"type": "mount"}, {"type": "pid"}, {"type": "pid"}], "linux.namespaces"),
        ("linux__namespaces", [{"type": "mount"}, {"type": "pid", "path": "ns"}], "linux.namespaces"),
        ("linux__maskedPaths", ["proc/kcore"], "linux.maskedPaths"),
        ("linux__devices", [{"path": "/etc/x", "type": "c"}], "linux.devices"),
        ("linux__devices", [{"path": "/dev/../x", "type": "c"}], "linux.devices"),
    ],
)
def test_faults_are_named(field: str, value: object, named: str) -> None:
    with pytest.raises(InvalidArgument, match=named.replace(".", r"\.")):
        built(**{field: value})


IDS = [{"containerID": 0, "hostID": 200_000, "size": 65_536}]
USERS = {
    "linux__namespaces": [{"type": "mount"}, {"type": "user"}],
    "linux__uidMappings": IDS,
    "linux__gidMappings": IDS,
}


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({**USERS, "linux__gidMappings": []}, "linux.gidMappings: a user namespace needs them"),
        ({**USERS, "linux__namespaces": [{"type": "mount"}]}, "linux.uidMappings: there is no user namespace for them"),
        (
            {**USERS, "linux__uidMappings": [{"containerID": 0}]},
            "linux.uidMappings: .* has no containerID, hostID and size",
        ),
    ],
)
def test_maps_that_cannot_be(changes: dict[str, Any], named: str) -> None:
    with pytest.raises(InvalidArgument, match=named):
        built(**changes)


def test_a_user_namespace() -> None:
    document = built(**USERS, domainname="example")
    assert document["linux"]["uidMappings"] == document["linux"]["gidMappings"] == IDS
    assert document["domainname"] == "example"  # the builder sets it: the sysctl is the host's root's to write
    assert "sysctl" not in document["linux"]


def test_time_namespaces_are_not_made() -> None:
    with pytest.raises(Unsupported, match="time namespaces"):
        built(linux__namespaces=[{"type": "mount"}, {"type": "time"}])


def test_what_this_host_lacks_is_not_asked_for() -> None:
    assert built(own=1)["process"]["capabilities"]["bounding"] == ["CAP_CHOWN"]


def test_what_every_runtime_knows() -> None:
    document = built(domainname="example")
    assert "domainname" not in document
    assert document["linux"]["sysctl"] == {"kernel.domainname": "example"}
    assert document["ociVersion"] == "1.0.2"


def test_wide_device_rules_come_last() -> None:
    wide = {"allow": True, "type": "c", "access": "m"}
    one = {"allow": False, "type": "c", "major": 10, "minor": 229, "access": "rwm"}
    rules = built(linux__resources={"devices": [{"allow": False, "access": "rwm"}, wide, one]})["linux"]["resources"]
    assert rules["devices"][1:] == [one, wide]


def test_control_groups_in_systemds_words() -> None:
    assert groups_path("/pyd/c", "c", systemd=False) == ("/pyd/c", "/pyd/c")
    assert groups_path("/pyd/c", "c", systemd=True) == ("system.slice:pyd:c", "/system.slice/pyd-c.scope")
    assert groups_path("/a-b.slice/c", "c", systemd=True) == ("a-b.slice:pyd:c", "/a.slice/a-b.slice/pyd-c.scope")
