"""What all services stand on, opened whole or not at all; and networks as the routes see them."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from pyd_contracts.errors import InvalidArgument, NotFound, PermissionDenied, Unavailable
from pyd_contracts.values import Event
from pyd_daemon.assembly import Foundation, engine_id
from pyd_daemon.config import load
from pyd_daemon.networks import NetworksFace
from pyd_daemon.wire.requests import Ipam, IpamPool, NetworkCreate
from pyd_engine.composition import Composition, CompositionError
from pyd_engine.networks.explanations import Explanations
from pyd_engine.networks.service import Networks
from pyd_engine.store.database import Database
from pyd_ipam_default.driver import DefaultIpam

LOG = logging.getLogger("pyd.test")


def test_the_id_is_made_once_and_kept(tmp_path: Path) -> None:
    first = engine_id(tmp_path)
    assert len(first) == 36
    assert engine_id(tmp_path) == first


def test_events_reach_plugins_and_closing_goes_backwards(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    heard: list[Event] = []
    composition = Composition(LOG)
    monkeypatch.setattr(composition.listeners, "publish", heard.append)
    monkeypatch.setattr("pyd_daemon.assembly.compose", lambda *_, **__: composition)
    order: list[str] = []
    composition.on_close("test", lambda: order.append(foundation.database.rows("SELECT 'still open'")[0][0]))
    foundation = Foundation(_configuration(tmp_path), "00000000", LOG)
    event = foundation.events.publish("container", "create", "c", {})
    assert heard == [event]
    foundation.close()
    foundation.close()
    assert order == ["still open"]


def test_a_refused_composition_leaves_nothing_open(tmp_path: Path) -> None:
    configuration = _configuration(tmp_path, '[storage]\ndefault = "no-such"\n')
    with pytest.raises(CompositionError, match=r'\[storage\] default = "no-such" in .*: no such storage driver'):
        Foundation(configuration, "00000000", LOG)
    database = Database(tmp_path / "root" / "metadata.db")
    database.rows("SELECT * FROM events")
    database.close()


def _configuration(tmp_path: Path, text: str = "") -> Any:
    for name in ("root", "run"):
        (tmp_path / name).mkdir()
    file = tmp_path / "pyd.toml"
    file.write_text(f'data-root = "{tmp_path}/root"\nrun-root = "{tmp_path}/run"\n{text}')
    return load(file, environ={})


class Face:
    """The face over a real service whose drivers do nothing."""

    def __init__(self, tmp_path: Path) -> None:
        calls = SimpleNamespace(
            network_create=lambda network: {"name": network.name}, network_delete=lambda network: None
        )
        driver: Any = SimpleNamespace(capabilities=frozenset[str](), call=calls)
        quiet: Any = SimpleNamespace(capabilities=frozenset({"single", "no-addresses"}), call=calls)
        self.events: list[tuple[str, str, str]] = []
        drivers = {"bridge": driver, "host": quiet, "none": quiet}
        managers = {"default": SimpleNamespace(call=DefaultIpam())}
        service = Networks(Database(tmp_path / "db"), drivers, managers, tmp_path)
        assert service.ensure_defaults() == {}
        self.face = NetworksFace(
            service,
            Explanations(service, drivers),
            lambda kind, action, _, more: self.events.append((kind, action, more.get("name", ""))),
        )

    def names(self, **filters: list[str]) -> set[str]:
        return {each["Name"] for each in asyncio.run(self.face.list(filters=filters))}

    def create(self, name: str, **others: Any) -> str:
        return asyncio.run(self.face.create(NetworkCreate(name=name, **others)))[0]


@pytest.fixture
def face(tmp_path: Path) -> Face:
    return Face(tmp_path)


def test_networks_are_made_shown_and_removed_with_events(face: Face) -> None:
    made = face.create(
        "mine", labels={"a": "b"}, ipam=Ipam(config=[IpamPool(subnet="10.9.0.0/24", gateway="10.9.0.1")])
    )
    shown = asyncio.run(face.face.inspect("mine"))
    assert (shown["Id"], shown["Labels"]) == (made, {"a": "b"})
    assert (shown["IPAM"]["Config"][0]["Subnet"], shown["Containers"]) == ("10.9.0.0/24", {})
    asyncio.run(face.face.remove(made))
    assert face.events == [("network", "create", "mine"), ("network", "destroy", "mine")]
    with pytest.raises(NotFound):
        asyncio.run(face.face.inspect("mine"))


def test_networks_are_filtered(face: Face) -> None:
    face.create("mine", labels={"a": "b"})
    builtin = {"bridge", "host", "none"}
    assert face.names() == {"mine", *builtin}
    assert face.names(type=["custom"]) == face.names(name=["min"]) == face.names(label=["a=b"]) == {"mine"}
    assert face.names(dangling=["true"]) == {"mine"}
    assert face.names(type=["builtin"]) == builtin
    assert face.names(driver=["null"]) == {"none"}
    assert face.names(label=["a=c"]) == face.names(scope=["swarm"]) == face.names(id=["zz"]) == set()
    with pytest.raises(InvalidArgument, match=r"invalid filter 'dangling=\[maybe\]'"):
        face.names(dangling=["maybe"])


def test_prune_spares_what_is_young_labelled_or_predefined(face: Face) -> None:
    face.create("old")
    face.create("kept", labels={"keep": ""})

    def prune(**filters: list[str]) -> Any:
        return asyncio.run(face.face.prune({key.replace("not_", "") + "!" if "not_" in key else key: value
                                            for key, value in filters.items()}))["NetworksDeleted"]  # fmt: skip

    assert prune(until=["24h"]) is None
    assert prune(not_label=["keep"]) == ["old"]
    assert prune() == ["kept"]
    with pytest.raises(InvalidArgument, match="say a duration"):
        prune(until=["soon"])


def test_what_swarms_need_is_refused(face: Face) -> None:
    with pytest.raises(PermissionDenied, match="Ingress network"):
        face.create("x", ingress=True)
    with pytest.raises(Unavailable, match="not a swarm manager"):
        face.create("x", scope="swarm")
    with pytest.raises(InvalidArgument, match="scope 'moon'"):
        face.create("x", scope="moon")
    with pytest.raises(InvalidArgument, match="IPv4 or IPv6 must be enabled"):
        face.create("x", enable_ipv4=False)
