"""One driver behind its contract: what is checked, how errors come through, how wrappers are put around."""

from __future__ import annotations

import asyncio
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any

import pytest

from pyd_contracts import LayerTargets, hookimpl
from pyd_contracts.errors import DriverFault, NotFound
from pyd_contracts.values import Kind, LayerTarget, Mount, Snapshot, Usage, Whiteouts
from pyd_engine.composition import NETWORK, STORAGE, ContractError, Relay
from pyd_engine.composition.relay import hooks_of


class Memory:
    """A complete storage driver that remembers what it was asked."""

    capabilities = frozenset({"size"})

    def __init__(self) -> None:
        self.asked: list[str] = []

    @hookimpl
    def storage_prepare(self, key, parent, options):
        self.asked.append(f"prepare {key} {parent} {dict(options)}")
        return (Mount("bind", f"/{key}"),)

    @hookimpl
    def storage_view(self, key, parent):
        raise OSError(5, "input/output error")

    @hookimpl
    def storage_mounts(self, key):
        raise NotFound(f"no {key}")

    @hookimpl
    def storage_commit(self, name, key):
        raise SystemExit(3)

    @hookimpl
    def storage_remove(self, name):
        self.asked.append(f"remove {name}")

    @hookimpl
    def storage_stat(self, name):
        return Snapshot(name, Kind.ACTIVE, None)

    @hookimpl
    def storage_walk(self):
        yield Snapshot("a", Kind.ACTIVE, None)
        if "broken" in self.asked:
            raise KeyError("b")

    @hookimpl
    def storage_usage(self, name):
        return Usage(1, 1)

    @hookimpl
    def storage_close(self):
        self.asked.append("close")


def test_calls_reach_the_driver_by_keyword_and_by_position() -> None:
    driver = Memory()
    relay = Relay(STORAGE, "memory", driver)
    assert relay.call.storage_prepare(key="k", parent=None, options={}) == (Mount("bind", "/k"),)
    relay.call.storage_remove("k")
    assert driver.asked == ["prepare k None {}", "remove k"]
    assert relay.capabilities == {"size"}


@pytest.mark.parametrize(
    ("positional", "named"), [(("k",), {}), ((), {"key": "k", "parent": None}), (("k", None, {}, 4), {})]
)
def test_a_missing_or_extra_argument_is_an_error(positional: tuple[Any, ...], named: dict[str, Any]) -> None:
    relay = Relay(STORAGE, "memory", Memory())
    with pytest.raises(TypeError, match="key, parent, options"):
        relay.call.storage_prepare(*positional, **named)


def test_errors_of_the_family_come_through_as_they_are() -> None:
    with pytest.raises(NotFound, match=r"^no k$"):
        Relay(STORAGE, "memory", Memory()).call.storage_mounts(key="k")


def test_foreign_errors_become_faults_that_name_driver_and_hook() -> None:
    relay = Relay(STORAGE, "memory", Memory())
    with pytest.raises(DriverFault, match=r"storage driver 'memory': storage_view: OSError: .*input/output") as caught:
        relay.call.storage_view(key="k", parent="p")
    assert isinstance(caught.value.__cause__, OSError)


def test_a_driver_that_calls_exit_does_not_end_the_daemon() -> None:
    with pytest.raises(DriverFault, match="storage_commit: SystemExit: 3"):
        Relay(STORAGE, "memory", Memory()).call.storage_commit(name="n", key="k")


def test_an_iterator_is_drawn_inside_so_that_its_errors_are_the_hooks() -> None:
    driver = Memory()
    relay = Relay(STORAGE, "memory", driver)
    assert [each.name for each in relay.call.storage_walk()] == ["a"]
    driver.asked.append("broken")
    with pytest.raises(DriverFault, match="storage_walk: KeyError"):
        relay.call.storage_walk()


def test_close_calls_the_contracts_close_hook() -> None:
    driver = Memory()
    Relay(STORAGE, "memory", driver).close()
    assert driver.asked == ["close"]


class Broken:
    """Everything that can be wrong, at once."""

    capabilities = {"size"}  # noqa: RUF012 - the wrong type is the point

    def storage_prepare(self, key, parent, options):
        """Not marked."""

    @hookimpl
    def storage_view(self, parent, key):
        """Swapped."""

    @hookimpl
    def storage_mounts(self, key, flags=0):
        """A default hides the caller's argument."""

    @hookimpl
    def storage_commit(self, name, *, key):
        """Hooks are called positionally."""

    @hookimpl
    async def storage_remove(self, name):
        """Nobody would await it."""

    @hookimpl(wrapper=True)
    def storage_stat(self, name):
        return (yield)

    @hookimpl
    def storage_walks(self):
        """A name that nobody calls."""

    @hookimpl
    def storage_layer_target(self, key):
        """A power that is not declared."""


