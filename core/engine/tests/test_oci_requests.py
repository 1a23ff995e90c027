"""Bodies of create and exec requests: Go's rules for JSON, refusals that name the field, and what inspect shows."""

from __future__ import annotations

import json
import random
from typing import Any

import msgspec
import pytest

from pyd_contracts.errors import InvalidArgument
from pyd_engine.containers.config import (
    ContainerConfig,
    CreateRequest,
    decode_create,
    decode_exec_create,
    decode_exec_start,
    image_config,
)
from pyd_engine.containers.host_config import HostConfig, MountConfig, PortBinding, Ulimit
from pyd_engine.containers.records import shown


def create(**fields: Any) -> CreateRequest:
    return decode_create(json.dumps({"Image": "x", **fields}).encode())


def test_a_request_of_the_docker_client_is_read_whole() -> None:
    request = create(
        Cmd=["sleep", "1"],
        ExposedPorts={"80/tcp": {}},
        HostConfig={
            "PortBindings": {"80/tcp": [{"HostIp": "", "HostPort": "8080"}]},
            "Ulimits": [{"Name": "nofile", "Soft": 1, "Hard": 2}],
            "Mounts": [{"Type": "tmpfs", "Target": "/t"}],
            "MaskedPaths": None,
        },
        NetworkingConfig={"EndpointsConfig": {"net": {"Aliases": ["a"], "IPAMConfig": {"IPv4Address": "10.0.0.2"}}}},
    )
    assert request.config.cmd == ("sleep", "1")
    assert request.host_config.port_bindings == {"80/tcp": (PortBinding(host_port="8080"),)}
    assert request.host_config.ulimits == (Ulimit(name="nofile", soft=1, hard=2),)
    assert request.host_config.mounts == (MountConfig(type="tmpfs", target="/t"),)
    endpoints = request.networking_config.endpoints_config
    assert endpoints is not None
    assert endpoints["net"].aliases == ("a",)
    assert endpoints["net"].ipam_config is not None
    assert endpoints["net"].ipam_config.ipv4_address == "10.0.0.2"


def test_keys_match_in_any_case_and_the_last_one_wins() -> None:
    body = b'{"image":"a","IMAGE":"b","hostconfig":{"memory":7,"blkiodevicereadiops":[{"path":"/dev/x","RATE":3}]}}'
    request = decode_create(body)
    assert request.config.image == "b"
    assert request.host_config.memory == 7
    assert request.host_config.blkio_device_read_iops is not None
    assert request.host_config.blkio_device_read_iops[0].rate == 3


def test_null_is_the_default_and_the_zero_value_inside() -> None:
    request = create(
        Env=[None], Labels={"a": None}, Volumes={"/v": None}, Cmd=None, HostConfig={"Memory": None, "Ulimits": [None]}
    )
    assert request.config.env == ("",)
    assert request.config.labels == {"a": ""}
    assert request.config.volumes == {"/v": {}}
    assert request.config.cmd is None
    assert request.host_config.memory == 0
    assert request.host_config.ulimits == (Ulimit(),)
    assert create(HostConfig=None, NetworkingConfig=None).host_config == HostConfig()


