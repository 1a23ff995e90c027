"""What log options come to."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from pyd_conformance.fakes import FakeLogs, FakeSink
from pyd_contracts.errors import InvalidArgument
from pyd_engine.containers.config import ContainerConfig
from pyd_engine.containers.host_config import HostConfig, LogConfig
from pyd_engine.containers.log_options import check, details, most_waiting, own, policy, size_of
from pyd_shim.segments import Policy

MIB = 1 << 20


def container(kind: str = "json-file", config: ContainerConfig | None = None, **options: str) -> Any:
    logged = LogConfig(type=kind, config={key.replace("_", "-"): value for key, value in options.items()})
    return SimpleNamespace(
        id="ab" * 32, name="web", image="sha256:1", image_ref="busybox", created_ns=0, path="sh", args=(),
        host_config=HostConfig(log_config=logged), config=config or ContainerConfig(),
    )  # fmt: skip


@pytest.mark.parametrize(
    ("text", "size"),
    [("10", 10), ("10b", 10), ("1k", 1024), ("10m", 10 * MIB), ("1.5g", 1536 * MIB), ("2 MiB", 2 * MIB), ("-1", -1)],
)
def test_sizes(text: str, size: int) -> None:
    assert size_of(text) == size


@pytest.mark.parametrize("text", ["", "x", "1x", "m", "1 2"])
def test_no_sizes(text: str) -> None:
    with pytest.raises(ValueError, match="invalid size"):
        size_of(text)


def test_without_options_the_daemons_default_counts() -> None:
    assert policy(container(), 512 * MIB) == Policy(16 * MIB, 512 * MIB)
    assert policy(container(max_size="-1"), 512 * MIB) == Policy(16 * MIB, 512 * MIB)
    assert policy(container(), 1 * MIB) == Policy(MIB // 4, MIB)


def test_max_size_and_max_file() -> None:
    assert policy(container(max_size="10m", max_file="3"), 512 * MIB) == Policy(10 * MIB, 30 * MIB)
    assert policy(container(max_size="10m"), 512 * MIB) == Policy(5 * MIB, 10 * MIB)
    assert policy(container("local"), 512 * MIB) == Policy(20 * MIB, 100 * MIB)
    assert policy(container(max_size="1"), 512 * MIB) == Policy(4096, 8192)


def test_details_are_what_the_options_select() -> None:
    config = ContainerConfig(labels={"a": "1", "b c": "2 &", "other": "3"}, env=("A=x", "B=y", "FLAG"))
    assert details(container(config=config)) == ""
    assert details(container(config=config, labels="a,b c", env="B,FLAG")) == "B=y,a=1,b+c=2+%26"
    assert details(container(config=config, labels_regex="^o", env_regex="[A]")) == "A=x,other=3"
    assert details(container(config=config, labels="a", tag="{{.Name}}!")) == "a=1,tag=web%21"
    assert details(container("local", config=config, tag="x")) == ""


def test_what_waits_for_a_sink_is_held_beyond_what_is_kept() -> None:
    assert policy(container(), 512 * MIB, 1024 * MIB) == Policy(16 * MIB, 512 * MIB, 1024 * MIB)
    assert policy(container(max_size="10m"), 512 * MIB, MIB) == Policy(5 * MIB, 10 * MIB, 10 * MIB)
    assert policy(container(mode="blocking"), 512 * MIB, MIB).block
    assert policy(container(mode="blocking"), 512 * MIB, MIB).segment == MIB // 4


def test_a_driver_elsewhere_leaves_the_bounds_to_the_cache_options() -> None:
    assert policy(container("syslog", max_size="1m"), 512 * MIB, MIB).keep == 512 * MIB
    assert policy(container("syslog", cache_max_size="1m", cache_max_file="3"), 512 * MIB, MIB).keep == 3 * MIB
    assert policy(container("syslog", cache_disabled="true"), 512 * MIB, MIB).keep == MIB


def test_only_who_asks_for_it_drops() -> None:
    assert most_waiting(container()) == most_waiting(container(mode="blocking")) == 0
    assert most_waiting(container(mode="non-blocking")) == MIB
    assert most_waiting(container(mode="non-blocking", max_buffer_size="4m")) == 4 * MIB


def test_options_of_all_drivers_are_not_the_drivers() -> None:
    options = {"color": "red", "mode": "non-blocking", "max-buffer-size": "1m", "cache-disabled": "true"}
    assert own(options) == {"color": "red"}
    check(LogConfig(type="fake", config=options), {"fake": FakeLogs(FakeSink())}, {})


@pytest.mark.parametrize(
    ("name", "options", "text"),
    [
        ("nope", {}, 'error looking up logging plugin nope: plugin "nope" not found'),
        ("gone", {}, "failed to initialize logging driver: gone is not ready: no socket"),
        ("fake", {"shape": "round"}, "unknown log opt 'shape' for fake log driver"),
        ("fake", {"mode": "maybe"}, "logger: logging mode not supported: maybe"),
        ("fake", {"max-buffer-size": "1m"}, "max-buffer-size option is only supported with 'mode=non-blocking'"),
        (
            "fake",
            {"mode": "non-blocking", "max-buffer-size": "x"},
            "error parsing option max-buffer-size: invalid size",
        ),
        ("fake", {"cache-disabled": "x"}, "invalid value for option cache-disabled: x"),
        ("fake", {"cache-max-file": "0"}, "cache-max-file must be a positive number"),
    ],
)
def test_what_cannot_be_is_said_in_dockerds_words(name: str, options: dict[str, str], text: str) -> None:
    with pytest.raises(InvalidArgument, match=text.replace("'", "['\"]")):
        check(LogConfig(type=name, config=options), {"fake": FakeLogs(FakeSink())}, {"gone": "no socket"})
