"""Composition: what is installed, what is asked for, what is refused and in which words, closing."""

from __future__ import annotations

import importlib.metadata
import logging
import sys
import threading
from pathlib import Path

import pytest

from pyd_contracts.values import Event
from pyd_engine.composition import (
    ISOLATION,
    NETWORK,
    PLUGINS,
    STORAGE,
    Catalogue,
    Composition,
    CompositionError,
    Selection,
    check,
    compose,
    discover,
)
from pyd_engine.composition.relay import hooks_of
from pyd_engine.composition.selection import Choice

LOG = logging.getLogger("pyd.test")
_HEAD = """
from pyd_contracts import hookimpl, settings, Setting
from pyd_contracts.errors import Declined, NotFound
from pyd_contracts.network import NetworkDriver
CLOSED = []
MADE = {}
"""


class Shelf:
    """A directory of made-up distributions, put on the path while a test runs."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def add(self, distribution: str, points: dict[str, dict[str, str]], source: str = "", version: str = "1.0") -> str:
        """Install a distribution; ``MODULE`` in *points* stands for its module, whose name is returned."""
        module = f"shelf_{self.path.name}_{distribution}".replace("-", "_")
        (self.path / f"{module}.py").write_text(_HEAD + source)
        info = self.path / f"{distribution}-{version}.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {distribution}\nVersion: {version}\n")
        lines = []
        for group, entries in points.items():
            lines.append(f"[{group}]")
            lines += [f"{name} = {target.replace('MODULE', module)}" for name, target in entries.items()]
        (info / "entry_points.txt").write_text("\n".join(lines))
        return module

    def catalogue(self) -> Catalogue:
        """Only what is on this shelf."""
        found: dict[str, list[importlib.metadata.EntryPoint]] = {}
        for distribution in importlib.metadata.distributions(path=[str(self.path)]):
            for point in distribution.entry_points:
                found.setdefault(point.group, []).append(point)
        return Catalogue(found)


def storage_class(name: str) -> str:
    methods = "".join(
        f"    @hookimpl\n    def {hook}(self, {', '.join(names)}):\n        return {hook!r}\n"
        for hook, names in hooks_of(STORAGE.contract).items()
        if hook != "storage_close"
    )
    return (
        f"class {name}:\n    capabilities = frozenset()\n"
        "    def __init__(self, context): MADE[context.name] = context\n"
        f"{methods}    @hookimpl\n    def storage_close(self): CLOSED.append({name!r})\n"
    )


GOOD = storage_class("Good")


@pytest.fixture
def shelf(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Shelf:
    path = tmp_path / "shelf"
    path.mkdir()
    monkeypatch.syspath_prepend(path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr("stevedore.extension.ExtensionManager.ENTRY_POINT_CACHE", {})
    return Shelf(path)


@pytest.fixture(autouse=True)
def _forget_modules():
    before = set(sys.modules)
    yield
    for name in set(sys.modules) - before:
        if name.startswith("shelf_"):
            del sys.modules[name]


def selection(default: str | None = "good", **others: Choice) -> Selection:
    origins = {"storage.default": "in /etc/pyd/pyd.toml"}
    return Selection(storage=others.pop("storage", Choice(default=default)), origins=origins, **others)


def composed(shelf: Shelf, tmp_path: Path, choice: Selection) -> Composition:
    root, run = tmp_path / "root", tmp_path / "run"
    root.mkdir()
    run.mkdir()
    return compose(choice, root, run, "0123abcd", LOG, catalogue=shelf.catalogue())


def faults(shelf: Shelf, tmp_path: Path, choice: Selection) -> tuple[str, ...]:
    with pytest.raises(CompositionError) as caught:
        composed(shelf, tmp_path, choice)
    return caught.value.faults


def test_the_chosen_driver_is_made_with_its_context_and_closed(shelf: Shelf, tmp_path: Path) -> None:
    source = GOOD + "create = settings(Setting('depth', int, 3, 'x'))(lambda context: Good(context))\n"
    module = shelf.add("pyd-good", {"pyd.storage.v1": {"good": "MODULE:create"}}, source)
    choice = selection(storage=Choice(default="good", tables={"good": {}}))
    composition = composed(shelf, tmp_path, choice)
    assert composition.storage["good"].call.storage_stat(name="x") == "storage_stat"
    context = sys.modules[module].MADE["good"]
    assert (context.root, context.run) == (tmp_path / "root/storage/good", tmp_path / "run/storage/good")
    assert {path.stat().st_mode & 0o777 for path in (context.root, context.run)} == {0o700}
    assert dict(context.settings) == {"depth": 3}
    assert (context.instance, context.log.name) == ("0123abcd", "pyd.test.storage.good")
    (entry,) = composition.report
    assert (entry.kind, entry.name, entry.distribution, entry.version) == ("storage", "good", "pyd-good", "1.0")
    assert (entry.state, entry.reason, entry.default) == ("ready", "", True)
    composition.close()
    composition.close()
    assert sys.modules[module].CLOSED == ["Good"]


def test_a_misspelt_default_names_the_nearest_and_what_is_installed(shelf: Shelf, tmp_path: Path) -> None:
    shelf.add("pyd-s", {"pyd.storage.v1": {"overlay": "MODULE:Good", "vfs": "MODULE:Good"}}, GOOD)
    assert faults(shelf, tmp_path, selection("ovrlay")) == (
        (
            '[storage] default = "ovrlay" in /etc/pyd/pyd.toml: no such storage driver is installed; '
            'did you mean "overlay"? installed: overlay, vfs'
        ),
    )


def test_all_faults_are_collected(shelf: Shelf, tmp_path: Path) -> None:
    source = GOOD + "create = settings(Setting('depth', int, 3, 'x'))(lambda context: Good(context))\n"
    shelf.add("pyd-good", {"pyd.storage.v1": {"good": "MODULE:create"}}, source)
    choice = selection(
        storage=Choice(default="god", tables={"good": {"dept": 1, "depth": "deep"}, "goood": {}}),
        network=Choice(listed=("bridge",)),
    )
    found = faults(shelf, tmp_path, choice)
    assert found[0].startswith('[storage] default = "god" in /etc/pyd/pyd.toml: no such storage driver is installed')
    assert found[1].startswith('[storage.goood] (default): no such storage driver is installed; did you mean "good"?')
    assert "unknown key 'dept' (did you mean 'depth'?)" in found[2]
    assert "'depth' must be a whole number, not 'deep'" in found[2]
    assert found[3] == (
        '[network] drivers = ["bridge"] (default): no network driver "bridge" is installed; installed: none'
    )
    assert check(choice, shelf.catalogue()) == list(found)


def test_two_distributions_with_one_name_are_both_named(shelf: Shelf, tmp_path: Path) -> None:
    shelf.add("pyd-one", {"pyd.storage.v1": {"good": "MODULE:Good"}}, GOOD)
    shelf.add("pyd-two", {"pyd.storage.v1": {"good": "MODULE:Good"}}, GOOD, version="2.5")
    (fault,) = faults(shelf, tmp_path, selection())
    assert "is brought by 2 distributions: pyd-one 1.0 (" in fault
    assert "and pyd-two 2.5 (" in fault


DECLINES = GOOD + "def create(context): raise Declined('no overlayfs in this kernel')\n"


def test_a_required_driver_that_declines_stops_the_daemon_and_closes_the_others(shelf: Shelf, tmp_path: Path) -> None:
    shelf.add("pyd-bad", {"pyd.storage.v1": {"overlay": "MODULE:create"}}, DECLINES)
    module = shelf.add("pyd-good", {"pyd.storage.v1": {"good": "MODULE:Good"}}, GOOD)
    assert faults(shelf, tmp_path, selection("overlay")) == (
        (
            '[storage] default = "overlay" in /etc/pyd/pyd.toml: storage driver "overlay" declined: '
            "no overlayfs in this kernel; ready: good"
        ),
    )
    assert sys.modules[module].CLOSED == ["Good"]


def test_others_may_decline_or_fail_and_the_report_says_why(
    shelf: Shelf, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    points = {"overlay": "MODULE:create", "good": "MODULE:Good", "off": "MODULE:Good", "half": "MODULE:Half"}
    source = DECLINES + "class Half:\n    def __init__(self, context): pass\ndef exits(c): raise SystemExit\n"
    shelf.add(
        "pyd-s", {"pyd.storage.v1": {**points, "exits": "MODULE:exits"}}, source + "def exits(c): raise SystemExit\n"
    )
    shelf.add("pyd-import", {"pyd.storage.v1": {"import": "MODULE:Good"}}, "import no_such_module_anywhere\n")
    composition = composed(shelf, tmp_path, selection(storage=Choice(default="good", disabled=("off",))))
    by_name = {entry.name: entry for entry in composition.report}
    assert {name: entry.state for name, entry in by_name.items()} == {
        "overlay": "declined",
        "good": "ready",
        "off": "not-selected",
        "half": "failed",
        "exits": "failed",
        "import": "failed",
    }
    assert by_name["overlay"].reason == "no overlayfs in this kernel"
    assert by_name["off"].reason == "disabled"
    assert "does not fulfil its contract" in by_name["half"].reason
    assert "ModuleNotFoundError: No module named 'no_such_module_anywhere'" in by_name["import"].reason
    assert not (tmp_path / "root/storage/overlay").exists()
    assert set(composition.storage) == {"good"}
    assert "storage half (pyd-s 1.0) failed" in caplog.text
    composition.close()


def test_network_drivers_are_loaded_only_when_listed(shelf: Shelf, tmp_path: Path) -> None:
    shelf.add("pyd-s", {"pyd.storage.v1": {"good": "MODULE:Good"}, "pyd.network.v1": {"odd": "MODULE:boom"}}, GOOD)
    composition = composed(shelf, tmp_path, selection(network=Choice(listed=())))
    assert composition.report[1].state == "not-selected"
    assert composition.report[1].reason == "not among [network] drivers"
    composition.close()


def test_a_disabled_default_is_refused(shelf: Shelf, tmp_path: Path) -> None:
    shelf.add("pyd-s", {"pyd.storage.v1": {"good": "MODULE:Good"}}, GOOD)
    (fault,) = faults(shelf, tmp_path, selection(storage=Choice(default="good", disabled=("good",))))
    assert fault.endswith("[storage] disabled names this driver")


PLUGIN = """
class Plugin:
    def __init__(self, context): self.seen = []; MADE[context.name] = self
    @hookimpl
    def event_published(self, event):
        self.seen.append(event.action)
        if event.action == "boom":
            raise ValueError("boom")
    @hookimpl
    def plugin_close(self): CLOSED.append("Plugin")
    @hookimpl(wrapper=True)
    def storage_stat(self, name):
        answer = yield
        return f"wrapped {answer}"
