"""The isolation suite's second part: what passes between a process and its clients, and further processes."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from pyd_conformance.clauses import clause, needs
from pyd_conformance.isolation_stage import IsolationStage, oci_spec, until
from pyd_contracts.errors import AlreadyExists, FailedPrecondition, InvalidArgument, NotFound, PermissionDenied
from pyd_contracts.values import Status

__all__ = ["IsolationStreams"]

_MANY = 150_000
_NUMBERS = b"".join(b"%d\n" % number for number in range(1, _MANY + 1))
_TRAPPING = "trap 'exit 3' TERM; echo ready; while :; do sleep 0.02; done"
_TICKING = "while :; do echo tick; sleep 0.02; done"


class IsolationStreams:
    """Clauses ISO-20 to ISO-38; collected as a part of IsolationContract."""

    kernel: bool

    if TYPE_CHECKING:

        def need_kernel(self) -> None: ...

    # --- attach --------------------------------------------------------------------------------------------------

    @clause("ISO-25", "output comes in order and complete, by stream")
    def test_output_by_stream(self, stage: IsolationStage) -> None:
        said, state = stage.output("sh", "-c", "echo one; echo two >&2; echo three")

        assert said == {1: b"one\nthree\n", 2: b"two\n"}
        assert state.exit_code == 0

    @clause("ISO-25", "a slow client slows the process and loses nothing")
    def test_a_slow_client_loses_nothing(self, stage: IsolationStage) -> None:
        container = stage.create("seq", "1", str(_MANY), spool=False)
        client = stage.attach(container, stdin=False, receive_buffer=4096)
        stage.backend.isolation_start(container=container)
        for _ in range(50):
            client.raw += client.socket.recv(100)
            time.sleep(0.001)

        assert client.read() == {1: _NUMBERS}

    @clause("ISO-25", "every client gets all from when it came, and only the streams it asked for")
    def test_several_clients(self, stage: IsolationStage) -> None:
        container = stage.create("sh", "-c", "echo out; echo err >&2")
        both = stage.attach(container, stdin=False)
        out = stage.attach(container, stdin=False, stderr=False)
        err = stage.attach(container, stdin=False, stdout=False)
        stage.backend.isolation_start(container=container)

        assert both.read() == {1: b"out\n", 2: b"err\n"}
        assert out.read() == {1: b"out\n"}
        assert err.read() == {2: b"err\n"}

    @clause("ISO-25", "a client that vanishes hinders nobody")
    def test_a_vanished_client(self, stage: IsolationStage) -> None:
        container = stage.create("seq", "1", str(_MANY), spool=False)
        gone = stage.attach(container, stdin=False)
        stays = stage.attach(container, stdin=False)
        stage.backend.isolation_start(container=container)
        gone.socket.recv(10)
        gone.close()

        assert stays.read() == {1: _NUMBERS}
        assert stage.wait(container).exit_code == 0

    @clause("ISO-25", "raw output has no frames")
    def test_raw_output(self, stage: IsolationStage) -> None:
        container = stage.create("echo", "raw")
        client = stage.attach(container, stdin=False, framed=False)
        stage.backend.isolation_start(container=container)

        client.read()

        assert client.raw == b"raw\n"

    @clause("ISO-25", "bytes that were read too early are input like any other")
    def test_early_bytes(self, stage: IsolationStage) -> None:
        container = stage.create("cat", stdin=True, stdin_once=True)
        client = stage.attach(container, early=b"early ")
        stage.backend.isolation_start(container=container)
        client.send(b"late")
        client.half_close()

        assert client.read() == {1: b"early late"}

    @clause("ISO-26", "the stream is closed after the last byte")
    def test_the_stream_ends(self, stage: IsolationStage) -> None:
        container = stage.start("sh", "-c", "read x; seq 1 20000", stdin=True)
        client = stage.attach(container)
        client.send(b"go\n")

        assert client.read()[1].endswith(b"\n20000\n")
        assert stage.wait(container).exit_code == 0

    @clause("ISO-27", "end of input reaches the process, and output goes on")
    def test_half_close(self, stage: IsolationStage) -> None:
        container = stage.start("sh", "-c", "cat; sleep 0.05; echo after", stdin=True, stdin_once=True)
        client = stage.attach(container)
        client.send(b"before\n")
        client.half_close()

        assert client.read() == {1: b"before\nafter\n"}

    @clause("ISO-27", "a client without standard input does not end it")
    def test_a_listener_does_not_end_input(self, stage: IsolationStage) -> None:
        container = stage.start("cat", stdin=True, stdin_once=True)
        listener = stage.attach(container, stdin=False)
        listener.close()
        client = stage.attach(container)
        client.send(b"still open")
        client.half_close()

        assert client.read() == {1: b"still open"}

    @clause("ISO-27", "without stdin_once the next client finds the input open")
    def test_input_stays_open(self, stage: IsolationStage) -> None:
        container = stage.start("cat", stdin=True)
        first = stage.attach(container)
        first.send(b"first")
        first.read_until(b"first")
        first.close()
        second = stage.attach(container)
        second.send(b"second")

        second.read_until(b"second")

        assert stage.state(container).status is Status.RUNNING

    @clause("ISO-28", "a stopped process takes no client")
    def test_attach_to_a_stopped_process(self, stage: IsolationStage) -> None:
        container = stage.start("true")
        stage.wait(container)

        with pytest.raises(FailedPrecondition):
            stage.attach(container)

    # --- terminals -----------------------------------------------------------------------------------------------

    @needs("terminal")
    @clause("ISO-25", "a terminal echoes, and its output is raw")
    def test_a_terminal(self, stage: IsolationStage) -> None:
        container = stage.create("sh", "-c", "read x; echo got it", terminal=True, stdin=True)
        client = stage.attach(container, framed=False)
        stage.backend.isolation_start(container=container)
        client.send(b"word\n")

        assert client.read()[1] == b"word\r\ngot it\r\n"

    @needs("terminal")
    @clause("ISO-30", "the first size, and a later one")
    def test_the_size_of_a_terminal(self, stage: IsolationStage) -> None:
        container = stage.create("sh", "-c", "stty size; read x; stty size", terminal=True, stdin=True, size=(31, 97))
        client = stage.attach(container, framed=False)
        stage.backend.isolation_start(container=container)
        client.read_until(b"31 97\r\n")

        stage.backend.isolation_resize(container=container, process="", height=43, width=132)
        client.send(b"\n")

        assert client.read()[1].endswith(b"43 132\r\n")

    @clause("ISO-30", "no size without a terminal, and none of what has stopped")
    def test_resize_refuses(self, stage: IsolationStage) -> None:
        container = stage.start("cat", stdin=True)

        with pytest.raises(InvalidArgument):
            stage.backend.isolation_resize(container=container, process="", height=24, width=80)
        stage.kill(container)
        stage.wait(container)
        with pytest.raises(FailedPrecondition):
            stage.backend.isolation_resize(container=container, process="", height=24, width=80)

    @needs("terminal")
    @clause("ISO-25", "the detach keys end the connection and not the process; a prefix of them is input")
    def test_detach_keys(self, stage: IsolationStage) -> None:
        container = stage.start("cat", terminal=True, stdin=True)
        client = stage.attach(container, framed=False, detach_keys=b"\x10\x11")
        client.send(b"a\x10b\n")
        client.read_until(b"a^Pb\r\n")
        client.send(b"\x10")
        client.send(b"\x11")

        client.read()

        assert stage.state(container).status is Status.RUNNING

    # --- exec ----------------------------------------------------------------------------------------------------

    @needs("exec")
    @clause("ISO-20", "it runs inside, its output and its exit code are its own")
    def test_exec(self, stage: IsolationStage) -> None:
        container = stage.start("sleep", "100")

        exec_id, client, pid = stage.execute(container, "sh", "-c", "hostname; echo oops >&2; exit 5")

        assert pid > 0
        assert client.read() == {1: b"box\n", 2: b"oops\n"}
        assert stage.wait(container, exec_id).exit_code == 5
        assert stage.state(container).status is Status.RUNNING

    @needs("exec")
    @clause("ISO-20", "all namespaces and control groups are those of the container")
    def test_exec_shares_everything(self, stage: IsolationStage) -> None:
        self.need_kernel()
        container = stage.start("sleep", "100")
        _, client, pid = stage.execute(container, "sh", "-c", "echo in; read x", stdin=True)
        client.read_until(b"in\n")
        init = stage.created[container].pid

        for kind in ("cgroup", "ipc", "mnt", "net", "pid", "uts"):
            ours = Path(f"/proc/{init}/ns/{kind}").readlink()
            assert Path(f"/proc/{pid}/ns/{kind}").readlink() == ours, kind
            assert ours != Path(f"/proc/self/ns/{kind}").readlink(), kind
        assert Path(f"/proc/{pid}/cgroup").read_text() == Path(f"/proc/{init}/cgroup").read_text()

    @needs("exec")
    @clause("ISO-20", "it reads what is sent to it")
    def test_exec_with_input(self, stage: IsolationStage) -> None:
        container = stage.start("sleep", "100")
        _, client, _ = stage.execute(container, "cat", stdin=True)
        client.send(b"to the exec")
        client.half_close()

        assert client.read() == {1: b"to the exec"}

    @needs("exec")
    @clause("ISO-21", "only in a running container, only once by that id, only what is there")
    def test_exec_refuses(self, stage: IsolationStage) -> None:
        created = stage.create("sleep", "100")
        with pytest.raises(FailedPrecondition):
            stage.execute(created, "true")
        container = stage.start("sleep", "100")
        stage.execute(container, "sleep", "100", exec_id="taken")

        with pytest.raises(AlreadyExists):
            stage.execute(container, "true", exec_id="taken")
        with pytest.raises(NotFound):
            stage.execute(container, "no-such-program")
        with pytest.raises(PermissionDenied):
            stage.execute(container, "/bin/noexec")
        with pytest.raises(NotFound):
            stage.execute("0" * 64, "true")
        stage.kill(container)
        stage.wait(container)
        with pytest.raises((FailedPrecondition, NotFound)):
            stage.execute(container, "true")

    @needs("exec")
    @clause("ISO-40", "an exec that ended with its container has stopped")
    def test_exec_ends_with_its_container(self, stage: IsolationStage) -> None:
        container = stage.start("sleep", "100")
        exec_id, client, _ = stage.execute(container, "sleep", "100")
        stage.kill(container)

        client.read()
        state = stage.wait(container, exec_id)

        assert (state.status, state.exit_code) == (Status.STOPPED, 137)
        assert stage.wait(container).exit_code == 137

    # --- kill and freeze -----------------------------------------------------------------------------------------

    @clause("ISO-35", "the signal reaches the program")
    def test_kill(self, stage: IsolationStage) -> None:
        container = stage.start("sh", "-c", _TRAPPING)
        stage.attach(container, stdin=False)
        until(lambda: stage.spooled(container) == b"ready\n", "the program is ready")

        stage.kill(container, 15)

        assert stage.wait(container).exit_code == 3

    @clause("ISO-35", "a process that has ended is not signalled, nor is another in its place")
    @needs("exec")
    def test_kill_of_the_dead(self, stage: IsolationStage) -> None:
        container = stage.start("sleep", "100")
        ended, client, _ = stage.execute(container, "true")
        client.read()
        stage.wait(container, ended)
        other, _, _ = stage.execute(container, "sleep", "100")

        with pytest.raises(FailedPrecondition):
            stage.kill(container, 9, ended)

        assert stage.state(container, other).status is Status.RUNNING
        stage.kill(container, 15, other)
        assert stage.wait(container, other).exit_code == 143
        assert stage.state(container).status is Status.RUNNING

    @clause("ISO-35", "everyone means everyone")
    @needs("exec")
    def test_kill_everyone(self, stage: IsolationStage) -> None:
        container = stage.start("sh", "-c", _TRAPPING)
        until(lambda: stage.spooled(container) == b"ready\n", "the program is ready")
        exec_id, _, _ = stage.execute(container, "sleep", "100")

        stage.kill(container, 15, everyone=True)

        assert stage.wait(container).exit_code == 3
        assert stage.wait(container, exec_id).exit_code in (143, 137)

    @clause("ISO-36", "a created container can be ended, a stopped one cannot be signalled")
    def test_kill_needs_a_process(self, stage: IsolationStage) -> None:
        container = stage.create("sleep", "100")

        stage.kill(container)

        assert stage.wait(container).exit_code == 137
        with pytest.raises(FailedPrecondition):
            stage.kill(container)
        with pytest.raises(FailedPrecondition):
            stage.kill(container, 9, everyone=True)

    @needs("pause")
    @clause("ISO-38", "nothing moves while frozen, all goes on afterwards")
    def test_freeze(self, stage: IsolationStage) -> None:
        container = stage.start("sh", "-c", _TICKING)
        until(lambda: stage.spooled(container), "a tick")

        stage.backend.isolation_freeze(container=container, frozen=True)
        time.sleep(0.1)  # what was in a pipe already may still come
        before = stage.spooled(container)
        assert stage.state(container).status is Status.PAUSED
        with pytest.raises(FailedPrecondition):
            stage.execute(container, "true")
        time.sleep(0.2)
        assert stage.spooled(container) == before

        stage.backend.isolation_freeze(container=container, frozen=False)
        until(lambda: stage.spooled(container) != before, "it goes on")
        assert stage.state(container).status is Status.RUNNING

    @needs("pause")
    @clause("ISO-38", "SIGKILL ends what is frozen")
    @pytest.mark.parametrize("everyone", [False, True])
    def test_kill_of_a_frozen_container(self, stage: IsolationStage, everyone: bool) -> None:
        container = stage.start("sleep", "100")
        stage.backend.isolation_freeze(container=container, frozen=True)

        stage.kill(container, 9, everyone=everyone)

        assert stage.wait(container).exit_code == 137

    @needs("pause")
    @clause("ISO-38", "only a running container can be frozen")
    def test_freeze_refuses(self, stage: IsolationStage) -> None:
        container = stage.create("sleep", "100", spec=oci_spec(["sleep", "100"]))
        with pytest.raises(FailedPrecondition):
            stage.backend.isolation_freeze(container=container, frozen=True)
        stage.end(container)
        with pytest.raises(FailedPrecondition):
            stage.backend.isolation_freeze(container=container, frozen=True)
