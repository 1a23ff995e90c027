"""Log drivers as users of the docker client know them, with sinks of the tests' own; daemons and sinks that go and come."""

from __future__ import annotations

import json
import os
import re
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from clients import Client, docker_program
from engine_under_test import Daemon
from pyd_conformance.log import Message
from pyd_conformance.log_servers import DatagramServer, StreamServer

pytestmark = [pytest.mark.root, pytest.mark.docker, pytest.mark.usefixtures("snapshot")]

Box = Callable[..., str]
LINE = re.compile(rb"<(\d+)>\S+ +\d+ \S+ (\S+)\[\d+\]: (.*)")


def until(fact: Callable[[], Any], what: str, seconds: float = 60) -> Any:
    """Wait for it."""
    deadline = time.monotonic() + seconds
    while not (found := fact()):
        assert time.monotonic() < deadline, what
        time.sleep(0.02)
    return found


class Syslog(StreamServer):
    """A syslog server on a port of 127.0.0.1; the tag is the container's name."""

    def __init__(self) -> None:
        super().__init__(self._read)

    @property
    def flags(self) -> tuple[str, ...]:
        """For `docker run`."""
        address = f"syslog-address=tcp://127.0.0.1:{self.port}"
        return ("--log-driver", "syslog", "--log-opt", address, "--log-opt", "tag={{.Name}}")

    def lines(self, name: str) -> list[str]:
        """What came of a container, repetitions left out."""
        return list(dict.fromkeys(each.line.decode() for each in self.received(name)))

    @staticmethod
    def _read(data: bytes) -> tuple[list[tuple[str, Message]], int, bytes]:
        end = data.rfind(b"\n") + 1
        found = []
        for line in data[:end].splitlines():
            match = LINE.fullmatch(line)
            assert match is not None, line
            stream = 2 if int(match[1]) & 7 == 3 else 1
            found.append((match[2].decode(), Message(match[3], stream)))
        return found, end, b""


@pytest.fixture
def syslog(own_network: None) -> Iterator[Syslog]:
    server = Syslog()
    yield server
    server.close()


def inspect(docker: Client, container: str) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(docker("inspect", container).stdout)[0]
    return document


def delivered(docker: Client, container: str) -> dict[str, Any]:
    """How delivery stands, once nothing is left to be delivered."""

    def state() -> dict[str, Any] | None:
        found: dict[str, Any] = inspect(docker, container)["LogDelivery"]
        return None if found["Undelivered"] else found

    found: dict[str, Any] = until(state, "everything is delivered")
    return found


# --- files -------------------------------------------------------------------------------------------------------


def test_json_file_is_the_default_and_its_file_is_dockers(docker: Client, box: Box) -> None:
    container = box("sh", "-c", "echo out; echo err >&2; printf 'no end'", flags=("--log-opt", "labels=a", "-l", "a=b"))
    docker("wait", container)
    assert delivered(docker, container) == {"Undelivered": 0, "Dropped": 0, "Lost": 0, "Error": ""}
    document = inspect(docker, container)
    assert document["HostConfig"]["LogConfig"] == {"Type": "json-file", "Config": {"labels": "a"}}
    path = Path(document["LogPath"])
    assert path.name == f"{container}-json.log"
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert sorted((each["stream"], each["log"], each["attrs"]["a"]) for each in lines) == [
        ("stderr", "err\n", "b"),
        ("stdout", "no end", "b"),
        ("stdout", "out\n", "b"),
    ]
    assert all(re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,9})?Z", each["time"]) for each in lines)
    docker("rm", container)
    assert not path.exists()


