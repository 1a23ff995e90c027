"""The ground that network tests stand on: throw-away namespaces for the host and for containers, and eyes in them.

``unshare`` and ``setns`` change the calling thread only. The test's own thread moves into an empty network namespace
that plays the host, so that drivers may make bridges, rules and sysctls as they like and nothing of it is ever in the
real one. Containers are namespaces held by a descriptor: no process, no mount, gone with the last descriptor.
"""

from __future__ import annotations

import ctypes
import json
import os
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from ipaddress import ip_address, ip_interface, ip_network
from pathlib import Path
from typing import Any, TypeVar

from pyd_contracts.network import NetworkDriver
from pyd_contracts.values import Address, Attachment, NetworkSpec, Subnet

__all__ = [
    "PORT",
    "Namespace",
    "NetworkStage",
    "eventually",
    "fresh_host",
    "ip_json",
    "namespaces_of_threads",
    "reaches",
    "rules",
]

T = TypeVar("T")
_CLONE_NEWNET = 0x40000000
_libc = ctypes.CDLL(None, use_errno=True)
PORT = 8099


def _call(name: str, *arguments: int) -> None:
    if getattr(_libc, name)(*arguments):
        number = ctypes.get_errno()
        raise OSError(number, f"{name}: {os.strerror(number)}")


def _on_a_thread(work: Callable[[], T]) -> T:
    """Run *work* on a thread that ends with it: namespaces entered there are left by nobody."""
    values: list[T] = []
    errors: list[BaseException] = []

    def run() -> None:
        try:
            values.append(work())
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=run, name="pyd-conformance")
    thread.start()
    thread.join()
    if errors:
        raise errors[0]
    return values[0]


class Namespace:
    """A network namespace of nobody's but this object's."""

    def __init__(self) -> None:
        def make() -> int:
            _call("unshare", _CLONE_NEWNET)
            return os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)

        self._fd = _on_a_thread(make)

    @property
    def path(self) -> Path:
        """A name of it; it names nothing after `close`."""
        return Path(f"/proc/{os.getpid()}/fd/{self._fd}") if self._fd >= 0 else Path("/proc/0/ns/net")

    def run(self, work: Callable[[], T]) -> T:
        """Run *work* in there, on a thread of its own."""
        fd = self._fd

        def inside() -> T:
            _call("setns", fd, _CLONE_NEWNET)
            return work()

        return _on_a_thread(inside)

    def ip(self, *arguments: str) -> list[dict[str, Any]]:
        """``ip -json`` in there."""
        return self.run(lambda: ip_json(*arguments))

    def close(self) -> None:
        """Let it go; twice is once."""
        if self._fd >= 0:
            os.close(self._fd)
        self._fd = -1


def ip_json(*arguments: str) -> list[dict[str, Any]]:
    """What ip(8) says in the calling thread's namespace; raises AssertionError with its words when it fails."""
    done = subprocess.run(["ip", "-json", *arguments], capture_output=True, text=True, check=False, timeout=30)
    if done.returncode:
        raise AssertionError(f"ip {' '.join(arguments)}: {done.stderr.strip()}")
    found: list[dict[str, Any]] = json.loads(done.stdout or "[]")
    return [item for item in found if item]


def rules() -> str:
    """The nftables rules of the calling thread's namespace; empty where nft(8) is not installed."""
    if shutil.which("nft") is None:
        return ""
    return subprocess.run(["nft", "list", "ruleset"], capture_output=True, text=True, check=True, timeout=30).stdout


@contextmanager
def fresh_host() -> Iterator[None]:
    """Put the calling thread into an empty network namespace, and back."""
    home = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    try:
        _call("unshare", _CLONE_NEWNET)
        try:
            ip_json("link", "set", "lo", "up")
            yield
        finally:
            _call("setns", home, _CLONE_NEWNET)
    finally:
        os.close(home)


def namespaces_of_threads() -> set[str]:
    """The network namespaces that the threads of this process are in; one, if all is well."""
    found = set()
    for task in os.listdir("/proc/self/task"):
        try:
            found.add(os.readlink(f"/proc/self/task/{task}/ns/net"))
        except (FileNotFoundError, ProcessLookupError):
            continue  # it ended meanwhile, and so left every namespace
    return found


