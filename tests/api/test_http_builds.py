"""Builds: the query and the headers of ``POST /build``, and the stream that answers."""

from __future__ import annotations

import base64
import json
from typing import Any
from urllib.parse import quote

import pytest

from pyd_contracts.errors import InvalidArgument
from pyd_daemon.backends import RegistryAuth
from pyd_engine.builds.request import BuildRequest
from pyd_engine.containers.host_config import HostConfig, Ulimit

TAR = {"Content-Type": "application/x-tar"}


async def asked(api: Any, fakes: Any, query: str) -> BuildRequest:
    status, _, _ = await api("POST", f"/build?{query}", data=b"x" * 10, headers=TAR)
    assert status == 200
    request: BuildRequest = fakes.calls[-1][1]
    return request


async def test_what_is_asked(api: Any, fakes: Any) -> None:
    query = (
        "t=a&t=b:c&dockerfile=d/D&nocache=1&pull=1&q=1&target=x&rm=0&memory=1&memswap=-1&cpushares=2&cpuperiod=3&cpuquota=4"
        "&cpusetcpus=0&cpusetmems=1&shmsize=5&networkmode=none&cgroupparent=/p&extrahosts=h:1.2.3.4&extrahosts=i:5.6.7.8"
        f"&buildargs={quote(json.dumps({'A': 'x', 'B': None}))}&labels={quote(json.dumps({'l': 'v'}))}"
        f"&cachefrom={quote(json.dumps(['s']))}&ulimits={quote(json.dumps([{'Name': 'nofile', 'Hard': 2, 'Soft': 1}]))}"
        "&platform=linux/arm64&remote=http://r&squash=0&isolation=default&version=1"
    )
    found = await asked(api, fakes, query)
    assert found.credentials == BuildRequest().credentials
    assert found == BuildRequest(
        recipe="d/D", remote="http://r", tags=("a", "b:c"), target="x", arguments={"A": "x", "B": None}, labels={"l": "v"},
        platform="linux/arm64", cache_from=("s",), no_cache=True, pull=True, quiet=True, keep=True, keep_failed=True,
        limits=HostConfig(
            memory=1, memory_swap=-1, cpu_shares=2, cpu_period=3, cpu_quota=4, cpuset_cpus="0", cpuset_mems="1", shm_size=5,
            network_mode="none", cgroup_parent="/p", extra_hosts=("h:1.2.3.4", "i:5.6.7.8"),
            ulimits=(Ulimit(name="nofile", hard=2, soft=1),),
        ),
        credentials=found.credentials,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("query", "keep", "keep_failed"),
    [("", False, True), ("rm=1", False, True), ("rm=0", True, True), ("rm=0&forcerm=1", False, False)],
)
async def test_which_containers_stay(api: Any, fakes: Any, query: str, keep: bool, keep_failed: bool) -> None:
    found = await asked(api, fakes, query)
    assert (found.keep, found.keep_failed) == (keep, keep_failed)


async def test_credentials(api: Any, fakes: Any) -> None:
    given = {"r:1": {"username": "u", "password": "p"}, "empty": {}}
    header = base64.urlsafe_b64encode(json.dumps(given).encode()).decode()
    await api("POST", "/build", data=b"x", headers={**TAR, "X-Registry-Config": header})
    assert fakes.calls[-1][2] == {"r:1": RegistryAuth("u", "p")}
    assert (await api("POST", "/build", headers={"X-Registry-Config": "%"}))[0] == 400


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ("buildargs=x", "error reading build args"),
        ("buildargs=[]", "error reading build args"),
        ("labels=x", "error reading labels"),
        ("ulimits=x", "error reading ulimit settings"),
        ("cachefrom=x", "error reading cachefrom"),
        ("squash=1", "squash is only supported with experimental mode"),
        ("securityopt=label%3Ddisable", "does not support setting security options on build"),
        ("platform=a/b/c/d/e", "invalid platform"),
        ("memory=x", "invalid value for memory"),
    ],
)
async def test_what_cannot_be_meant(api: Any, query: str, words: str) -> None:
    status, body, _ = await api("POST", f"/build?{query}", data=b"x", headers=TAR)
    assert (status, words in body["message"]) == (400, True)


async def test_records_and_faults(api: Any, fakes: Any) -> None:
    fakes.fault = InvalidArgument("no recipe")
    status, body, _ = await api("POST", "/build", data=b"x", headers=TAR)
    assert (status, body) == (400, {"message": "no recipe"})


async def test_prune(api: Any, fakes: Any) -> None:
    filters = quote(json.dumps({"until": ["1h"]}))
    assert (await api("POST", f"/build/prune?all=1&filters={filters}"))[1] == {
        "CachesDeleted": ["a"],
        "SpaceReclaimed": 0,
    }
    assert fakes.calls == [("prune_builds", {"until": ["1h"]}, True)]