def test_json_files_are_turned_and_packed(docker: Client, box: Box) -> None:
    flags = [word for each in ("max-size=100k", "max-file=3", "compress=true") for word in ("--log-opt", each)]
    container = box("sh", "-c", "i=0; while [ $i -lt 20000 ]; do i=$((i+1)); echo line $i; done", flags=tuple(flags))
    docker("wait", container)
    delivered(docker, container)
    path = Path(inspect(docker, container)["LogPath"])
    wanted = [path.name, f"{path.name}.1.gz", f"{path.name}.2.gz"]
    until(lambda: sorted(each.name for each in path.parent.glob(f"{path.name}*")) == wanted, "they are packed")
    assert json.loads(path.read_text().splitlines()[-1])["log"] == "line 20000\n"


def test_a_restarted_container_goes_on_in_its_file(docker: Client, box: Box) -> None:
    container = box("echo", "again")
    docker("wait", container)
    for _ in range(3):
        docker("start", "-a", container)
    delivered(docker, container)
    path = Path(inspect(docker, container)["LogPath"])
    assert [json.loads(line)["log"] for line in path.read_text().splitlines()] == ["again\n"] * 4
    assert docker("logs", container).stdout == "again\n" * 4


def test_local_and_none_deliver_nothing(docker: Client, box: Box) -> None:
    local, none = (box("echo", "hi", flags=("--log-driver", name)) for name in ("local", "none"))
    docker("wait", local, none)
    for container in (local, none):
        document = inspect(docker, container)
        assert document["LogPath"] == ""
        assert "LogDelivery" not in document
    assert docker("logs", local).stdout == "hi\n"
    refused = docker("logs", none, check=False)
    assert "configured logging driver does not support reading" in refused.stderr


# --- words -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("flags", "text"),
    [
        (("nope",), 'error looking up logging plugin nope: plugin "nope" not found'),
        (("syslog", "x=1"), "unknown log opt 'x' for syslog log driver"),
        (("syslog", "syslog-address=here"), "syslog-address should be in form proto://address, got here"),
        (("syslog", "syslog-facility=x"), "invalid syslog facility"),
        (("gelf",), "gelf-address is a required parameter"),
        (("fluentd", "x=1"), "unknown log opt 'x' for fluentd log driver"),
        (("json-file", "mode=x"), "logger: logging mode not supported: x"),
        (("local", "x=1"), "unknown log opt 'x' for log driver local"),
        (("journald",), "journald is not enabled on this host"),
    ],
)
def test_what_cannot_be_is_refused_at_creation(
    docker: Client, warm: str, flags: tuple[str, ...], text: str, name: str
) -> None:
    if flags[0] == "journald" and Path("/run/systemd/journal/socket").exists():
        pytest.skip("there is a journal here")
    words = ["--log-driver", flags[0], *(word for each in flags[1:] for word in ("--log-opt", each))]
    refused = docker("create", "--name", name, *words, warm, "true", check=False)
    assert refused.returncode == 1
    assert text in refused.stderr
    assert docker("ps", "-aq", "--filter", f"name={name}").stdout == ""


def test_info_tells_which_drivers_there_are(docker: Client) -> None:
    info = json.loads(docker("info", "--format", "{{json .}}").stdout)
    assert info["LoggingDriver"] == "json-file"
    assert {"fluentd", "gelf", "json-file", "local", "syslog"} <= set(info["Plugins"]["Log"])
    assert "none" not in info["Plugins"]["Log"]


# --- sinks elsewhere ---------------------------------------------------------------------------------------------


def test_syslog_gets_what_is_written_and_logs_show_it_too(docker: Client, box: Box, syslog: Syslog, name: str) -> None:
    container = box("sh", "-c", "echo out; echo err >&2", flags=("--name", name, *syslog.flags))
    found = until(lambda: len(syslog.received(name)) == 2 and syslog.received(name), "both arrive")
    assert sorted((each.line, each.stream) for each in found) == [(b"err", 2), (b"out", 1)]
    logs = docker("logs", container)
    assert (logs.stdout, logs.stderr) == ("out\n", "err\n")
    assert inspect(docker, container)["LogPath"] == ""