def reaches(
    source: Callable[[Callable[[], bool]], bool],
    target: Callable[[Callable[[], socket.socket]], socket.socket],
    address: str,
    timeout: float = 3,
    port: int = PORT,
) -> bool:
    """Whether a TCP connection from one namespace to *port* of *address* arrives at `PORT` in another.

    source, target  ``Namespace.run``, or anything that calls its argument where the socket is to be
    """
    family = socket.AF_INET6 if ":" in address else socket.AF_INET

    def listen() -> socket.socket:
        server = socket.socket(family)
        server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        server.bind(("::" if family == socket.AF_INET6 else "0.0.0.0", PORT))
        server.listen()
        return server

    def connect() -> bool:
        try:
            with socket.create_connection((address, port), timeout=timeout):
                return True
        except OSError:
            return False

    with target(listen):
        return source(connect)


def eventually(fact: Callable[[], bool], what: str, seconds: float = 10) -> None:
    """Wait until *fact* holds."""
    end = time.monotonic() + seconds
    while not fact():
        if time.monotonic() > end:
            raise AssertionError(f"not within {seconds} s: {what}")
        time.sleep(0.01)


@dataclass
class NetworkStage:
    """A driver and what is put on it. Network *n* has the subnet 10.77.n.0/24, its gateway holds the first address."""

    driver: NetworkDriver
    addressed: bool
    kernel: bool
    own: bool
    scratch: Path
    cleanup: ExitStack = field(default_factory=ExitStack)
    networks: dict[str, NetworkSpec] = field(default_factory=dict)
    namespaces: int = 0

    def spec(self, number: int = 1, **changes: Any) -> NetworkSpec:
        """The description of a network that nobody has created yet."""
        subnet = Subnet(ip_network(f"10.77.{number}.0/24"), ip_address(f"10.77.{number}.1"))
        given = {"subnets": (subnet,) if self.addressed else (), **changes}
        return NetworkSpec(id=f"{number:064x}"[::-1], name=f"test{number}", **given)

    def create(self, number: int = 1, **changes: Any) -> NetworkSpec:
        """A network that is there, until the test ends."""
        network = self.spec(number, **changes)
        self.driver.network_create(network=network)
        self.networks[network.id] = network
        return network

    def namespace(self) -> Namespace:
        """A container's namespace."""
        namespace = Namespace()
        self.cleanup.callback(namespace.close)
        return namespace

    def outside(self) -> Namespace:
        """A neighbour of the host: 198.51.100.2, while the host is 198.51.100.1; it routes 10.77.0.0/16 to the host."""
        namespace = self.namespace()
        ip_json("link", "add", "uplink", "type", "veth", "peer", "name", "wan", "netns", str(namespace.path))
        ip_json("addr", "add", "198.51.100.1/24", "dev", "uplink")
        ip_json("link", "set", "uplink", "up")
        namespace.ip("addr", "add", "198.51.100.2/24", "dev", "wan")
        namespace.ip("link", "set", "wan", "up")
        namespace.ip("route", "add", "10.77.0.0/16", "via", "198.51.100.1")
        return namespace

    def netns(self) -> Path:
        """A path that names a namespace as this driver wants one."""
        self.namespaces += 1
        if not self.kernel:
            path = self.scratch / f"netns-{self.namespaces}"
            path.touch()
            return path
        return self.namespace().path if self.own else Path("/proc/thread-self/ns/net")

    def gone(self) -> Path:
        """A path where a namespace has been."""
        path = self.netns()
        if not self.kernel:
            path.unlink()
            return path
        return Path("/proc/self/fd/1000000/ns/net")

    def attachment(self, network: NetworkSpec, host: int = 2, **changes: Any) -> Attachment:
        """One interface of container *host* on *network*, whose address ends in that number."""
        given: dict[str, Any] = {
            "container": f"{host:064x}"[::-1],
            "ifname": "eth0",
            "addresses": self.addresses(network, host),
            **changes,
        }
        if "netns" not in given:
            given["netns"] = self.netns()
        return Attachment(network=network, **given)

    def addresses(self, network: NetworkSpec, host: int) -> tuple[Address, ...]:
        """The addresses of container *host* in every subnet."""
        return tuple(
            ip_interface((subnet.network.network_address + host, subnet.network.prefixlen))
            for subnet in network.subnets
        )

    def close(self) -> None:
        """Delete what was created, close the driver, let the namespaces go."""
        with self.cleanup:
            for network in self.networks.values():
                self.driver.network_delete(network=network)
            self.driver.network_close()
