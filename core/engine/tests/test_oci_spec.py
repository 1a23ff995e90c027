"""The OCI document of a container: what dockerd gives runc, and where pyd is stricter."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path
from typing import Any

import pytest

from pyd_contracts.errors import InvalidArgument, NotFound
from pyd_engine.containers import capabilities
from pyd_engine.containers.binds import Bind
from pyd_engine.containers.config import ContainerConfig, ExecConfig
from pyd_engine.containers.defaults import with_defaults
from pyd_engine.containers.devices import Device, device_numbers, host_devices, parse_rule, resolve_devices
from pyd_engine.containers.host_config import DeviceMapping, HostConfig, ThrottleDevice, Ulimit
from pyd_engine.containers.oci import HostView, Surroundings, build_environment, build_exec_process, build_spec
from pyd_engine.containers.oci_mounts import Shared

HOST = HostView(possible_cpus=(0, 1))
FILES = {f"/etc/{name}": f"/run/x/{name}" for name in ("resolv.conf", "hostname", "hosts")}
AROUND = Surroundings(root="/run/x/rootfs", hostname="h", cgroups_path="/pyd/x", shared=Shared(files=FILES))


def build(config: dict[str, Any] | None = None, around: Surroundings = AROUND, **host_config: Any) -> dict[str, Any]:
    return build_spec(
        ContainerConfig(**{"cmd": ("sh",), **(config or {})}), with_defaults(HostConfig(**host_config)), around, HOST
    )


def mount(spec: dict[str, Any], destination: str) -> dict[str, Any] | None:
    found = [each for each in spec["mounts"] if each["destination"] == destination]
    assert len(found) <= 1
    return found[0] if found else None


def namespaces(spec: dict[str, Any]) -> dict[str, str]:
    return {each["type"]: each.get("path", "") for each in spec["linux"]["namespaces"]}


def test_the_process() -> None:
    spec = build({"env": ("A=1",), "user": "app:staff", "working_dir": "/srv", "entrypoint": ("e",)})
    process = spec["process"]
    assert process["args"] == ["e", "sh"]
    assert process["cwd"] == "/srv"
    assert process["user"]["username"] == "app:staff"
    assert process["env"] == [
        "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        "HOSTNAME=h",
        "A=1",
    ]
    sets = process["capabilities"]
    for name in ("bounding", "effective", "permitted"):
        assert set(sets[name]) == set(capabilities.DEFAULT)
    assert sets["inheritable"] == sets["ambient"] == []
    assert process["noNewPrivileges"] is False
    assert spec["root"] == {"path": "/run/x/rootfs", "readonly": False}
    assert spec["hostname"] == "h"


def test_environment_overrides_and_takes_away() -> None:
    config = ContainerConfig(tty=True, env=("PATH=/bin", "TERM", "B=", "B=2"))
    assert build_environment(config, "h", ("HOSTNAME=other",)) == ["PATH=/bin", "HOSTNAME=other", "B=2"]


def test_default_mounts_in_order() -> None:
    spec = build()
    assert [each["destination"] for each in spec["mounts"]] == [
        "/proc", "/dev", "/dev/pts", "/sys", "/sys/fs/cgroup", "/dev/mqueue", "/dev/shm",
        "/etc/resolv.conf", "/etc/hostname", "/etc/hosts",
    ]  # fmt: skip
    assert mount(spec, "/sys") == {
        "destination": "/sys",
        "type": "sysfs",
        "source": "sysfs",
        "options": ["nosuid", "noexec", "nodev", "ro"],
    }
    dev = mount(spec, "/dev")
    assert dev is not None
    assert dev["options"] == ["nosuid", "strictatime", "mode=755", "size=65536k"]
    shm = mount(build(shm_size=5), "/dev/shm")
    assert shm is not None
    assert "size=5" in shm["options"]


def test_user_mounts_by_depth_and_in_place_of_ours() -> None:
    binds = (
        Bind("bind", "/s1", "/a/b/c", read_only=True, propagation="rslave"),
        Bind("bind", "/s2", "/a", recursive=False),
        Bind("bind", "/s3", "/etc/hosts"),
        Bind("bind", "/s4", "/dev/shm"),
        Bind("tmpfs", "", "/t", mode="exec,size=1m", read_only=True),
    )
    spec = build(around=dataclasses.replace(AROUND, mounts=binds))
    order = [each["destination"] for each in spec["mounts"]]
    assert order.index("/a") < order.index("/a/b/c")
    for destination, source in (("/etc/hosts", "/s3"), ("/dev/shm", "/s4")):
        found = mount(spec, destination)
        assert found is not None
        assert found["source"] == source
    deep, flat, tmpfs = mount(spec, "/a/b/c"), mount(spec, "/a"), mount(spec, "/t")
    assert deep is not None
    assert deep["options"] == ["rbind", "ro", "rro", "rslave"]
    assert flat is not None
    assert flat["options"] == ["bind", "rprivate"]
    assert tmpfs is not None
    assert tmpfs["options"] == ["nosuid", "nodev", "rprivate", "exec", "size=1m", "ro"]
    assert spec["linux"]["rootfsPropagation"] == "rslave"


def test_a_bind_over_dev_brings_its_own() -> None:
    spec = build(around=dataclasses.replace(AROUND, mounts=(Bind("bind", "/s", "/dev"),)))
    assert [each["destination"] for each in spec["mounts"] if each["destination"].startswith("/dev")] == ["/dev"]


def test_volumes_must_be_resolved() -> None:
    with pytest.raises(InvalidArgument, match="the volume data is not resolved"):
        build(around=dataclasses.replace(AROUND, mounts=(Bind("volume", "data", "/d"),)))


def test_hidden_and_read_only_paths() -> None:
    linux = build()["linux"]
    for path in ("/proc/kcore", "/proc/interrupts", "/sys/devices/virtual/powercap", "/sys/firmware"):
        assert path in linux["maskedPaths"]
    assert "/proc/sys" in linux["readonlyPaths"]
    assert build(masked_paths=("/x",), readonly_paths=())["linux"]["maskedPaths"] == ["/x"]
    thermal = "/sys/devices/system/cpu/cpu1/thermal_throttle"
    assert thermal in build_spec(ContainerConfig(cmd=("a",)), HostConfig(), AROUND, HOST)["linux"]["maskedPaths"]


def test_namespaces_by_mode() -> None:
    assert namespaces(build()) == {"mount": "", "network": "", "uts": "", "pid": "", "ipc": "", "cgroup": ""}
    hosts = build(network_mode="host", uts_mode="host", pid_mode="host", ipc_mode="host", cgroupns_mode="host")
    assert namespaces(hosts) == {"mount": ""}
    assert "hostname" not in hosts
    assert "sysctl" not in hosts["linux"]
    shm = mount(hosts, "/dev/shm")
    assert shm is not None
    assert shm["source"] == "/dev/shm"
    joined = build(
        around=dataclasses.replace(
            AROUND, namespaces={"network": "/proc/7/ns/net", "ipc": "/i"}, shared=Shared(FILES, shm="/other/shm")
        ),
        network_mode="container:a",
        ipc_mode="container:a",
    )
    assert namespaces(joined)["network"] == "/proc/7/ns/net"
    assert "sysctl" not in joined["linux"]
    shm = mount(joined, "/dev/shm")
    assert shm is not None
    assert shm["source"] == "/other/shm"
    assert mount(build(ipc_mode="none"), "/dev/shm") is None
    with pytest.raises(InvalidArgument, match="pid namespace of container:a: not resolved"):
        build(pid_mode="container:a")


def test_privileged_containers_see_all() -> None:
    extra = Device("/dev/sda", "b", 8, 0, 0o660)
    spec = build(around=dataclasses.replace(AROUND, devices=(extra,)), privileged=True)
    assert spec["process"]["capabilities"]["bounding"] == list(capabilities.ALL)
    assert spec["linux"]["resources"]["devices"] == [{"allow": True, "access": "rwm"}]
    assert spec["linux"]["maskedPaths"] == spec["linux"]["readonlyPaths"] == []
    assert "seccomp" not in spec["linux"]
    system = mount(spec, "/sys")
    assert system is not None
    assert "ro" not in system["options"]
    assert spec["linux"]["devices"][-1]["path"] == "/dev/sda"


def test_devices_and_their_rules() -> None:
    device = Device("/dev/fuse", "c", 10, 229, access="rw")
    spec = build(around=dataclasses.replace(AROUND, devices=(device,)), device_cgroup_rules=("c 13:* rwm",))
    rules = spec["linux"]["resources"]["devices"]
    assert rules[0] == {"allow": False, "access": "rwm"}
    assert rules[-3] == {"allow": False, "type": "c", "major": 10, "minor": 229, "access": "rwm"}
    assert rules[-2] == {"allow": True, "type": "c", "major": 10, "minor": 229, "access": "rw"}
    assert rules[-1] == {"allow": True, "type": "c", "major": 13, "access": "rwm"}
    paths = [each["path"] for each in spec["linux"]["devices"]]
    assert paths == [*(f"/dev/{n}" for n in ("null", "zero", "full", "random", "urandom", "tty")), "/dev/fuse"]
    with pytest.raises(InvalidArgument):
        parse_rule("c 13 rwm")


def test_devices_are_looked_up_on_the_host(tmp_path: Path) -> None:
    (found,) = resolve_devices(
        [DeviceMapping(path_on_host="/dev/zero", path_in_container="/dev/z", cgroup_permissions="r")]
    )
    assert (found.path, found.type, found.major, found.minor, found.access) == ("/dev/z", "c", 1, 5, "r")
    with pytest.raises(NotFound, match="error gathering device information"):
        resolve_devices([DeviceMapping(path_on_host=str(tmp_path / "nope"))])
    (tmp_path / "file").touch()
    with pytest.raises(InvalidArgument, match="not a device node"):
        resolve_devices([DeviceMapping(path_on_host=str(tmp_path / "file"))])
    with pytest.raises(InvalidArgument, match="not a device node"):
        resolve_devices([DeviceMapping(path_on_host=str(tmp_path))])
    with pytest.raises(InvalidArgument, match="not a block device"):
        device_numbers(["/dev/null"])
    with pytest.raises(NotFound):
        device_numbers(["/dev/no-such-disk"])


@pytest.mark.root
def test_a_directory_gives_its_devices(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    os.mknod(tmp_path / "in" / "n", 0o20660, os.makedev(1, 3))
    (tmp_path / "in" / "n").chmod(0o660)
    (tmp_path / "link").symlink_to("/dev/zero")
    (found,) = resolve_devices([DeviceMapping(path_on_host=str(tmp_path), path_in_container="/dev/d")])
    assert (found.path, found.mode) == ("/dev/d/in/n", 0o660)
    assert [each.path for each in host_devices(str(tmp_path))] == [str(tmp_path / "in" / "n")]


def test_resources_only_when_given() -> None:
    assert set(build()["linux"]["resources"]) == {"devices"}
    resources = build(
        around=dataclasses.replace(AROUND, block_numbers={"/dev/sda": (8, 0)}),
        memory=8 << 20,
        nano_cpus=1_500_000_000,
        cpuset_cpus="0",
        pids_limit=7,
        blkio_weight=100,
        blkio_device_read_iops=(ThrottleDevice(path="/dev/sda", rate=9),),
        memory_swappiness=0,
    )["linux"]["resources"]
    assert resources["memory"] == {"limit": 8 << 20, "swap": 16 << 20, "swappiness": 0}
    assert resources["cpu"] == {"period": 100_000, "quota": 150_000, "cpus": "0"}
    assert resources["pids"] == {"limit": 7}
    assert resources["blockIO"] == {
        "weight": 100,
        "throttleReadIOPSDevice": [{"major": 8, "minor": 0, "rate": 9}],
    }
    assert "pids" not in build(pids_limit=-1)["linux"]["resources"]


def test_limits_groups_and_the_rest() -> None:
    spec = build(
        {"tty": True, "domainname": "d"},
        ulimits=(Ulimit(name="nofile", soft=1, hard=2), Ulimit(name="core", soft=-1, hard=-1)),
        group_add=("audio", "44"),
        readonly_rootfs=True,
        oom_score_adj=-5,
        console_size=(24, 80),
        annotations={"a": "b"},
        security_opt=("no-new-privileges", "apparmor=mine"),
        sysctls={"net.ipv4.ping_group_range": "1 0"},
    )
    process = spec["process"]
    assert process["rlimits"] == [
        {"type": "RLIMIT_NOFILE", "hard": 2, "soft": 1},
        {"type": "RLIMIT_CORE", "hard": 2**64 - 1, "soft": 2**64 - 1},
    ]
    assert process["user"]["additionalGids"] == [44]
    assert process["user"]["additionalGroups"] == ["audio"]
    assert process["noNewPrivileges"] is True
    assert process["apparmorProfile"] == "mine"
    assert process["oomScoreAdj"] == -5
    assert process["consoleSize"] == {"height": 24, "width": 80}
    assert "TERM=xterm" in process["env"]
    assert spec["root"]["readonly"] is True
    assert spec["domainname"] == "d"
    assert spec["annotations"] == {"a": "b"}
    assert spec["linux"]["sysctl"] == {
        "net.ipv4.ping_group_range": "1 0",
        "net.ipv4.ip_unprivileged_port_start": "0",
    }


def test_an_init_goes_before_the_program() -> None:
    spec = build(around=dataclasses.replace(AROUND, shared=Shared(FILES, init="/usr/bin/tini")))
    assert spec["process"]["args"] == ["/sbin/docker-init", "--", "sh"]
    found = mount(spec, "/sbin/docker-init")
    assert found is not None
    assert found["options"] == ["bind", "ro", "rprivate"]


def test_seccomp_choices() -> None:
    assert build()["linux"]["seccomp"]["defaultAction"] == "SCMP_ACT_ERRNO"
    assert "seccomp" not in build(security_opt=("seccomp=unconfined",))["linux"]
    own = 'seccomp={"defaultAction":"SCMP_ACT_ALLOW"}'
    for privileged in (False, True):
        profile = build(security_opt=(own,), privileged=privileged)["linux"]["seccomp"]
        assert profile["defaultAction"] == "SCMP_ACT_ALLOW"


def test_exec_processes_are_like_the_container() -> None:
    config = ContainerConfig(cmd=("sh",), env=("A=1",), user="app", working_dir="/srv")
    host_config = with_defaults(HostConfig(ulimits=(Ulimit(name="core", soft=1, hard=1),), cap_drop=("ALL",)))
    spec = build_spec(config, host_config, AROUND, HOST)
    process = build_exec_process(ExecConfig(cmd=("ls",), env=("A=2",)), config, host_config, "h", spec, HOST)
    assert process["args"] == ["ls"]
    assert process["cwd"] == "/srv"
    assert process["user"]["username"] == "app"
    assert process["env"][-1] == "A=2"
    assert process["capabilities"]["bounding"] == []
    assert process["rlimits"] == spec["process"]["rlimits"]
    assert process["seccomp"] == spec["linux"]["seccomp"]
    mighty = build_exec_process(
        ExecConfig(cmd=("ls",), privileged=True, user="0"), config, host_config, "h", spec, HOST
    )
    assert mighty["capabilities"]["bounding"] == list(capabilities.ALL)
    assert mighty["user"]["username"] == "0"
    assert "seccomp" not in mighty