def test_what_a_removed_container_said_last_arrives(docker: Client, syslog: Syslog, warm: str, name: str) -> None:
    docker("run", "--rm", "--name", name, *syslog.flags, warm, "echo", "last words")
    until(lambda: syslog.lines(name) == ["last words"], "it arrives")


def test_it_arrives_also_when_the_sink_was_down(
    pydd: Daemon, docker: Client, syslog: Syslog, warm: str, name: str
) -> None:
    syslog.down()
    docker("run", "--rm", "--name", name, *syslog.flags, warm, "sh", "-c", "echo one; echo two")
    assert any((pydd.data / "undelivered").iterdir())
    syslog.up()
    until(lambda: syslog.lines(name) == ["one", "two"], "both arrive")
    until(lambda: not any((pydd.data / "undelivered").iterdir()), "nothing is left of it")


def test_a_sink_that_is_down_stops_nobody(docker: Client, box: Box, syslog: Syslog, name: str) -> None:
    syslog.down()
    container = box("sh", "-c", "yes 0123456789 | head -n 100000", flags=("--name", name, *syslog.flags))
    assert docker("wait", container).stdout == "0\n"
    state = until(
        lambda: inspect(docker, container)["LogDelivery"]["Error"] and inspect(docker, container), "it is told"
    )
    assert state["LogDelivery"]["Undelivered"] > 1_000_000
    assert "connection refused" in state["LogDelivery"]["Error"]
    syslog.up()
    delivered(docker, container)
    until(lambda: len(syslog.received(name)) >= 100_000, "what was delivered is read")


def test_who_asked_not_to_wait_loses_the_oldest_and_it_is_counted(
    docker: Client, box: Box, syslog: Syslog, name: str
) -> None:
    syslog.down()
    flags = ("--name", name, *syslog.flags, "--log-opt", "mode=non-blocking", "--log-opt", "max-buffer-size=100k")
    container = box("sh", "-c", "i=0; while [ $i -lt 30000 ]; do i=$((i+1)); echo line $i; done", flags=flags)
    docker("wait", container)
    syslog.up()
    state = delivered(docker, container)
    assert state["Dropped"] > 0
    until(lambda: syslog.lines(name)[-1:] == ["line 30000"], "what was delivered is read")
    assert len(docker("logs", container).stdout.splitlines()) == 30000


def other(
    new_pydd: Callable[..., Daemon], environment: dict[str, str], archive: Path, more: str
) -> tuple[Daemon, Client]:
    """A daemon with settings of its own, and a client for it."""
    daemon = new_pydd(more)
    client = Client((docker_program(), "-H", daemon.url), environment)
    client("load", "-q", "-i", str(archive))
    return daemon, client


def test_who_asked_to_wait_waits_and_loses_nothing(
    new_pydd: Callable[..., Daemon], client_environment: dict[str, str], image_archive: Path, syslog: Syslog, name: str
) -> None:
    daemon, docker = other(new_pydd, client_environment, image_archive, '[logging]\nhold = "64k"\nkeep = "64k"\n')
    syslog.down()
    flags = ("--name", name, "--network", "none", *syslog.flags, "--log-opt", "mode=blocking")
    script = "i=0; while [ $i -lt 40000 ]; do i=$((i+1)); echo line $i; done"
    container = docker("run", "-d", *flags, "busybox", "sh", "-c", script).stdout.strip()
    looks = [0]

    def still() -> bool:
        looks.append(inspect(docker, container)["LogDelivery"]["Undelivered"])
        return looks[-1] == looks[-2] > 64 << 10

    until(still, "it has written as much as may wait, and writes no more")
    document = inspect(docker, container)
    assert document["State"]["Running"]
    assert 64 << 10 < document["LogDelivery"]["Undelivered"] < 256 << 10  # a segment more than may wait, at the most
    syslog.up()
    assert docker("wait", container).stdout == "0\n"
    assert delivered(docker, container)["Lost"] == 0
    until(lambda: syslog.lines(name)[-1:] == ["line 40000"], "what was delivered is read")
    assert syslog.lines(name) == [f"line {number}" for number in range(1, 40001)]
    daemon.close()


