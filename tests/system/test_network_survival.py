"""The daemon is killed at each effectful system call of network create, connect, disconnect and rm: a new one finds its way."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from clients import IMAGE, Client, docker_program, until
from engine_under_test import Daemon
from mortal import Mortal, killed_in

pytestmark = [
    pytest.mark.root,
    pytest.mark.docker,
    pytest.mark.slow,
    pytest.mark.timeout(600),
    pytest.mark.skipif(shutil.which("strace") is None, reason="strace is not installed here (scripts/provision)"),
]

CALLS = "sendmsg,sendto,pwrite64"
"""Messages to the kernel (interfaces, rules) and to other processes, and writes of the store."""
NAME, SUBNET = "mortal", "10.88.0.0/29"
CREATE = ("network", "create", "--subnet", SUBNET, NAME)


@pytest.fixture(scope="module")
def others(own_network: None) -> frozenset[str]:
    """Objects of daemons that were here before."""
    return frozenset(kernel_objects())


@pytest.fixture(scope="module")
def one(
    others: frozenset[str], new_pydd: Callable[..., Daemon], client_environment: dict[str, str], image_archive: Path
) -> Mortal:
    daemon = new_pydd()
    docker = Client((docker_program(), "-H", daemon.url), client_environment)
    docker("load", "-q", "-i", image_archive)
    docker("run", "-d", "--name", "steady", IMAGE, "sleep", "1000")
    return Mortal(daemon, docker)


def said(one: Mortal, *words: str) -> Any:
    done = one.docker(*words, check=False)
    return json.loads(done.stdout)[0] if done.returncode == 0 else None


def lines(*command: str) -> list[str]:
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()


def kernel_objects() -> list[str]:
    """What networks have in the kernel: ``bridge NAME``, ``end NAME``, ``rules NETWORK``."""
    links = [line.split(": ")[1].partition("@")[0] for line in lines("ip", "-o", "link")]
    found = [f"bridge {each}" for each in links if re.match(r"br-|pyd-", each)]
    found += [f"end {each}" for each in links if re.fullmatch(r"py[0-9a-f]{11}", each)]
    rules = re.findall(r"network ([0-9a-f]{12})", "\n".join(lines("nft", "list", "ruleset")))
    return found + [f"rules {each}" for each in sorted(set(rules))]


def is_there(one: Mortal) -> bool:
    return NAME in one.docker("network", "ls", "--format", "{{.Name}}").stdout.split()


def check_kernel(one: Mortal, others: frozenset[str], where: str) -> None:
    """Bridges, rules and interfaces are those of the networks and places that the daemon knows."""
    known = one.docker("network", "ls", "-q", "--filter", "driver=bridge").stdout.split()
    places = sum(len(said(one, "network", "inspect", each)["Containers"]) for each in known)

    def right() -> bool:
        mine = sorted(set(kernel_objects()) - others)
        rules = [each for each in mine if each.startswith("rules ")]
        counted = [sum(each.startswith(kind) for each in mine) for kind in ("bridge ", "end ")]
        return counted == [len(known), places] and rules == sorted(f"rules {each}" for each in known)

    until(right, f"the kernel has what the daemon knows ({where})", seconds=10)


def interfaces(one: Mortal) -> int:
    """How many the container has."""
    return len(one.docker("exec", "steady", "ls", "/sys/class/net").stdout.split()) - 1


def each_call(one: Mortal, *words: str) -> Iterator[str]:
    """Kill at the first call, the second, … until the command comes to its end; after each a word for messages."""
    for number in range(1, 100):
        where = f"{' '.join(words)}, call {number}"
        cut_off = killed_in(one, CALLS, number, *words)
        yield where
        if not cut_off:
            assert number > 5, "a command without effects was cut off nowhere"
            return
    raise AssertionError(f"{' '.join(words)} does not come to its end")


def allocate_all(one: Mortal) -> None:
    """A /29 has five addresses beside its own, its broadcast and the gateway's."""
    names = [f"all-{number}" for number in range(5)]
    for each in names:
        one.docker("run", "-d", "--name", each, "--network", NAME, IMAGE, "sleep", "1000")
    full = one.docker("run", "-d", "--name", "sixth", "--network", NAME, IMAGE, "true", check=False)
    assert "no available IP" in full.stderr or "address" in full.stderr
    one.docker("rm", "-f", "sixth", *names)


def test_create(one: Mortal, others: frozenset[str]) -> None:
    for where in each_call(one, *CREATE):
        check_kernel(one, others, where)
        if is_there(one):
            one.docker("network", "rm", NAME)
        one.docker(*CREATE)
        one.docker("network", "rm", NAME)
        check_kernel(one, others, where)


def test_rm(one: Mortal, others: frozenset[str]) -> None:
    one.docker(*CREATE)
    for where in each_call(one, "network", "rm", NAME):
        check_kernel(one, others, where)
        if is_there(one):
            one.docker("network", "rm", NAME)
        check_kernel(one, others, where)
        one.docker(*CREATE)
    allocate_all(one)
    one.docker("network", "rm", NAME)


@pytest.mark.parametrize("what", ["connect", "disconnect"])
def test_of_a_running_container(one: Mortal, others: frozenset[str], what: str) -> None:
    """Afterwards it is on the network with one interface more, or it is not and has none."""
    one.docker(*CREATE)
    if what == "disconnect":
        one.docker("network", "connect", NAME, "steady")
    for where in each_call(one, "network", what, NAME, "steady"):
        places = said(one, "inspect", "steady")["NetworkSettings"]["Networks"]
        assert set(places) in ({"bridge"}, {"bridge", NAME}), where
        assert all(each["IPAddress"] for each in places.values()), where
        assert interfaces(one) == len(places), where
        held = said(one, "network", "inspect", NAME)["Containers"]
        assert len(held) == len(places) - 1, where
        hosts = one.docker("exec", "steady", "cat", "/etc/hosts").stdout
        assert all(each["IPAddress"] in hosts for each in places.values()), where
        assert hosts.count("10.88.0.") == len(places) - 1, where
        check_kernel(one, others, where)
        if (NAME in places) is (what == "connect"):
            one.docker("network", "disconnect" if what == "connect" else "connect", NAME, "steady")
    if NAME in said(one, "inspect", "steady")["NetworkSettings"]["Networks"]:
        one.docker("network", "disconnect", NAME, "steady")
    assert interfaces(one) == 1
    allocate_all(one)
    one.docker("network", "rm", NAME)
    check_kernel(one, others, what)
