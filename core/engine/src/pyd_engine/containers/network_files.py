"""The files of a container that depend on its networks: hostname, hosts, resolv.conf."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path

from pyd_engine.containers import files
from pyd_engine.containers.connector import Connector
from pyd_engine.containers.container import Container
from pyd_engine.containers.links import Links
from pyd_engine.names.sockets import ADDRESS
from pyd_engine.networks.records import EndpointRecord

__all__ = ["NetworkFiles"]


class NetworkFiles:
    """*directory* gives the place of a container's files."""

    def __init__(self, directory: Callable[[str], Path], networks: Connector, links: Links) -> None:
        self._links = links
        self._directory = directory
        self._networks = networks

    def write(
        self, container: Container, endpoints: Sequence[EndpointRecord], network_namespace: str | None
    ) -> dict[str, Path]:
        """Write them as the container's places on networks want it; paths by destination. *network_namespace*: None is the
        host's, empty one of its own."""
        config, host = container.config, container.host_config
        addresses = [str(address.ip) for endpoint in endpoints for address in endpoint.addresses]
        gateway = next((str(gateway) for endpoint in endpoints for gateway in endpoint.gateways), "")
        if not gateway and any(each.endswith("host-gateway") for each in host.extra_hosts or ()):
            gateway = self._networks.host_gateway()
        hostname = self.hostname(container)
        links = [(each.address, each.names) for each in self._links.of(container)]
        hosts = files.hosts_text(hostname, config.domainname, addresses, host.extra_hosts or (), gateway, links)
        if network_namespace is None and not host.extra_hosts:
            hosts = files.text_of("/etc/hosts") or hosts  # on the host's network its names hold
        named = self._networks.has_names(container)
        options = list(host.dns_options or ())
        servers = list(host.dns or ())
        text = files.text_of("/etc/resolv.conf")
        if named:
            servers = [ADDRESS]
            options = options or files.options_of(text)
            options += [] if any(each.startswith("ndots:") for each in options) else ["ndots:0"]
        contents = {
            "hostname": f"{hostname}\n",
            "hosts": hosts,
            "resolv.conf": files.resolv_conf_text(
                text, servers, host.dns_search or (), options, own_namespace=network_namespace == ""
            ),
        }
        files.write_files(self._directory(container.id), contents)
        return self.paths(container)

    def paths(self, container: Container) -> dict[str, Path]:
        """Where they are, by destination."""
        return {f"/etc/{name}": self._directory(container.id) / name for name in ("hostname", "hosts", "resolv.conf")}

    def hostname(self, container: Container) -> str:
        """What the container is called: what was asked, the host's name on the host's network, else its short id."""
        if container.config.hostname:
            return container.config.hostname
        hosts = container.host_config.uts_mode == "host" or any(map(self._networks.shares_host, container.endpoints))
        return os.uname().nodename if hosts else container.short