"""


def test_plugins_wrap_drivers_and_hear_events_until_they_are_closed_first(
    shelf: Shelf, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    points = {"pyd.storage.v1": {"good": "MODULE:Good"}, "pyd.plugin.v1": {"a": "MODULE:Plugin", "b": "MODULE:Plugin"}}
    module = shelf.add("pyd-all", points, GOOD + PLUGIN)
    composition = composed(shelf, tmp_path, selection())
    assert composition.storage["good"].call.storage_stat(name="x") == "wrapped wrapped storage_stat"
    for number, action in enumerate(("create", "boom", "start")):
        composition.listeners.publish(Event("container", action, "c", {}, number))
    composition.close()
    made = sys.modules[module].MADE
    assert made["a"].seen == made["b"].seen == ["create", "boom", "start"]
    assert caplog.text.count("ValueError: boom") == 2
    assert "plugin 'a': event_published" in caplog.text
    assert sys.modules[module].CLOSED == ["Plugin", "Plugin", "Good"]
    composition.listeners.publish(Event("container", "late", "c", {}, 9))
    assert "late" not in made["a"].seen


def test_events_are_heard_in_one_worker_thread(shelf: Shelf, tmp_path: Path) -> None:
    source = """
import threading
THREADS = []
class Plugin:
    def __init__(self, context): pass
    @hookimpl
    def event_published(self, event): THREADS.append(threading.current_thread())