def test_a_string_may_stand_for_a_list_where_docker_says_so() -> None:
    request = create(Cmd="ls -l", Entrypoint="", Shell="/bin/sh", HostConfig={"CapAdd": "ALL"})
    assert request.config.cmd == ("ls -l",)
    assert request.config.entrypoint == ("",)
    assert request.config.shell == ("/bin/sh",)
    assert request.host_config.cap_add == ("ALL",)


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b"", "invalid JSON: got EOF"),
        (b"{", "invalid JSON"),
        (b"[]", "invalid JSON: expected object, got array"),
        (b"null", "config cannot be empty"),
        (b"{}", "config cannot be empty"),
        (b'{"HostConfig":{}}', "config cannot be empty"),
        (b'{"Image":1}', "Image: expected str, got int"),
        (b'{"Image":"x","HostConfig":[]}', "HostConfig: expected object, got array"),
        (b'{"Image":"x","hostconfig":{"memory":"1"}}', "HostConfig.Memory: expected int, got str"),
        (b'{"Image":"x","HostConfig":{"Memory":1e3}}', "HostConfig.Memory"),
        (b'{"Image":"x","HostConfig":{"Memory":9223372036854775808}}', "HostConfig.Memory"),
        (b'{"Image":"x","HostConfig":{"Ulimits":[{},3]}}', "HostConfig.Ulimits[1]: expected object"),
        (b'{"Image":"x","Env":"A=1"}', "Env: expected array"),
        (b'{"Image":"x","Env":[1]}', "Env[0]: expected str"),
        (b'{"Image":"x","StopTimeout":NaN}', "invalid JSON"),
        (b'{"Image":"x"} x', "invalid JSON"),
        (b'{"Image":"\xff"}', "invalid JSON"),
        (b'{"Image":"\\ud800"}', "invalid JSON"),
        (b'{"HostConfig":{"Memory":' + b"9" * 5000 + b"}}", "invalid JSON"),
        (b"[" * 200_000, "invalid JSON: nested too deep"),
        (b'{"Image":' * 200_000, "invalid JSON: nested too deep"),
    ],
)
def test_what_is_refused_names_the_place(body: bytes, said: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        decode_create(body)
    assert said in str(caught.value)


def test_no_document_makes_a_traceback() -> None:
    """Random documents out of the right keys and all kinds of values: an answer or InvalidArgument, nothing else."""
    rng = random.Random(17)
    keys = [each.encode_name for kind in (ContainerConfig, HostConfig) for each in msgspec.structs.fields(kind)]

    def value(depth: int) -> Any:
        pick = rng.randrange(9 if depth else 6)
        if pick > 5:
            if rng.random() < 0.5:
                return [value(depth - 1) for _ in range(rng.randrange(3))]
            return {rng.choice([*keys, "80/tcp", "Name"]): value(depth - 1) for _ in range(rng.randrange(4))}
        return [None, True, rng.randrange(-(2**65), 2**65), 1.5, "", "é\0x"][pick]

    refused = 0
    for _ in range(3000):
        document = {rng.choice([*keys, "HostConfig", "NetworkingConfig"]): value(3) for _ in range(rng.randrange(1, 5))}
        try:
            decode_create(json.dumps(document).encode())
        except InvalidArgument:
            refused += 1
    assert 100 < refused < 3000


def test_storing_keeps_everything() -> None:
    request = create(
        Cmd=[], Entrypoint=["a"], StopTimeout=0, Healthcheck={"Test": ["NONE"]}, HostConfig={"Init": False, "Dns": []}
    )
    assert msgspec.json.decode(msgspec.json.encode(request), type=CreateRequest) == request


def test_inspect_shows_dockers_null_and_leaves_out_what_it_leaves_out() -> None:
    """Taken from dockerd 20.10: fields that are omitempty there, null for lists that were never given."""
    config = shown(create(Cmd=["a"], HostConfig={}).config)
    assert config["Entrypoint"] is None
    assert config["Env"] is None
    assert config["Volumes"] is None
    for absent in (
        "ArgsEscaped",
        "ExposedPorts",
        "Healthcheck",
        "NetworkDisabled",
        "StopSignal",
        "StopTimeout",
        "Shell",
    ):
        assert absent not in config
    host_config = shown(HostConfig())
    assert host_config["CapAdd"] is None
    assert host_config["Binds"] is None
    assert host_config["ConsoleSize"] == [0, 0]
    for absent in ("Mounts", "Tmpfs", "Sysctls", "StorageOpt", "Init", "Annotations", "KernelMemory"):
        assert absent not in host_config
    given = create(StopTimeout=0, HostConfig={"Init": False, "Mounts": [{"Type": "bind", "Target": "/a"}]})
    assert shown(given.config)["StopTimeout"] == 0
    assert shown(given.host_config)["Init"] is False
    assert shown(given.host_config)["Mounts"] == [{"Type": "bind", "Target": "/a"}]


def test_exec_requests() -> None:
    config = decode_exec_create(b'{"Cmd":["ls"],"tty":true,"Env":["A=1"],"DetachKeys":null,"ConsoleSize":[1,2]}')
    assert config.cmd == ("ls",)
    assert config.tty
    assert config.console_size == (1, 2)
    for body, said in (
        (b"null", "No exec command specified"),
        (b"{}", "No exec command specified"),
        (b'{"Cmd":"ls"}', "Cmd: expected array"),
        (b'{"Cmd":["a\\u0000b"]}', "NUL"),
        (b'{"Cmd":["a"],"WorkingDir":"b"}', "absolute"),
    ):
        with pytest.raises(InvalidArgument, match=said):
            decode_exec_create(body)
    assert not decode_exec_start(b"").detach
    assert decode_exec_start(b'{"detach":true}').detach


def test_image_configurations_come_from_strangers() -> None:
    assert image_config(None) == ContainerConfig()
    assert image_config({"Cmd": "x", "Unknown": [1]}).cmd == ("x",)
    with pytest.raises(InvalidArgument, match=r"invalid image configuration: Env\[0\]"):
        image_config({"Env": [{}]})
