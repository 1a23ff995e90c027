"""Where the daemon listens: `--host`, `PYD_HOST`, `DOCKER_HOST`, else the system's socket."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from pyd_cli.errors import CliError

if TYPE_CHECKING:
    import socket

DEFAULT = "unix:///run/pyd/pyd.sock"


class Tls:
    """How to secure a TCP connection. `verify` off means encrypted, to whomever."""

    def __init__(self, ca: str, cert: str, key: str, verify: bool) -> None:
        self.ca = ca
        self.cert = cert
        self.key = key
        self.verify = verify

    def wrap(self, plain: socket.socket, host: str) -> socket.socket:
        """The secured socket; raises CliError when the files or the peer's certificate do not do."""
        import ssl

        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        try:
            if self.verify:
                context.load_verify_locations(self.ca)
            else:
                context.check_hostname = False
                context.verify_mode = ssl.CERT_NONE
            if os.path.exists(self.cert) and os.path.exists(self.key):
                context.load_cert_chain(self.cert, self.key)
            return context.wrap_socket(plain, server_hostname=host)
        except FileNotFoundError as fault:
            plain.close()
            raise CliError(f"could not read CA certificate {self.ca!r}: {fault.strerror}") from fault
        except ssl.SSLError as fault:
            plain.close()
            raise CliError(f"error during connect: TLS to {host}: {fault}") from fault


class Endpoint:
    """One address of a daemon. `str()` is the address as it is shown in messages."""

    def __init__(self, text: str, tls: Tls | None = None) -> None:
        self.text = text
        self.tls = tls
        self.path = self.host = ""
        self.port = 0
        self.scheme, separator, rest = text.partition("://")
        if not separator:
            self.scheme, rest = ("unix", text) if text.startswith("/") else ("tcp", text)
            self.text = f"{self.scheme}://{rest}"
        if self.scheme == "unix" and rest:
            self.path = rest
        elif self.scheme in ("tcp", "http", "https") and rest:
            self.scheme = "tcp"
            self._read_address(rest.split("/")[0])
        else:
            raise CliError(
                f"unable to resolve the endpoint of the daemon: invalid address {text!r}: "
                "give unix:///path/to/socket or tcp://host:port"
            )

    def _read_address(self, address: str) -> None:
        host, colon, port = address.rpartition(":")
        if not colon or port.endswith("]"):
            host, port = address, "2376" if self.tls else "2375"
        if not port.isdigit():
            raise CliError(f"unable to resolve the endpoint of the daemon: invalid port {port!r} in {self.text!r}")
        self.host = host.strip("[]") or "127.0.0.1"
        self.port = int(port)

    def __str__(self) -> str:
        return self.text


def chosen(hosts: list[str], tls: Tls | None = None) -> Endpoint:
    """The endpoint to use, given the values of `--host`."""
    if len(hosts) > 1:
        raise CliError("specify only one -H")
    text = hosts[0] if hosts else os.environ.get("PYD_HOST") or os.environ.get("DOCKER_HOST") or DEFAULT
    return Endpoint(text, tls)
