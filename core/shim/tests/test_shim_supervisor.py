"""The shim with a tiny launcher: life cycle, exit file, clients, watchers."""

from __future__ import annotations

import json
import os
import signal
import socket
import stat
from typing import Any

import pytest
from shim_rig import Box, Rig, until

from pyd_contracts.errors import AlreadyExists, FailedPrecondition, InvalidArgument, NotFound, PermissionDenied
from pyd_shim.client import ShimClient, ShimGone
from pyd_shim.spool import SpoolReader


def ending(box: Box) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((box.state / "exit.json").read_text())
    return found


def all_of(connection: socket.socket) -> bytes:
    data = b""
    while piece := connection.recv(65536):
        data += piece
    return data


def test_a_life(host: Rig) -> None:
    box = host.box()
    created = box.create("echo out; echo err >&2; exit 7")
    assert created["warnings"] == ["a warning"]
    assert box.query() == {"status": "created", "pid": created["pid"], "created": created}
    client, ended = box.attach(stdin=False), box.watch()

    box.shim.ask({"op": "start"})

    assert sorted(all_of(client).split()) == [b"err", b"out"]
    ended()
    assert ending(box)["exit_code"] == 7
    assert ending(box)["finished_at"] > 1.6e9
    reader = SpoolReader(str(box.state / "spool"))
    assert {(each.stream, each.data) for each in reader.frames()} == {(1, b"out\n"), (2, b"err\n")}
    reader.close()
    assert box.shim.wait_gone(10)
    assert (box.bundle / "cleaned").exists()
    assert not (box.bundle / "shim.sock").exists()


def test_a_signal_gives_128_more(host: Rig) -> None:
    box = host.box()
    box.run("read x", stdin=True)

    box.shim.ask({"op": "kill", "process": "", "signal": 9, "everyone": False})
    box.wait()

    assert ending(box)["exit_code"] == 137


def test_the_socket_is_private_and_its_path_may_be_long(host: Rig) -> None:
    box = host.box("long-" * 30)
    box.run("read x", stdin=True)

    mode = (box.bundle / "shim.sock").stat().st_mode
    again = ShimClient.connect(box.bundle, box.name)

    assert stat.S_ISSOCK(mode)
    assert stat.S_IMODE(mode) == 0o600
    assert len(str(box.bundle / "shim.sock")) > 107
    assert again.ask({"op": "state", "process": ""})["status"] == "running"
    again.close()


def test_a_refused_create_names_its_kind_and_ends_with_delete(host: Rig) -> None:
    box = host.box()

    with pytest.raises(PermissionDenied, match="because of a test"):
        box.create("true", refuse=("permission-denied", "because of a test"))
    box.shim.ask({"op": "delete"})

    assert box.shim.wait_gone(10)


def test_a_failed_start_is_told_and_kept(host: Rig) -> None:
    box = host.box()
    box.create("true", stop=("not-found", "no such program"))
    ended = box.watch()

    with pytest.raises(NotFound, match="no such program"):
        box.shim.ask({"op": "start"})
    ended()

    assert ending(box)["failure"] == "no such program"


def test_what_the_state_does_not_allow(host: Rig) -> None:
    box = host.box()
    box.create("read x", stdin=True)
    with pytest.raises(FailedPrecondition):
        box.execute("early", "true")
    box.shim.ask({"op": "start"})

    with pytest.raises(FailedPrecondition):
        box.shim.ask({"op": "start"})
    with pytest.raises(FailedPrecondition):
        box.shim.ask({"op": "delete"})
    with pytest.raises(InvalidArgument):
        box.shim.ask({"op": "resize", "process": "", "height": 1, "width": 1})
    with pytest.raises(NotFound):
        box.query("nobody")
    with pytest.raises(NotFound):
        box.attach("nobody")
    box.execute("taken", "sleep 60")
    with pytest.raises(AlreadyExists):
        box.execute("taken", "true")


