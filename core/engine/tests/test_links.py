"""Legacy links: their grammar and their variables."""

from __future__ import annotations

from pathlib import Path

import pytest

from pyd_contracts.errors import InvalidArgument
from pyd_engine.containers.config import ContainerConfig
from pyd_engine.containers.container import Container, Phase, RunState
from pyd_engine.containers.files import hosts_text
from pyd_engine.containers.host_config import HostConfig
from pyd_engine.containers.links import Linked, parse_link, register, variables
from pyd_engine.containers.store import ContainerStore
from pyd_engine.store.database import Database


def container(name: str, *, links: dict[str, str] | None = None, mode: str = "", **config: object) -> Container:
    return Container(
        id=name.encode().hex().ljust(64, "0"), name=name, created_ns=1, image="i", image_ref="i", path="p", args=(),
        config=ContainerConfig(**config), host_config=HostConfig(network_mode=mode), storage="s", isolation="i",  # type: ignore[arg-type]
        state=RunState(phase=Phase.CREATED), links=links or {},
    )  # fmt: skip


@pytest.fixture
def store(tmp_path: Path) -> ContainerStore:
    return ContainerStore(Database(tmp_path / "db"))


def test_grammar() -> None:
    assert parse_link("a:b") == ("a", "b")
    assert parse_link("a") == ("a", "a")
    assert parse_link("/a:/parent/b") == ("a", "b")  # as inspect writes it
    for wrong in ("a:b:c", ""):
        with pytest.raises(InvalidArgument):
            parse_link(wrong)


def test_names_of_links_and_their_ends(store: ContainerStore) -> None:
    kid = container("kid")
    store.add(kid)
    parent = container("par", links=register(store, HostConfig(links=("kid:al",))))
    store.add(parent)
    assert store.get("par/al").id == store.get("/par/al").id == kid.id
    assert [each.name for each in store.parents(kid.id)] == ["par"]
    store.drop(parent.id)
    assert store.parents(kid.id) == []
    with pytest.raises(InvalidArgument, match="could not get container for nope: No such container: nope"):
        register(store, HostConfig(links=("nope:x",)))
    assert register(store, HostConfig(links=("kid:al",), network_mode="mine")) == {}
    store.add(container("hosty", mode="host"))
    with pytest.raises(InvalidArgument, match="host type networking can't be used with links"):
        register(store, HostConfig(links=("hosty",)))


def test_variables_are_dockers() -> None:
    """As dockerd 20.10 gave them for the same container."""
    ports: dict[str, object] = {f"{port}/tcp": {} for port in (80, 7000, 7001, 7002, 7003)} | {"53/udp": {}}
    kid = container("kid", exposed_ports=ports, env=("HELLO=a=b", "HOME=/x"))
    found = variables(container("par"), [Linked("my-alias", kid, "172.17.0.2")])
    assert found[:7] == [
        "MY_ALIAS_PORT=udp://172.17.0.2:53",
        "MY_ALIAS_PORT_7000_TCP_START=tcp://172.17.0.2:7000",
        "MY_ALIAS_PORT_7000_TCP_ADDR=172.17.0.2",
        "MY_ALIAS_PORT_7000_TCP_PROTO=tcp",
        "MY_ALIAS_PORT_7000_TCP_PORT_START=7000",
        "MY_ALIAS_PORT_7000_TCP_END=tcp://172.17.0.2:7003",
        "MY_ALIAS_PORT_7000_TCP_PORT_END=7003",
    ]
    assert found[7:11] == [
        "MY_ALIAS_PORT_53_UDP=udp://172.17.0.2:53",
        "MY_ALIAS_PORT_53_UDP_ADDR=172.17.0.2",
        "MY_ALIAS_PORT_53_UDP_PORT=53",
        "MY_ALIAS_PORT_53_UDP_PROTO=udp",
    ]
    assert found[-2:] == ["MY_ALIAS_NAME=/par/my-alias", "MY_ALIAS_ENV_HELLO=a=b"]
    assert len(found) == 7 + 6 * 4 + 2


def test_hosts() -> None:
    kid = container("kid")
    names = Linked("al", kid, "172.17.0.2").names
    assert names == f"al {kid.short} kid"
    text = hosts_text("me", "", ["172.17.0.3"], ["x:1.2.3.4"], "", [("172.17.0.2", names)])
    assert text.splitlines()[-3:] == ["1.2.3.4\tx", f"172.17.0.2\t{names}", "172.17.0.3\tme"]
    assert Linked("kid", kid, "172.17.0.2").names == f"kid {kid.short}"