"""
    module = shelf.add(
        "pyd-p", {"pyd.storage.v1": {"good": "MODULE:Good"}, "pyd.plugin.v1": {"p": "MODULE:Plugin"}}, GOOD + source
    )
    composition = composed(shelf, tmp_path, selection())
    for number in range(5):
        composition.listeners.publish(Event("container", "x", "c", {}, number))
    composition.close()
    threads = sys.modules[module].THREADS
    assert len(threads) == 5
    assert len(set(threads)) == 1
    assert threads[0] is not threading.current_thread()


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ("pass", "it implements no hook"),
        ("@hookimpl\n    def event_publishd(self, event): pass", "no contract has such a hook; did you mean"),
        ("@hookimpl(wrapper=True)\n    def plugin_close(self): yield", "listened to, not wrapped"),
        ("@hookimpl\n    def storage_stat(self, name): pass", "a plugin may only wrap this hook"),
        ("@hookimpl\n    async def event_published(self, event): pass", "is async"),
        ("@hookimpl\n    def event_published(self, evnt): pass", "unknown parameters evnt"),
    ],
)
def test_faulty_plugins_fail_alone_and_wrap_nothing(shelf: Shelf, tmp_path: Path, body: str, expected: str) -> None:
    source = f"class Plugin:\n    def __init__(self, context): pass\n    {body}\n"
    shelf.add(
        "pyd-p", {"pyd.storage.v1": {"good": "MODULE:Good"}, "pyd.plugin.v1": {"p": "MODULE:Plugin"}}, GOOD + source
    )
    composition = composed(shelf, tmp_path, selection())
    entry = composition.report[-1]
    assert (entry.kind, entry.state) == ("plugins", "failed")
    assert expected in entry.reason
    assert composition.storage["good"].call.storage_stat(name="x") == "storage_stat"
    composition.close()


def test_the_cache_file_of_stevedore_is_neither_read_nor_written(shelf: Shelf, tmp_path: Path) -> None:
    shelf.add("pyd-s", {"pyd.storage.v1": {"good": "MODULE:Good"}}, GOOD)
    composed(shelf, tmp_path, selection()).close()
    assert not (tmp_path / "cache").exists()


def test_what_is_installed_is_seen_with_distribution_and_version() -> None:
    names = {each.name: each for slot in (STORAGE, NETWORK, ISOLATION, PLUGINS) for each in discover().of(slot.group)}
    assert names["overlay"].distribution == "pyd-storage-overlay"
    assert names["overlay"].version == importlib.metadata.version("pyd-storage-overlay")