def test_an_exec_with_its_client_and_its_end(host: Rig) -> None:
    box = host.box()
    box.run("read x", stdin=True)
    ours, theirs = socket.socketpair()
    ours.settimeout(10)
    with ours, theirs:
        box.execute("one", "echo from the exec; exit 5", theirs.fileno())
        theirs.close()
        assert all_of(ours) == b"from the exec\n"
    box.wait("one")

    answer = box.query("one")
    assert (answer["status"], answer["exit_code"]) == ("stopped", 5)
    assert box.query()["status"] == "running"
    box.kill()
    box.wait()
    assert ending(box)["execs"]["one"]["exit_code"] == 5


def test_an_exec_that_outlives_the_init_is_told_of(host: Rig) -> None:
    box = host.box()
    box.run("read x", stdin=True)
    box.execute("late", "sleep 0.2; exit 9")
    ended = box.watch("late")
    box.kill()

    ended()

    assert ending(box)["exit_code"] == 137
    assert ending(box)["execs"]["late"]["exit_code"] == 9


def test_old_execs_are_forgotten(host: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    source = (host.work / "tiny_launcher" / "__init__.py").read_text()
    small = source + "\nfrom pyd_shim import supervisor\nsupervisor.MAX_PROCESSES = 3\n"
    (host.work / "tiny_launcher" / "__init__.py").write_text(small)
    box = host.box()
    box.run("read x", stdin=True)
    for number in range(6):
        box.execute(f"e{number}", "true")
        box.wait(f"e{number}")

    with pytest.raises(NotFound):
        box.query("e0")
    assert box.query("e5")["exit_code"] == 0
    assert box.query()["status"] == "running"


def test_a_child_that_keeps_the_pipes_does_not_keep_the_end(host: Rig) -> None:
    box = host.box()
    box.create("sleep 30 & echo $! ; exit 3")
    client = box.attach(stdin=False)
    box.shim.ask({"op": "start"})

    box.wait()

    assert ending(box)["exit_code"] == 3
    all_of(client)
    reader = SpoolReader(str(box.state / "spool"))
    os.kill(int(b"".join(each.data for each in reader.frames())), signal.SIGKILL)
    reader.close()


def test_a_child_that_writes_for_ever_does_not_either(host: Rig) -> None:
    box = host.box()
    box.run("(while :; do echo yyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyy || exit; done) & echo $!; exit 3", stdin=False)

    box.wait()

    assert ending(box)["exit_code"] == 3
    until(lambda: box.shim.wait_gone(0.1), "the shim has ended, and the writer gets SIGPIPE")


def test_a_killed_shim_closes_every_connection(host: Rig) -> None:
    box = host.box()
    box.run("read x", stdin=True)
    client, ended = box.attach(), box.watch()

    os.kill(box.pid, signal.SIGKILL)

    ended()
    with pytest.raises(ShimGone):
        box.query()
    with pytest.raises(ShimGone):
        ShimClient.connect(box.bundle, box.name)
    client.settimeout(10)
    assert all_of(client) == b""
    assert not (box.state / "exit.json").exists()


def test_the_shim_stays_until_a_slow_client_has_everything(host: Rig) -> None:
    box = host.box()
    box.create("i=0; while [ $i -lt 400 ]; do printf '%01000d' $i; i=$((i+1)); done")
    client = box.attach(stdin=False)
    box.shim.ask({"op": "start"})
    box.wait()

    assert ending(box)["exit_code"] == 0
    assert len(all_of(client)) == 400_000
    assert box.shim.wait_gone(10)


def test_many_daemons_may_ask(host: Rig) -> None:
    box = host.box()
    box.run("read x", stdin=True)
    others = [ShimClient.connect(box.bundle, box.name) for _ in range(20)]

    assert {other.ask({"op": "state", "process": ""})["status"] for other in others} == {"running"}
    for other in others:
        other.close()
    assert box.query()["status"] == "running"
