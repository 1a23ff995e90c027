"""What a container's program sees: as little of the host as Docker shows, and its network."""

from __future__ import annotations

import json
import os
import re
import secrets
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from clients import Client, until
from engine_under_test import Daemon

pytestmark = [pytest.mark.root, pytest.mark.docker, pytest.mark.usefixtures("snapshot")]

Box = Callable[..., str]
MASKED_FILES = ("/proc/kcore", "/proc/keys", "/proc/timer_list")
MASKED_FOLDERS = ("/proc/acpi", "/proc/scsi", "/sys/firmware")
READ_ONLY = ("/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger")


def inside(docker: Client, image: str, script: str, *flags: str) -> list[str]:
    """The lines a script writes in a new container."""
    return docker("run", "--rm", *flags, image, "sh", "-c", script).stdout.splitlines()


def status(docker: Client, image: str, *flags: str) -> dict[str, str]:
    """/proc/self/status."""
    return dict(
        line.split(":\t", 1) for line in inside(docker, image, "cat /proc/self/status", *flags) if ":\t" in line
    )


def test_capabilities_and_seccomp_are_dockers(docker: Client, warm: str) -> None:
    found = status(docker, warm)
    for name in ("CapEff", "CapPrm", "CapBnd"):
        assert found[name] == "00000000a80425fb"
    assert found["CapAmb"] == "0000000000000000"
    assert found["Seccomp"] == "2"


def test_another_user_has_no_capabilities(docker: Client, warm: str) -> None:
    found = status(docker, warm, "-u", "1000:1000", "--security-opt", "no-new-privileges")
    assert (found["CapEff"], found["NoNewPrivs"]) == ("0000000000000000", "1")
    assert found["Uid"].split() == ["1000"] * 4


def test_capabilities_as_asked(docker: Client, warm: str) -> None:
    only = status(docker, warm, "--cap-drop", "ALL", "--cap-add", "NET_ADMIN")
    assert int(only["CapEff"], 16) == 1 << 12
    everything = status(docker, warm, "--privileged")
    assert everything["Seccomp"] == "0"
    assert int(everything["CapEff"], 16) & 1 << 21, "CAP_SYS_ADMIN"


def test_only_three_descriptors_are_open(docker: Client, warm: str) -> None:
    # the shell opens the directory itself: one more
    found = inside(docker, warm, "for fd in /proc/self/fd/*; do [ -e $fd ] && echo ${fd##*/}; done; :")
    assert found[:3] == ["0", "1", "2"]
    assert len(found) == 3


def test_a_process_tree_of_its_own(docker: Client, warm: str) -> None:
    pids = inside(docker, warm, "echo $$; ls -d /proc/[0-9]*; cat /proc/1/cmdline | tr '\\0' ' '")
    assert pids[0] == "1"
    assert 1 <= len([line for line in pids if line.startswith("/proc/")]) <= 3
    assert pids[-1].startswith("sh -c")


def test_masked_and_read_only_paths(docker: Client, warm: str) -> None:
    files = " ".join(path for path in MASKED_FILES if os.path.exists(path))
    folders = " ".join(path for path in MASKED_FOLDERS if os.path.isdir(path))
    locked = " ".join(path for path in READ_ONLY if os.path.exists(path))
    script = f"cat {files} | wc -c; ls -A {folders} | grep -vc :; for p in {locked}; do touch $p/x $p; done 2>&1"
    script += "; echo; grep -c ' /proc/sys .*ro' /proc/self/mountinfo"
    lines = inside(docker, warm, script)
    assert lines[0] == "0"
    assert int(lines[1]) <= 2, "blank lines between directories, no entries"
    assert lines[-1] == "1"
    for path in locked.split():
        assert any(path in line and "Read-only file system" in line for line in lines), path


def test_the_hosts_mounts_cannot_be_seen(docker: Client, warm: str, pydd: Daemon, tmp_path: Path) -> None:
    lines = inside(docker, warm, "cat /proc/self/mountinfo", "-v", f"{tmp_path}:/given")
    points = {line.split()[4] for line in lines}
    usual = re.compile(r"/|/proc(/.*)?|/dev(/.*)?|/sys(/.*)?|/etc/(hosts|hostname|resolv\.conf)|/given")
    assert [point for point in points if not usual.fullmatch(point)] == []
    assert not any("shared:" in line or "master:" in line for line in lines if " /given " not in line)


def test_devices_are_the_harmless_ones(docker: Client, warm: str) -> None:
    found = set(inside(docker, warm, "cd /dev; find . -type c -o -type b | grep -v pts/"))
    assert {"./null", "./zero", "./full", "./random", "./urandom", "./tty"} <= found
    assert found <= {"./null", "./zero", "./full", "./random", "./urandom", "./tty", "./ptmx", "./console"}
    made = docker("run", "--rm", warm, "sh", "-c", "mknod /x b 8 0 && cat /x", check=False)
    assert "Operation not permitted" in made.stderr


def test_what_only_root_of_the_host_may_do_is_refused(docker: Client, warm: str) -> None:
    for script in ("mount -t tmpfs x /tmp", "hostname other", "umount /proc", "echo 1 >/proc/sys/kernel/panic"):
        done = docker("run", "--rm", warm, "sh", "-c", script, check=False)
        assert done.returncode != 0, script
        assert "ermi" in done.stderr or "Read-only" in done.stderr, done.stderr


