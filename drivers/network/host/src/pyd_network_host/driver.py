"""The host driver: containers live in the host's own network namespace.

There is nothing to make and nothing to undo: no interface, no address, no rule. What is left of the contract is to keep
count, so that mistakes of the caller are told, and to refuse a namespace that is not the host's.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Collection, Mapping, Sequence

from pyd_contracts.errors import AlreadyExists, Conflict, FailedPrecondition, InvalidArgument, NotFound
from pyd_contracts.markers import hookimpl
from pyd_contracts.values import Attached, Attachment, NetworkSpec
from pyd_network_host.kernel import netns_id

__all__ = ["HostDriver"]


class HostDriver:
    """One network, the host itself. The count lives in memory: after a restart it means nothing, nothing is lost."""

    capabilities = frozenset({"host-namespace", "no-addresses", "single", "exclusive"})

    def __init__(self) -> None:
        self._home = netns_id("/proc/thread-self/ns/net")
        self._network: NetworkSpec | None = None
        self._attached: set[tuple[str, str]] = set()
        self._lock = threading.Lock()

    @hookimpl
    def network_create(self, network: NetworkSpec) -> Mapping[str, str]:
        """See the contract."""
        for subnet in network.subnets:
            raise InvalidArgument(f"network {network.name}: subnet {subnet.network}: host gives no addresses")
        if network.internal:
            raise InvalidArgument(f"network {network.name}: the host's network cannot be internal")
        with self._lock:
            if self._network is not None and self._network.id != network.id:
                raise Conflict(
                    f"network {network.name}: the host has one network, and it is {self._network.name} already"
                )
            self._network = network
        return {"namespace": "the host's"}

    @hookimpl
    def network_delete(self, network: NetworkSpec) -> None:
        """See the contract."""
        with self._lock:
            if self._network is not None and self._network.id == network.id:
                self._network = None
                self._attached.clear()

    @hookimpl
    def network_attach(self, attachment: Attachment) -> Attached:
        """See the contract."""
        if attachment.addresses:
            raise InvalidArgument(f"address {attachment.addresses[0]}: on the host's network containers have none")
        if attachment.mac is not None:
            raise InvalidArgument(f"MAC address {attachment.mac}: on the host's network containers have none")
        found = netns_id(os.fspath(attachment.netns))
        if found is None:
            raise NotFound(f"no network namespace at {attachment.netns}: the container's process is gone")
        if found != self._home:
            raise InvalidArgument(f"{attachment.netns} is not the host's network namespace")
        key = (attachment.container, attachment.ifname)
        with self._lock:
            if self._network is None or self._network.id != attachment.network.id:
                raise NotFound(f"network {attachment.network.name} is not there: create it first")
            if key in self._attached:
                raise AlreadyExists(f"container {attachment.container[:12]} is on the host's network already")
            self._attached.add(key)
        return Attached(host_ifname="", mac="", addresses=(), gateways=())

    @hookimpl
    def network_detach(self, attachment: Attachment, attached: Attached | None) -> None:
        """See the contract."""
        with self._lock:
            self._attached.discard((attachment.container, attachment.ifname))

    @hookimpl
    def network_check(self, attachment: Attachment, attached: Attached) -> None:
        """See the contract."""
        if netns_id(os.fspath(attachment.netns)) != self._home:
            raise FailedPrecondition(
                f"container {attachment.container[:12]}: {attachment.netns} is not the host's network namespace"
            )

    @hookimpl
    def network_gc(self, network: NetworkSpec, valid: Collection[Attachment]) -> Sequence[str]:
        """See the contract."""
        keep = {(each.container, each.ifname) for each in valid}
        with self._lock:
            if self._network is None or self._network.id != network.id:
                return []
            strangers = self._attached - keep
            self._attached &= keep
        return sorted(f"{container[:12]}/{ifname}" for container, ifname in strangers)

    @hookimpl
    def network_close(self) -> None:
        """See the contract; nothing is held."""