def test_beyond_the_bound_it_is_lost_and_told(
    new_pydd: Callable[..., Daemon], client_environment: dict[str, str], image_archive: Path, syslog: Syslog, name: str
) -> None:
    daemon, docker = other(new_pydd, client_environment, image_archive, '[logging]\nhold = "64k"\nkeep = "64k"\n')
    syslog.down()
    flags = ("--name", name, "--network", "none", *syslog.flags)
    container = docker("run", "-d", *flags, "busybox", "sh", "-c", "yes 0123456789 | head -n 100000").stdout.strip()
    assert docker("wait", container).stdout == "0\n"
    assert inspect(docker, container)["LogDelivery"]["Lost"] > 0
    syslog.up()
    delivered(docker, container)
    until(lambda: "were never delivered" in daemon.log.read_text(), "the log tells it")
    daemon.close()


# --- the daemon goes and comes -----------------------------------------------------------------------------------


def test_every_line_arrives_in_order_whatever_is_killed(
    new_pydd: Callable[..., Daemon], client_environment: dict[str, str], image_archive: Path, syslog: Syslog, name: str
) -> None:
    daemon, docker = other(new_pydd, client_environment, image_archive, "")
    script = "i=0; while [ ! -e /stop ]; do i=$((i+1)); echo line $i; usleep 200; done; echo end"
    flags = ("--name", name, "--network", "none", *syslog.flags)
    container = docker("run", "-d", *flags, "busybox", "sh", "-c", script).stdout.strip()
    until(lambda: len(syslog.lines(name)) > 100, "it arrives")
    daemon.kill()
    seen = len(syslog.lines(name))
    syslog.down()
    daemon.start()
    until(lambda: "connection refused" in daemon.log.read_text(), "the sink is found to be down")
    daemon.kill()
    syslog.up()
    daemon.start()
    until(lambda: len(syslog.lines(name)) > seen + 100, "it arrives again")
    for pid in deliverers(daemon):
        os.kill(pid, signal.SIGKILL)
    now = len(syslog.lines(name))
    until(lambda: len(syslog.lines(name)) > now + 100, "another process goes on")
    docker("exec", container, "touch", "/stop", check=False)  # the container's end may be quicker, and end it
    docker("wait", container)
    daemon.stop()
    assert not [each for each in deliverers(daemon) if Path(f"/proc/{each}").exists()]
    daemon.start()
    until(lambda: syslog.lines(name)[-1:] == ["end"], "the end arrives")
    *lines, _end = syslog.lines(name)
    assert lines == [f"line {number}" for number in range(1, len(lines) + 1)]
    assert inspect(docker, container)["LogDelivery"]["Lost"] == 0
    daemon.close()


def deliverers(daemon: Daemon) -> list[int]:
    """Processes of the daemon that deliver logs."""
    found = []
    for each in Path("/proc").iterdir():
        if not each.name.isdigit():
            continue
        try:
            words = (each / "cmdline").read_bytes().split(b"\0")
            files = [os.readlink(link) for link in (each / "fd").iterdir()]
        except OSError:
            continue
        if b"pyd_daemon.delivery" in words and f"{daemon.run}/logging.lock" in files:
            found.append(int(each.name))
    return found


def test_output_written_while_no_daemon_ran_is_delivered(
    new_pydd: Callable[..., Daemon], client_environment: dict[str, str], image_archive: Path, syslog: Syslog, name: str
) -> None:
    daemon, docker = other(new_pydd, client_environment, image_archive, "")
    flags = ("--name", name, "--network", "none", "-v", f"{daemon.root}:/host", *syslog.flags)
    script = "echo before; while [ ! -e /host/go ]; do usleep 10000; done; echo after; touch /host/done"
    docker("run", "-d", *flags, "busybox", "sh", "-c", script)
    until(lambda: syslog.lines(name) == ["before"], "it arrives")
    daemon.stop()
    (daemon.root / "go").touch()
    until((daemon.root / "done").exists, "it has ended by itself")
    assert syslog.lines(name) == ["before"]
    daemon.start()
    until(lambda: syslog.lines(name) == ["before", "after"], "the rest arrives")
    daemon.close()