def test_names_and_resolver(docker: Client, warm: str) -> None:
    flags = ("--hostname", "inner", "--add-host", "db:10.9.8.7", "--dns", "192.0.2.53", "--dns-search", "example.org")
    lines = inside(docker, warm, "hostname; cat /etc/hostname /etc/hosts /etc/resolv.conf", *flags)
    assert lines[:2] == ["inner", "inner"]
    assert any(line.split() == ["10.9.8.7", "db"] for line in lines)
    assert any(line.startswith("127.0.0.1") and "localhost" in line for line in lines)
    assert any(line.split()[1:] == ["inner"] and line.startswith("172.") for line in lines)
    assert "nameserver 192.0.2.53" in lines
    assert "search example.org" in lines


def test_the_root_is_the_containers_own(docker: Client, warm: str) -> None:
    docker("run", "--rm", warm, "sh", "-c", "rm -rf /bin /etc/passwd; echo x >/left")
    assert inside(docker, warm, "ls /; test -e /etc/passwd && echo whole")[-1] == "whole"
    assert "left" not in inside(docker, warm, "ls /")


# --- network -----------------------------------------------------------------------------------------------------


def address(docker: Client, container: str) -> str:
    """On the default bridge."""
    found = json.loads(docker("inspect", container).stdout)[0]["NetworkSettings"]["Networks"]["bridge"]["IPAddress"]
    return str(found)


def test_containers_reach_each_other_by_address(docker: Client, warm: str, box: Box) -> None:
    server = box("sh", "-c", "echo up >/up; while :; do echo from the server | nc -l -p 80; done")
    talk = f"for i in $(seq 50); do nc -w 2 {address(docker, server)} 80 </dev/null && exit; sleep 0.1; done"
    assert inside(docker, warm, talk) == ["from the server"]


def test_ping_and_default_route(docker: Client, warm: str) -> None:
    script = "ip route; gw=$(ip route | sed -n 's/default via \\([^ ]*\\).*/\\1/p'); ping -c 1 -W 2 $gw"
    lines = inside(docker, warm, script)
    assert any(line.startswith("default via 172.") and "dev eth0" in line for line in lines)
    assert any("1 packets received" in line for line in lines)


@pytest.fixture
def outside(snapshot: frozenset[str]) -> Iterator[int]:
    """A network namespace beyond this host, by a process in it: 198.51.100.2, with a route to 198.51.100.1 alone.

    That is this host: a packet that carries a container's own address gets no answer.
    """
    wire = f"pt{secrets.token_hex(3)}"
    with subprocess.Popen(["unshare", "--net", "cat"], stdin=subprocess.PIPE) as holder:
        try:
            until(
                lambda: os.readlink(f"/proc/{holder.pid}/ns/net") != os.readlink("/proc/self/ns/net"), "it is unshared"
            )
            beyond = ("nsenter", "-t", str(holder.pid), "-n", "ip")
            for command in (
                ("ip", "link", "add", wire, "type", "veth", "peer", "name", "wire", "netns", str(holder.pid)),
                ("ip", "addr", "add", "198.51.100.1/30", "dev", wire),
                ("ip", "link", "set", wire, "up"),
                (*beyond, "addr", "add", "198.51.100.2/30", "dev", "wire"),
                (*beyond, "link", "set", "wire", "up"),
                (*beyond, "link", "set", "lo", "up"),
            ):
                subprocess.run(command, check=True)
            yield holder.pid
        finally:
            subprocess.run(["ip", "link", "del", wire], check=True)
            holder.kill()


def test_outbound_traffic_carries_the_hosts_address(docker: Client, warm: str, outside: int) -> None:
    script = "import socket; s=socket.create_server(('198.51.100.2', 8000)); print(s.accept()[1][0])"
    server = ["nsenter", "-t", str(outside), "-n", sys.executable, "-c", script]
    with subprocess.Popen(server, stdout=subprocess.PIPE, text=True) as process:
        try:
            talk = "for i in $(seq 50); do nc -w 2 198.51.100.2 8000 </dev/null && exit 0; sleep 0.1; done; exit 1"
            inside(docker, warm, talk)
            assert process.communicate(timeout=10)[0] == "198.51.100.1\n"
        finally:
            process.kill()


def test_no_network(docker: Client, warm: str) -> None:
    assert inside(docker, warm, "ls /sys/class/net; ip route", "--network", "none") == ["lo"]
    assert inside(docker, warm, "ping -c 1 -W 2 127.0.0.1 >/dev/null && echo lo is up", "--network", "none") == [
        "lo is up"
    ]


def test_the_hosts_network(docker: Client, warm: str) -> None:
    found = inside(docker, warm, "readlink /proc/self/ns/net; hostname", "--network", "host")
    assert found == [os.readlink("/proc/self/ns/net"), os.uname().nodename]


def test_another_containers_network(docker: Client, warm: str, box: Box) -> None:
    server = box("sh", "-c", "while :; do echo joined | nc -l -p 99; done")
    talk = "for i in $(seq 50); do nc -w 2 127.0.0.1 99 </dev/null && exit; sleep 0.1; done"
    assert inside(docker, warm, talk, "--network", f"container:{server}") == ["joined"]


def test_addresses_are_given_back(docker: Client, warm: str, box: Box) -> None:
    first = box("sleep", "100")
    taken = address(docker, first)
    docker("rm", "-f", first)
    until(lambda: address(docker, box("sleep", "100")) == taken, "the address is used again", seconds=30)
