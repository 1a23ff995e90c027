"""Fields of a create request that go into the document as they are."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from pyd_engine.containers.config import ContainerConfig
from pyd_engine.containers.container import Container, Phase, RunState
from pyd_engine.containers.files import resolv_conf_text
from pyd_engine.containers.host_config import HostConfig, ThrottleDevice, WeightDevice
from pyd_engine.containers.oci_resources import build_resources
from pyd_engine.containers.specs import Specs

DEVICE = "/dev/sda"


@pytest.mark.parametrize(
    ("field", "key"),
    [
        ("blkio_device_read_bps", "throttleReadBpsDevice"),
        ("blkio_device_write_bps", "throttleWriteBpsDevice"),
        ("blkio_device_read_iops", "throttleReadIOPSDevice"),
        ("blkio_device_write_iops", "throttleWriteIOPSDevice"),
    ],
)
def test_throttles_of_block_devices(field: str, key: str) -> None:
    fields: dict[str, Any] = {field: (ThrottleDevice(path=DEVICE, rate=7),)}
    resources = build_resources(HostConfig(**fields), (), {DEVICE: (8, 0)})
    assert resources["blockIO"] == {key: [{"major": 8, "minor": 0, "rate": 7}]}


def test_weights_of_block_devices() -> None:
    config = HostConfig(blkio_weight=300, blkio_weight_device=(WeightDevice(path=DEVICE, weight=200),))
    found = build_resources(config, (), {DEVICE: (8, 0)})["blockIO"]
    assert found == {"weight": 300, "weightDevice": [{"major": 8, "minor": 0, "weight": 200}]}


def test_the_group_is_below_the_parent_that_was_asked_for() -> None:
    specs = Specs(runtimes=frozenset({"namespaces"}), default_runtime="namespaces", cgroup_parent="/pyd")

    def path(host_config: HostConfig) -> object:
        container = Container(
            id="a" * 64, name="c", created_ns=0, image="", image_ref="", path="true", args=(),
            config=ContainerConfig(cmd=("true",)), host_config=host_config, storage="overlay", isolation="namespaces",
            state=RunState(phase=Phase.CREATED),
        )  # fmt: skip
        document: Any = specs.container(container, root=Path("/r"), files={}, namespaces={"network": ""}, hostname="h")
        return document["linux"]["cgroupsPath"]

    assert path(HostConfig()) == f"/pyd/{'a' * 64}"
    assert path(HostConfig(cgroup_parent="/mine")) == f"/mine/{'a' * 64}"


def test_the_resolver_has_the_servers_domains_and_options_asked_for() -> None:
    text = resolv_conf_text(
        "nameserver 192.0.2.1\nsearch host.example\n", ("192.0.2.53",), ("a.b",), ("ndots:3",), own_namespace=True
    )
    lines = [line for line in text.splitlines() if not line.startswith("#")]
    assert sorted(lines) == ["nameserver 192.0.2.53", "options ndots:3", "search a.b"]
