"""Published ports of SCTP, on a kernel that has it and can translate it: the machine with Debian's own."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

import busybox_image
from engine_under_test import PATIENCE, Daemon
from pyd_conformance.network_stage import Namespace, ip_json
from test_vm_containers import unframed
from test_vm_guest import until
from unix_http import ApiError

pytestmark = [
    pytest.mark.vm,
    pytest.mark.root,
    pytest.mark.skipif(os.environ.get("PYD_VM") != "qemu", reason="needs nftables for ip: vm.py test --engine qemu"),
]

IMAGE = "busybox:latest"
PORT, OTHER = 9999, 9998
PYTHON = Path(sys.executable).resolve()
HERE, THERE = "192.0.2.1", "192.0.2.2"
SERVER = f"""
import socket
server = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_SCTP)
server.bind(("0.0.0.0", {PORT}))
server.listen()
print("listening", flush=True)
while True:
    client, (address, _) = server.accept()
    client.sendall(client.recv(100).upper() + b" " + address.encode())
    client.close()
"""


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    archive = busybox_image.write_to(tmp_path_factory.mktemp("image"), IMAGE)
    daemon = Daemon(Path(tempfile.mkdtemp(prefix="pyd-vm."))).start()
    asked(daemon, "POST", "/images/load?quiet=1", archive.read_bytes(), {"Content-Type": "application/x-tar"})
    yield daemon
    daemon.close()


def asked(daemon: Daemon, *request: Any) -> bytes:
    with closing(daemon.api()) as api:
        return api.call(*request)


def created(daemon: Daemon, *command: str, address: str = "", port: int = PORT) -> str:
    """A container whose port is *port* of this host; this host's Python is in it."""
    python = [f"{path}:{path}:ro" for path in {"/usr", "/lib", "/lib64", sys.base_prefix} if Path(path).is_dir()]
    ports = {f"{PORT}/sctp": [{"HostIp": address, "HostPort": str(port)}]}
    body = {"Image": IMAGE, "Cmd": command, "HostConfig": {"Binds": python, "PortBindings": ports}}
    with closing(daemon.api()) as api:
        return str(api.json("POST", "/containers/create", body)["Id"])


@pytest.fixture(scope="module")
def server(daemon: Daemon) -> Iterator[str]:
    """A server of SCTP in a container, its port published on all addresses of this host."""
    container = created(daemon, str(PYTHON), "-c", SERVER)
    asked(daemon, "POST", f"/containers/{container}/start")
    until(
        lambda: "listening" in unframed(asked(daemon, "GET", f"/containers/{container}/logs?stdout=1&stderr=1")),
        PATIENCE,
    )
    yield container
    asked(daemon, "DELETE", f"/containers/{container}?force=1")


@pytest.fixture(scope="module")
def outside() -> Iterator[Namespace]:
    """A host on the other end of a cable, whose neighbour at HERE is this one."""
    namespace = Namespace()
    ip_json("link", "add", "cable", "type", "veth", "peer", "name", "end", "netns", str(namespace.path))
    ip_json("address", "add", f"{HERE}/24", "dev", "cable")
    ip_json("link", "set", "cable", "up")
    namespace.ip("address", "add", f"{THERE}/24", "dev", "end")
    namespace.ip("link", "set", "end", "up")
    yield namespace
    ip_json("link", "delete", "cable")
    namespace.close()


def said(host: str, port: int = PORT) -> tuple[bytes, str]:
    """What the server at *host* answers to a word: (the word, who asked as the server sees it)."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_SCTP) as client:
        client.settimeout(PATIENCE)
        client.connect((host, port))
        client.sendall(b"word")
        word, _, address = client.recv(100).partition(b" ")
        return word, address.decode()


def address_of(daemon: Daemon, container: str) -> dict[str, Any]:
    with closing(daemon.api()) as api:
        networks: dict[str, Any] = api.json("GET", f"/containers/{container}/json")["NetworkSettings"]["Networks"]
    return dict(networks["bridge"])


def test_from_outside(server: str, outside: Namespace) -> None:
    assert outside.run(lambda: said(HERE)) == (b"WORD", THERE)


def test_from_this_host(daemon: Daemon, server: str, outside: Namespace) -> None:
    gateway = address_of(daemon, server)["Gateway"]
    assert said(address_of(daemon, server)["IPAddress"]) == (b"WORD", gateway), "without translation"
    assert said(HERE) == (b"WORD", HERE)
    assert said("127.0.0.1") == (b"WORD", gateway)


def test_the_port_is_taken(daemon: Daemon, server: str) -> None:
    with (
        socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_SCTP) as late,
        pytest.raises(OSError, match="in use"),
    ):
        late.bind(("0.0.0.0", PORT))
    second = created(daemon, "true")
    try:
        with pytest.raises(ApiError, match=f"Bind for 0.0.0.0:{PORT} failed: port is already allocated"):
            asked(daemon, "POST", f"/containers/{second}/start")
    finally:
        asked(daemon, "DELETE", f"/containers/{second}")


def test_another_programs_port_is_refused_with_its_name(daemon: Daemon) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_SCTP) as other:
        other.bind(("127.0.0.1", OTHER))
        other.listen()
        container = created(daemon, "true", address="127.0.0.1", port=OTHER)
        try:
            words = rf"127.0.0.1:{OTHER}: bind: address already in use \(held by .*pid {os.getpid()}"
            with pytest.raises(ApiError, match=words):
                asked(daemon, "POST", f"/containers/{container}/start")
        finally:
            asked(daemon, "DELETE", f"/containers/{container}")


def test_it_is_shut_with_its_container(daemon: Daemon, outside: Namespace) -> None:
    container = created(daemon, "sleep", "1000", port=OTHER)
    asked(daemon, "POST", f"/containers/{container}/start")
    assert f"sctp . {OTHER}" in ruleset()
    asked(daemon, "DELETE", f"/containers/{container}?force=1")
    assert f"sctp . {OTHER}" not in ruleset()
    with pytest.raises(ConnectionRefusedError):
        outside.run(lambda: said(HERE, OTHER))


def ruleset() -> str:
    return subprocess.run(["nft", "list", "ruleset"], capture_output=True, text=True, check=True).stdout
