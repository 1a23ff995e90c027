"""Refusals and warnings before a container is made, in the words of dockerd."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest

from pyd_contracts.errors import InvalidArgument
from pyd_engine.containers import capabilities
from pyd_engine.containers.config import ContainerConfig, decode_create
from pyd_engine.containers.host_config import HostConfig
from pyd_engine.containers.limits import HostLimits
from pyd_engine.containers.signals import parse_signal, signal_name
from pyd_engine.containers.support import REFUSED, SUPPORTED, WARNED
from pyd_engine.containers.validation import HostFacts, check_name, validate

HOST = HostFacts(
    exists=lambda path: path == "/there",
    limits=HostLimits(cpus=frozenset({0, 1}), memory_nodes=frozenset({0})),
)


def check(host: HostFacts = HOST, **fields: Any) -> list[str]:
    return validate(decode_create(json.dumps({"Image": "x", **fields}).encode()), host)


def test_ordinary_requests_pass_without_warnings() -> None:
    assert check(Cmd=["a"], Hostname="web-1.example.com", Env=["A=1", "B"], StopSignal="TERM") == []
    assert (
        check(
            HostConfig={
                "Binds": ["/a:/b:ro,rslave,z", "name:/c:nocopy", "/d/../e:/f"],
                "Mounts": [{"Type": "bind", "Source": "/there", "Target": "/g"}],
                "Tmpfs": {"/t": "size=1m,mode=1777,exec"},
                "Memory": 6 << 20,
                "NanoCpus": 2 * 10**9,
                "CpusetCpus": "0-1",
                "Sysctls": {
                    "net.ipv4.ip_forward": "1",
                    "kernel.shmmax": "1",
                    "kernel.sem": "1",
                    "fs.mqueue.msg_max": "1",
                },
                "Ulimits": [{"Name": "nofile", "Soft": 1, "Hard": -1}],
                "CapAdd": ["net_admin", "CAP_SYS_TIME"],
                "CapDrop": ["all"],
                "RestartPolicy": {"Name": "on-failure", "MaximumRetryCount": 3},
                "ExtraHosts": ["a:10.0.0.1", "b:host-gateway", "c:::1", "d:[::1]"],
                "SecurityOpt": ["no-new-privileges", "label=disable", "seccomp=unconfined", "apparmor:x"],
            }
        )
        == []
    )


FAULTS: list[tuple[dict[str, Any], str]] = [
    ({"Memory": 1000}, "Minimum memory limit allowed is 6MB"),
    ({"Memory": -1}, "Minimum memory limit allowed is 6MB"),
    ({"MemorySwap": 100}, "You should always set the Memory limit when using Memoryswap limit, see usage"),
    ({"Memory": 7 << 20, "MemorySwap": 6 << 20}, "Minimum memoryswap limit should be larger than memory limit"),
    ({"MemoryReservation": 100}, "Minimum memory reservation allowed is 6MB"),
    ({"MemorySwappiness": 101}, "Invalid value: 101, valid memory swappiness range is 0-100"),
    ({"NanoCpus": 10**12}, "Range of CPUs is from 0.01 to 2.00, as there are only 2 CPUs available"),
    ({"NanoCpus": 10**9, "CpuQuota": 1000}, "Conflicting options: Nano CPUs and CPU Quota cannot both be set"),
    ({"CpuPeriod": 1}, "CPU cfs period can not be less than 1ms"),
    ({"CpuQuota": 1}, "CPU cfs quota can not be less than 1ms"),
    ({"CpusetCpus": "x"}, "Invalid value x for cpuset cpus: invalid format: x"),
    ({"CpusetCpus": "0,"}, "Invalid value 0, for cpuset cpus: invalid format: 0,"),
    ({"CpusetCpus": "0-99"}, "Requested CPUs are not available - requested 0-99"),
    ({"ShmSize": -1}, "SHM size can not be less than 0"),
    ({"OomScoreAdj": 2000}, "range for oom score adj is [-1000, 1000]"),
    ({"Ulimits": [{"Name": "foo"}]}, "invalid ulimit type: foo"),
    ({"Ulimits": [{"Name": "nofile", "Soft": 3, "Hard": 2}]}, "ulimit soft limit must be less than or equal to hard"),
    ({"CapAdd": ["FOO"]}, 'invalid CapAdd: unknown capability: "CAP_FOO"'),
    ({"CapDrop": ["CAP_"]}, 'invalid CapDrop: unknown capability: "CAP_"'),
    ({"RestartPolicy": {"Name": "foo"}}, "invalid restart policy"),
    ({"RestartPolicy": {"Name": "always", "MaximumRetryCount": 2}}, "maximum retry count"),
    (
        {"AutoRemove": True, "RestartPolicy": {"Name": "always"}},
        "can't create 'AutoRemove' container with restart policy",
    ),
    ({"NetworkMode": "container:"}, "invalid container format container:<name|id>"),
    ({"NetworkMode": "container:x", "Dns": ["1.1.1.1"]}, "conflicting options: dns and the network mode"),
    ({"NetworkMode": "container:x", "PublishAllPorts": True}, "conflicting options: port publishing"),
    ({"PidMode": "foo"}, "invalid PID mode: foo"),
    ({"IpcMode": "container:"}, "invalid IPC mode"),
    ({"UTSMode": "container:x"}, "invalid UTS mode"),
    ({"CgroupnsMode": "foo"}, "invalid cgroup namespace mode: foo"),
    ({"UsernsMode": "remap"}, "invalid user namespace mode"),
    ({"Runtime": "nope"}, "unknown or invalid runtime name: nope"),
    ({"SecurityOpt": ["foo"]}, 'invalid --security-opt 1: "foo"'),
    ({"SecurityOpt": ["no-new-privileges=maybe"]}, 'invalid --security-opt 2: "no-new-privileges=maybe"'),
    ({"SecurityOpt": ["seccomp={"]}, "Decoding seccomp profile failed"),
    ({"SecurityOpt": ["seccomp={}"]}, "seccomp profile: defaultAction is missing"),
    ({"Devices": [{"PathOnHost": "/dev/null", "CgroupPermissions": "rr"}]}, "invalid device mode: rr"),
    ({"DeviceCgroupRules": ["c 1:3"]}, "invalid device cgroup rule format: 'c 1:3'"),
    ({"ExtraHosts": ["x"]}, 'bad format for add-host: "x"'),
    ({"ExtraHosts": ["x:y"]}, 'invalid IP address in add-host: "y"'),
    ({"DnsSearch": ["a\nnameserver 6.6.6.6"]}, "DnsSearch must not hold control characters"),
    ({"ExtraHosts": ["a\n6.6.6.6 b:10.0.0.1"]}, "ExtraHosts must not hold control characters"),
    ({"PortBindings": {"80/foo": []}}, 'invalid port specification: "80/foo"'),
    ({"PortBindings": {"80/tcp": [{"HostPort": "65536"}]}}, 'invalid port specification: "65536"'),
    ({"PortBindings": {"٨٠/tcp": []}}, "invalid port specification"),
    ({"Binds": ["/a:/b", "/c:/b/"]}, "Duplicate mount point: /b"),
    ({"Binds": ["/a:/b"], "Tmpfs": {"/b": ""}}, "Duplicate mount point: /b"),
    ({"Mounts": [{"Type": "bind", "Source": "/nope", "Target": "/x"}]}, "bind source path does not exist: /nope"),
    ({"CgroupParent": "/a/../../b"}, "invalid CgroupParent"),
    ({"Links": ["x:y"], "NetworkMode": "host"}, "host type networking can't be used with links"),
    ({"BlkioWeight": 5}, "Range of blkio weight is from 10 to 1000"),
]


@pytest.mark.parametrize(("host_config", "said"), FAULTS, ids=[said[:40] for _, said in FAULTS])
def test_faults_of_the_host_configuration(host_config: dict[str, Any], said: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        check(HostConfig=host_config)
    assert said in str(caught.value)


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ({"WorkingDir": "x"}, "the working directory 'x' is invalid, it needs to be an absolute path"),
        ({"Env": ["=x"]}, "invalid environment variable: =x"),
        ({"Env": ["A=\0"]}, "NUL"),
        ({"Cmd": ["a\0"]}, "NUL"),
        ({"Hostname": "-x"}, "invalid hostname format: -x"),
        ({"Hostname": "a\n127.0.0.1 evil"}, "invalid hostname format"),
        ({"Hostname": "a" * 65}, "invalid hostname format"),
        ({"StopSignal": "foo"}, "invalid signal: foo"),
        ({"StopSignal": "65"}, "invalid signal: 65"),
        ({"StopSignal": "\u0661\u0665"}, "invalid signal"),
        ({"Volumes": {"/": {}}}, "destination can't be '/'"),
        ({"ExposedPorts": {"x": {}}}, 'invalid port specification: "x"'),
        ({"MacAddress": "x"}, "invalid MAC address"),
        ({"Healthcheck": {"Interval": 1}}, "Interval in Healthcheck cannot be less than 1ms"),
        ({"Healthcheck": {"Retries": -1}}, "Retries in Healthcheck cannot be negative"),
        ({"Healthcheck": {"Test": ["FOO"]}}, "Unknown healthcheck type"),
        ({"Hostname": "x", "HostConfig": {"NetworkMode": "container:a"}}, "hostname and the network mode"),
        ({"Hostname": "x", "HostConfig": {"UTSMode": "host"}}, "hostname and the UTS mode"),
        (
            {"NetworkingConfig": {"EndpointsConfig": {"n": {"IPAMConfig": {"IPv4Address": "::1"}}}}},
            "invalid IPv4 address: ::1",
        ),
    ],
)
def test_faults_of_the_configuration(config: dict[str, Any], said: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        check(**config)
    assert said in str(caught.value)


@pytest.mark.parametrize(
    "key",
    [
        "kernel.core_pattern",
        "kernel.shm_rmid_forced=1+kernel.core_pattern",  # CVE-2022-0811
        "net.ipv4/../../kernel.core_pattern",
        "net/ipv4/ip_forward",
        "net.ipv4.ip_forward\n",
        "net..x",
        "net.",
        "kernel.semaphore",
        "kernel.domainname",
        "fs.mqueue",
        "vm.overcommit_memory",
    ],
)
def test_only_namespaced_sysctls(key: str) -> None:
    with pytest.raises(InvalidArgument, match="not allowed"):
        check(HostConfig={"Sysctls": {key: "1"}})


@pytest.mark.parametrize(
    ("key", "mode"), [("net.ipv4.ip_forward", {"NetworkMode": "host"}), ("kernel.shmmax", {"IpcMode": "host"})]
)
def test_no_sysctls_of_a_namespace_that_is_the_hosts(key: str, mode: dict[str, str]) -> None:
    with pytest.raises(InvalidArgument, match="not allowed in host"):
        check(HostConfig={"Sysctls": {key: "1"}, **mode})


def test_what_a_kernel_lacks_is_warned_about() -> None:
    host = HostFacts(limits=HostLimits(lacking=frozenset({"swap", "pids", "blkio-weight", "oom-kill-disable"})))
    warnings = check(
        host,
        HostConfig={"Memory": 6 << 20, "PidsLimit": 5, "BlkioWeight": 10, "OomKillDisable": True, "KernelMemory": 1},
    )
    assert len(warnings) == 5
    assert all("discarded" in each or "without swap" in each for each in warnings)


def test_what_a_host_grants_in_part_is_warned_about() -> None:
    host = HostFacts(limits=HostLimits(hard={"nofile": 20000, "core": 0}, least_oom_score_adj=0))

    def warned(**asked: Any) -> list[str]:
        return check(host, HostConfig=asked)

    assert warned(OomScoreAdj=-500) == ["OOM score adjustment -500 is less than this daemon may give; 0 is used"]
    for soft, hard in ((1024, 30000), (-1, -1), (1024, -1)):
        (said,) = warned(Ulimits=[{"Name": "nofile", "Soft": soft, "Hard": hard}])
        assert said == f"ulimit nofile={soft}:{hard} is above this host's hard limit; 20000 is used"
    assert warned(CpuShares=1) == ["CPU shares 1 are not from 2 to 262144; 2 is used"]
    assert "262144 is used" in warned(CpuShares=10**6)[0]
    granted = [{"Name": "nofile", "Soft": 5, "Hard": 20000}, {"Name": "memlock", "Soft": -1, "Hard": -1}]
    assert not warned(OomScoreAdj=5, CpuShares=2, Ulimits=granted)


@pytest.mark.parametrize(
    ("lacking", "runtime", "period", "words"),
    [
        ({"cpu-realtime"}, 1000, 0, "kernel does not support CPU real-time scheduler"),
        ({"cpu-realtime"}, 0, 1000, "kernel does not support CPU real-time scheduler"),
        (set(), 5000, 1000, "cpu real-time runtime cannot be higher than cpu real-time period"),
        (set(), -1, 0, "cannot be negative"),
    ],
)
def test_real_time_that_cannot_be(lacking: set[str], runtime: int, period: int, words: str) -> None:
    asked = {"CpuRealtimeRuntime": runtime, "CpuRealtimePeriod": period}
    with pytest.raises(InvalidArgument, match=words):
        check(HostFacts(limits=HostLimits(lacking=frozenset(lacking))), HostConfig=asked)
    assert check(HostConfig={"CpuRealtimeRuntime": 1000, "CpuRealtimePeriod": 1000}) == []


def test_what_is_not_done_is_said() -> None:
    ports = {"80/tcp": [{"HostIp": "::1", "HostPort": "8000-8010"}], "90-91/UDP": None}
    assert check(HostConfig={"PortBindings": ports}) == []
    assert len(check(HostConfig={"PortBindings": ports, "NetworkMode": "host"})) == 1
    assert check(Healthcheck={"Test": ["CMD", "true"]}, HostConfig={"PortBindings": {}}) == []


def test_every_field_is_in_one_table() -> None:
    for record in (ContainerConfig, HostConfig):
        tables = [set(SUPPORTED[record]), set(WARNED[record]), set(REFUSED[record])]
        names = {each.name for each in msgspec.structs.fields(record)}
        assert set.union(*tables) == names
        assert sum(map(len, tables)) == len(names)


@pytest.mark.parametrize("name", ["a", "-x", "_x", "a b", "a/b", "", "ä1", "ab\n"])
def test_bad_names(name: str) -> None:
    with pytest.raises(InvalidArgument, match="Invalid container name"):
        check_name(name)


def test_good_names() -> None:
    assert check_name("/web_1.a-b") == "web_1.a-b"


def test_signals() -> None:
    assert [parse_signal(each) for each in ("TERM", "SIGTERM", "sigterm", "15", "RTMIN+3", "RTMAX", "CLD")] == [
        15, 15, 15, 15, 37, 64, 17
    ]  # fmt: skip
    assert signal_name(9) == "SIGKILL"
    assert signal_name(63) == "63"


def test_capabilities_follow_dockers_rules() -> None:
    granted = capabilities.granted
    assert set(granted((), ())) == set(capabilities.DEFAULT)
    assert "CAP_CHOWN" not in granted((), ("chown",))
    assert granted(("sys_time",), ("ALL",)) == ("CAP_SYS_TIME",)
    assert set(granted(("ALL",), ("CAP_SYS_ADMIN",))) == set(capabilities.ALL) - {"CAP_SYS_ADMIN"}
    assert granted((), ("ALL",)) == ()
    have = [name for name in capabilities.ALL if name != "CAP_SYS_RESOURCE"]
    assert set(granted((), (), privileged=True, available=have)) == set(have)
    with pytest.raises(InvalidArgument, match="not available in the current environment"):
        granted(("SYS_RESOURCE",), (), available=have)
    mask = 0xA80425FB  # a default container's, as /proc shows it
    assert set(capabilities.from_mask(mask)) == set(capabilities.DEFAULT)
