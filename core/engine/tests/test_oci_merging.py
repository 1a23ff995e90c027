"""A container's configuration over its image's, and over the daemon's defaults."""

from __future__ import annotations

import msgspec
import pytest

from pyd_contracts.errors import InvalidArgument
from pyd_engine.containers.config import ContainerConfig, HealthConfig
from pyd_engine.containers.defaults import Defaults, with_defaults
from pyd_engine.containers.host_config import HostConfig
from pyd_engine.containers.merging import command, merge

IMAGE = ContainerConfig(
    user="app",
    env=("PATH=/bin", "A=image"),
    cmd=("serve",),
    entrypoint=("/entry",),
    working_dir="/srv",
    volumes={"/data": {}},
    exposed_ports={"80/tcp": {}},
    labels={"a": "image", "b": "image"},
    stop_signal="SIGINT",
    healthcheck=HealthConfig(test=("CMD", "true"), interval=5_000_000, retries=3),
)


@pytest.mark.parametrize(
    ("entrypoint", "cmd", "runs"),
    [
        (None, None, ("/entry", "serve")),
        (None, ("x",), ("/entry", "x")),
        (("/mine",), None, ("/mine",)),
        (("/mine",), ("x",), ("/mine", "x")),
        (("",), ("x",), ("x",)),
        ((), ("x",), ("x",)),
        ((), None, ("serve",)),
    ],
)
def test_what_runs(entrypoint: tuple[str, ...] | None, cmd: tuple[str, ...] | None, runs: tuple[str, ...]) -> None:
    assert command(merge(ContainerConfig(entrypoint=entrypoint, cmd=cmd), IMAGE)) == runs


@pytest.mark.parametrize("entrypoint", [None, (), ("",)])
def test_nothing_to_run(entrypoint: tuple[str, ...] | None) -> None:
    with pytest.raises(InvalidArgument, match="no command specified"):
        merge(ContainerConfig(entrypoint=entrypoint), ContainerConfig())


def test_gaps_are_filled_from_the_image() -> None:
    merged = merge(ContainerConfig(env=("A=mine", "B"), labels={"b": "mine"}, volumes={"/x": {}}), IMAGE)
    assert merged.env == ("A=mine", "B", "PATH=/bin")
    assert merged.labels == {"a": "image", "b": "mine"}
    assert merged.volumes == {"/data": {}, "/x": {}}
    assert merged.exposed_ports == {"80/tcp": {}}
    assert (merged.user, merged.working_dir, merged.stop_signal) == ("app", "/srv", "SIGINT")
    assert merged.healthcheck == IMAGE.healthcheck


def test_what_the_container_says_wins() -> None:
    merged = merge(ContainerConfig(user="me", working_dir="/w", stop_signal="9"), IMAGE)
    assert (merged.user, merged.working_dir, merged.stop_signal) == ("me", "/w", "9")


@pytest.mark.parametrize(
    ("given", "kept"), [("/a/../b", "/b"), ("/a/./b//c/", "/a/b/c"), ("//x", "/x"), ("/..", "/"), ("/", "/"), ("", "")]
)
def test_the_working_directory_is_one_that_can_be_made(given: str, kept: str) -> None:
    assert merge(ContainerConfig(working_dir=given, cmd=("x",)), ContainerConfig()).working_dir == kept


def test_health_is_merged_part_by_part_and_none_ends_it() -> None:
    merged = merge(ContainerConfig(healthcheck=HealthConfig(retries=9)), IMAGE).healthcheck
    assert merged == HealthConfig(test=("CMD", "true"), interval=5_000_000, retries=9)
    none = HealthConfig(test=("NONE",))
    assert merge(ContainerConfig(healthcheck=none), IMAGE).healthcheck == none


def test_defaults_are_filled_in_once() -> None:
    filled = with_defaults(HostConfig(memory=1 << 30), Defaults(possible_cpus=(0, 1)))
    assert filled.memory_swap == 2 << 30
    assert filled.network_mode == "bridge"
    assert filled.shm_size == 64 << 20
    assert filled.restart_policy.name == "no"
    assert filled.log_config.type == "json-file"
    assert filled.masked_paths is not None
    assert "/sys/devices/system/cpu/cpu1/thermal_throttle" in filled.masked_paths
    assert with_defaults(filled, Defaults(possible_cpus=(0, 1))) == filled


def test_what_was_said_stays() -> None:
    given = HostConfig(network_mode="none", memory=8 << 20, memory_swap=-1, shm_size=5, masked_paths=())
    filled = with_defaults(given)
    for name in ("network_mode", "memory_swap", "shm_size", "masked_paths"):
        assert getattr(filled, name) == getattr(given, name)


@pytest.mark.parametrize("loose", [{"privileged": True}, {"security_opt": ("systempaths=unconfined",)}])
def test_nothing_is_hidden_from_those_who_see_all(loose: dict[str, object]) -> None:
    filled = with_defaults(msgspec.structs.replace(HostConfig(), **loose))
    assert filled.masked_paths is None
    assert filled.readonly_paths is None