def test_all_faults_are_in_one_message() -> None:
    with pytest.raises(ContractError) as caught:
        Relay(STORAGE, "broken", Broken())
    assert str(caught.value).startswith("storage driver 'broken' does not fulfil its contract: ")
    assert sorted(caught.value.faults) == [
        "capabilities: must be a frozenset of strings",
        "storage_close: not implemented",
        "storage_commit: takes (name, *, key), the contract says (name, key)",
        "storage_layer_target: implemented, but capability 'layer-targets' is not declared",
        "storage_mounts: takes (key, flags=0), the contract says (key)",
        "storage_prepare: not marked @hookimpl",
        "storage_remove: is async; hooks are synchronous",
        "storage_stat: a driver answers and does not wrap",
        "storage_usage: not implemented",
        "storage_view: takes (parent, key), the contract says (key, parent)",
        "storage_walk: not implemented",
        "storage_walks: the contract has no such hook; did you mean storage_walk?",
    ]


def test_a_driver_of_another_kind_is_refused() -> None:
    with pytest.raises(ContractError, match="network_attach: not implemented"):
        Relay(NETWORK, "memory", Memory())


def test_inherited_specifications_do_not_count_as_implementations() -> None:
    class Lazy(LayerTargets):
        capabilities = frozenset({"layer-targets"})

    with pytest.raises(ContractError, match="storage_layer_target: not implemented"):
        Relay(STORAGE, "lazy", Lazy())


class Targets(Memory):
    capabilities = frozenset({"layer-targets"})

    @hookimpl
    def storage_layer_target(self, key):
        return LayerTarget(Path("/x"), Whiteouts.PLAIN)


def test_declared_powers_are_callable_and_others_are_not() -> None:
    power = Relay(STORAGE, "targets", Targets()).power(LayerTargets)
    assert power is not None
    assert power.storage_layer_target(key="k").path == Path("/x")
    assert Relay(STORAGE, "memory", Memory()).power(LayerTargets) is None


def test_a_declared_power_that_is_missing_is_a_fault() -> None:
    class Liar(Memory):
        capabilities = frozenset({"layer-targets"})

    with pytest.raises(ContractError, match="storage_layer_target: not implemented"):
        Relay(STORAGE, "liar", Liar())


def test_properties_of_drivers_are_left_alone() -> None:
    class Shy(Memory):
        @property
        def expensive(self) -> int:
            raise RuntimeError("looked at")

    assert Relay(STORAGE, "shy", Shy()).call.storage_usage(name="x") == Usage(1, 1)


class Wrapper:
    def __init__(self) -> None:
        self.seen: list[str] = []

    @hookimpl(wrapper=True)
    def storage_view(self) -> Generator[None, Any, Any]:
        try:
            return (yield)
        except DriverFault as error:
            self.seen.append(str(error))
            raise

    @hookimpl(wrapper=True)
    def storage_remove(self, name: str) -> Generator[None, Any, Any]:
        self.seen.append(f"before {name}")
        yield
        raise ValueError("after")

    @hookimpl(wrapper=True)
    def network_close(self) -> Generator[None, Any, Any]:
        return (yield)


def test_wrappers_see_errors_of_the_family_and_are_named_in_their_own() -> None:
    wrapper = Wrapper()
    driver = Memory()
    relay = Relay(STORAGE, "memory", driver)
    assert relay.wrap(wrapper, "watch") == ("storage_remove", "storage_view")
    with pytest.raises(DriverFault):
        relay.call.storage_view(key="k", parent="p")
    assert "OSError" in wrapper.seen.pop()
    with pytest.raises(DriverFault, match=r"a wrapper around storage .* storage_remove: ValueError: after"):
        relay.call.storage_remove(name="n")
    assert wrapper.seen == ["before n"]
    assert driver.asked == ["remove n"]


def test_a_plugin_may_not_answer_in_a_drivers_place() -> None:
    class Usurper:
        @hookimpl
        def storage_usage(self, name):
            return Usage(0, 0)

        @hookimpl(wrapper=True)
        def storage_stat(self, nme):
            return (yield)

        @hookimpl(wrapper=True)
        def storage_walk(self):
            return []

    relay = Relay(STORAGE, "memory", Memory())
    with pytest.raises(ContractError) as caught:
        relay.wrap(Usurper(), "usurper")
    assert len(caught.value.faults) == 3
    assert relay.call.storage_usage(name="x") == Usage(1, 1)


def test_hooks_of_reads_names_in_order() -> None:
    assert hooks_of(STORAGE.contract)["storage_prepare"] == ("key", "parent", "options")


def test_calls_work_from_many_threads() -> None:
    relay = Relay(STORAGE, "memory", Memory())

    async def many() -> list[Usage]:
        return await asyncio.gather(*(asyncio.to_thread(relay.call.storage_usage, name=str(n)) for n in range(20)))

    assert asyncio.run(many()) == [Usage(1, 1)] * 20


def test_a_generator_is_not_mistaken_for_a_value() -> None:
    answer = Relay(STORAGE, "memory", Memory()).call.storage_walk()
    assert not isinstance(answer, Iterator)