def test_the_daemons_defaults(
    new_pydd: Callable[..., Daemon], client_environment: dict[str, str], image_archive: Path, syslog: Syslog, name: str
) -> None:
    address = f"tcp://127.0.0.1:{syslog.port}"
    more = f'[logging]\ndefault = "syslog"\ndisabled = ["gelf"]\n[logging.options]\nsyslog-address = "{address}"\n'
    daemon, docker = other(new_pydd, client_environment, image_archive, more + 'tag = "{{.Name}}"\n')
    info = json.loads(docker("info", "--format", "{{json .}}").stdout)
    assert info["LoggingDriver"] == "syslog"
    assert "gelf" not in info["Plugins"]["Log"]
    ran = ("--network", "none", "--rm", "--name", name)
    docker("run", *ran, "busybox", "echo", "by default")
    until(lambda: syslog.lines(name) == ["by default"], "it arrives")
    created = docker("create", "--log-opt", "syslog-format=rfc3164", "busybox", "true").stdout.strip()
    assert inspect(docker, created)["HostConfig"]["LogConfig"] == {
        "Type": "syslog",
        "Config": {"syslog-address": address, "tag": "{{.Name}}", "syslog-format": "rfc3164"},
    }
    created = docker("create", "--log-driver", "local", "busybox", "true").stdout.strip()
    assert inspect(docker, created)["HostConfig"]["LogConfig"] == {"Type": "local", "Config": {}}
    daemon.close()


def test_a_journal_gets_entries(
    new_pydd: Callable[..., Daemon],
    client_environment: dict[str, str],
    image_archive: Path,
    tmp_path: Path,
    name: str,
    own_network: None,
) -> None:
    def entry(data: bytes, _fds: list[int]) -> list[tuple[str, Message]]:
        fields = dict(line.partition(b"=")[::2] for line in data.splitlines())
        assert fields[b"IMAGE_NAME"] == b"busybox"
        stream = {b"6": 1, b"3": 2}[fields[b"PRIORITY"]]
        return [(fields[b"CONTAINER_NAME"].decode(), Message(fields[b"MESSAGE"], stream))]

    journal = DatagramServer(entry, str(tmp_path / "journal"))
    more = f'[logging.journald]\nsocket = "{tmp_path}/journal"\n'
    daemon, docker = other(new_pydd, client_environment, image_archive, more)
    flags = ("--rm", "--name", name, "--network", "none", "--log-driver", "journald")
    docker("run", *flags, "busybox", "sh", "-c", "echo out; echo err >&2")
    found = until(lambda: len(journal.received(name)) == 2 and journal.received(name), "both arrive")
    assert sorted((each.line, each.stream) for each in found) == [(b"err", 2), (b"out", 1)]
    daemon.close()
    journal.close()


def test_gelf_gets_messages(docker: Client, warm: str, name: str, own_network: None) -> None:
    def parse(data: bytes) -> tuple[list[tuple[str, Message]], int, bytes]:
        end = data.rfind(b"\0") + 1
        documents = [json.loads(each) for each in data[:end].split(b"\0")[:-1]]
        return [(each["_container_name"], Message(each["short_message"].encode(), 1)) for each in documents], end, b""

    server = StreamServer(parse)
    flags = ("--log-driver", "gelf", "--log-opt", f"gelf-address=tcp://127.0.0.1:{server.port}")
    docker("run", "--rm", "--name", name, *flags, warm, "echo", "hello")
    until(lambda: [each.line for each in server.received(name)] == [b"hello"], "it arrives")
    server.close()
