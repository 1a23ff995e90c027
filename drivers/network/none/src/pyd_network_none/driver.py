"""The none driver: a container has its own network namespace and in it the loopback interface, nothing else.

All it does to the kernel is to bring ``lo`` up, on a thread that enters the namespace and ends there. It leaves
nothing that would have to be removed.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Collection, Mapping, Sequence

from pyd_contracts.errors import AlreadyExists, Conflict, FailedPrecondition, InvalidArgument, NotFound, from_oserror
from pyd_contracts.markers import hookimpl
from pyd_contracts.values import Attached, Attachment, NetworkSpec
from pyd_network_none.kernel import is_up, raise_loopback, within

__all__ = ["NoneDriver"]


class NoneDriver:
    """One network, on which nobody reaches anybody. What is attached is remembered in memory only."""

    capabilities = frozenset({"no-addresses", "single", "exclusive"})

    def __init__(self) -> None:
        self._network: NetworkSpec | None = None
        self._attached: set[tuple[str, str]] = set()
        self._lock = threading.Lock()

    @hookimpl
    def network_create(self, network: NetworkSpec) -> Mapping[str, str]:
        """See the contract."""
        for subnet in network.subnets:
            raise InvalidArgument(f"network {network.name}: subnet {subnet.network}: none gives no addresses")
        with self._lock:
            if self._network is not None and self._network.id != network.id:
                raise Conflict(f"network {network.name}: one without interfaces is enough: {self._network.name}")
            self._network = network
        return {"interfaces": "lo"}

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
            raise InvalidArgument(f"address {attachment.addresses[0]}: a container on no network has none")
        if attachment.mac is not None:
            raise InvalidArgument(f"MAC address {attachment.mac}: a container on no network has none")
        key = (attachment.container, attachment.ifname)
        with self._lock:
            if self._network is None or self._network.id != attachment.network.id:
                raise NotFound(f"network {attachment.network.name} is not there: create it first")
            if key in self._attached:
                raise AlreadyExists(f"{attachment.container[:12]} is attached to {self._network.name} already")
            fd = _open(attachment)
            try:
                within(fd, raise_loopback)
            except OSError as error:
                raise from_oserror(error, f"bring up lo of container {attachment.container[:12]}") from error
            finally:
                os.close(fd)
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
        fd = _open(attachment)
        try:
            up = within(fd, lambda: is_up("lo"))
        except OSError as error:
            raise FailedPrecondition(f"container {attachment.container[:12]} has no lo: {error.strerror}") from error
        finally:
            os.close(fd)
        if not up:
            raise FailedPrecondition(f"container {attachment.container[:12]}: lo is down; restart the container")

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


def _open(attachment: Attachment) -> int:
    try:
        return os.open(attachment.netns, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        raise NotFound(f"no network namespace at {attachment.netns}: the container's process is gone") from error
