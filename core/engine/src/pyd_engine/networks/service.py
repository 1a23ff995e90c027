"""Networks and endpoints: the one service the rest of the engine talks to.

Every change is written down before the kernel hears of it, and forgotten after the kernel has: a network is
*creating*, then *ready*, then *removing*; an endpoint is *reserved* (it has its addresses, no namespace is needed),
then *attaching*, then *attached*. So whatever a crash interrupts is found again by `reconcile`, and done twice is
done once. All methods block for milliseconds at most and are called from worker threads.
"""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from pyd_contracts.errors import (
    Conflict,
    InvalidArgument,
    NotFound,
    PermissionDenied,
    PydError,
    Unavailable,
)
from pyd_engine.identities import new_id
from pyd_engine.networks.creation import (
    PREDEFINED,
    NetworkConfig,
    NetworkRequest,
    check,
    configured_from,
    driver_name,
    planned,
    pool_requests,
    predefined,
)
from pyd_engine.networks.drivers import Driver, Manager, capabilities_of, choosing, ready
from pyd_engine.networks.endpoints import PRIVATE, Book
from pyd_engine.networks.pools import Pools
from pyd_engine.networks.publishing import Publishing
from pyd_engine.networks.records import (
    EndpointRecord,
    EndpointRequest,
    EndpointState,
    NetworkRecord,
    NetworkState,
)
from pyd_engine.networks.references import configuration, refuse_name, resolve
from pyd_engine.networks.store import NetworkStore
from pyd_engine.proxy.service import Proxy
from pyd_engine.store.database import Database

__all__ = ["Networks"]


class Networks:
    """The networks of one engine.

    database  the metadata database
    drivers   by name, those that are ready
    managers  of addresses, by name, those that are ready
    run       a directory that a reboot empties; the path of a namespace that is gone lies in it
    proxy     what leads ports that no driver can lead; None: they are not published
    """

    def __init__(
        self,
        database: Database,
        drivers: Mapping[str, Driver],
        managers: Mapping[str, Manager],
        run: Path,
        config: NetworkConfig | None = None,
        log: logging.Logger | None = None,
        proxy: Proxy | None = None,
    ) -> None:
        self._drivers = drivers
        self._driver = choosing(drivers)
        self._config = config or NetworkConfig()
        self._log = log or logging.getLogger("pyd.networks")
        self._gone = run / "no-namespace"
        self._lock = threading.RLock()  # the tables in memory and in the store: held for microseconds
        self._store = NetworkStore(database)
        self._networks = {each.id: each for each in self._store.networks()}
        self._pools = Pools(managers, self._log)
        self._book = Book(self._store, self._pools, self._networks.values(), self._store.endpoints())
        self._ports = Publishing(proxy)
        self.has_proxy = proxy is not None
        self._subjects: dict[str, threading.Lock] = {}  # one lock a network: creation and deletion
        self._failed: dict[str, PydError] = {}

    # --- networks ----------------------------------------------------------------------------------------------------

    def ensure_defaults(self) -> Mapping[str, str]:
        """Bring all networks into line with the kernel, and make the predefined ones whose drivers are ready.

        For the start of the daemon. Returns, by name, why a network is not usable; the others are.
        """
        for record in self.list():
            if record.state is NetworkState.READY:
                self._restore(record)
            else:
                self._finish(record)
        present = {each.name for each in self.list()}
        troubles = {self._networks[key].name: str(error) for key, error in self._failed.items()}
        for name in PREDEFINED:
            if name in present or name not in self._drivers:
                continue
            try:
                self._create(predefined(name, self._config), is_predefined=True)
            except PydError as error:
                self._log.error("network %s is not there: %s", name, error)
                troubles[name] = str(error)
        return troubles

    def create(self, request: NetworkRequest) -> NetworkRecord:
        """Make a network.

        Raises Conflict when the name is taken, NotFound when there is no such driver, PermissionDenied for predefined
        names and overlapping subnets, and what the driver raises; nothing is left of it then.
        """
        if request.name in PREDEFINED:
            raise PermissionDenied(f"operation is not permitted on predefined {request.name} network ")
        check(request)
        request = replace(request, driver=driver_name(request.driver))
        if request.config_only:
            return self._note(request)
        if request.config_from:
            request = configured_from(request, configuration(self.list(), request.config_from))
        return self._create(request)

    def get(self, ref: str) -> NetworkRecord:
        """The network of that id, name, or unique beginning of an id. Raises NotFound, InvalidArgument."""
        with self._lock:
            return resolve(self._networks, ref)

    def list(self) -> list[NetworkRecord]:
        """All networks, oldest first."""
        with self._lock:
            return list(self._networks.values())

    def remove(self, ref: str) -> NetworkRecord:
        """Remove a network and return what it was.

        Raises NotFound, and PermissionDenied for predefined networks and such with endpoints.
        """
        record = self.get(ref)
        if record.predefined:
            raise PermissionDenied(f"{record.name} is a pre-defined network and cannot be removed")
        with self._subject(record.id):
            with self._lock:
                record = self.get(record.id)
                if self._book.of_network(record.id):
                    raise PermissionDenied(
                        f"error while removing network: network {record.name} id {record.id} has active endpoints"
                    )
                if record.config_only and any(each.config_from == record.name for each in self._networks.values()):
                    raise PermissionDenied(
                        f'error while removing network: configuration network "{record.name}" is in use'
                    )
                record = self._put(replace(record, state=NetworkState.REMOVING))
            if not record.config_only:
                self._driver(record).call.network_delete(network=record.spec())
            self._forget(record)
        return record

    # --- endpoints ---------------------------------------------------------------------------------------------------

    def endpoints(self, network: str) -> Sequence[EndpointRecord]:
        """The endpoints of a network, oldest first. Raises NotFound."""
        record = self.get(network)
        with self._lock:
            return self._book.of_network(record.id)

    def endpoints_of(self, container: str) -> Sequence[EndpointRecord]:
        """The endpoints of a container, oldest first."""
        with self._lock:
            return self._book.of_container(container)

    def endpoint(self, endpoint: str) -> EndpointRecord:
        """The endpoint of that id. Raises NotFound."""
        with self._lock:
            return self._book.get(endpoint)

    def reserve(
        self, container: str, container_name: str, network: str, requested: EndpointRequest | None = None
    ) -> EndpointRecord:
        """Give a container its place and its addresses on a network; no namespace is needed yet.

        Asked again while it is only reserved, the answer is the same. Raises NotFound, PermissionDenied with Docker's
        words, Conflict when an address is somebody else's, ResourceExhausted when none is left.
        """
        requested = requested or EndpointRequest()
        record = self.get(network)
        if record.config_only:
            raise PermissionDenied("cannot create endpoint on configuration-only network")
        if record.id in self._failed:
            self._restore(record)  # what was in the way at the start may be gone
            if record.id in self._failed:
                raise Unavailable(f"network {record.name} is not usable: {self._failed[record.id]}")
        capabilities = self._driver(record).capabilities
        with self._lock:
            record = self.get(record.id)
            if record.state is not NetworkState.READY:
                raise Conflict(f"network {record.name} is {record.state.value}: wait, then repeat")
            others = {
                "exclusive" in capabilities_of(self._drivers, self._networks[each.network])
                for each in self._book.of_container(container)
                if each.network != record.id
            }
            if True in others or (others and "exclusive" in capabilities):
                raise PermissionDenied(PRIVATE)
            before = {each.id for each in self._book.of_container(container)}
            found = self._book.reserve(record, container, container_name, requested)
            for gone in before.difference(each.id for each in self._book.of_container(container)):
                self._ports.give_back(gone)
        return self._with_ports(found, record)

    def _with_ports(self, record: EndpointRecord, network: NetworkRecord) -> EndpointRecord:
        if not record.requested.ports or record.ports:
            return record
        try:
            ports = self._ports.take(record, network)
            with self._lock:
                return self._book.put(replace(record, ports=ports))
        except BaseException:
            with self._lock:
                self._drop(record)
            raise

    def _drop(self, record: EndpointRecord) -> None:
        self._ports.give_back(record.id)
        self._book.drop(record)

    def attach(self, endpoint: str | EndpointRecord, netns: Path) -> EndpointRecord:
        """Give the container its interface in the namespace *netns*.

        A failure leaves the endpoint reserved and no interface. Raises NotFound, and what the driver raises.
        """
        with self._lock:
            record = self._book.get(endpoint if isinstance(endpoint, str) else endpoint.id)
            if record.state is not EndpointState.RESERVED:
                raise Conflict(f"endpoint {record.id[:12]} of {record.container_name} is {record.state.value} already")
            network = self.get(record.network)
            call = self._driver(network).call
            record = self._book.put(replace(record, state=EndpointState.ATTACHING, netns=str(netns)))
            leads = self._book.leads(record, {key: each.name for key, each in self._networks.items()})
        attachment = record.attachment(network.spec(), default_route=leads)
        try:
            attached = call.network_attach(attachment=attachment)
            self._ports.lead(record, network, netns)
        except BaseException:
            self._ports.leave(record.id)
            try:
                call.network_detach(attachment=attachment, attached=None)
            except PydError as error:
                self._log.error("after a failed attach of %s to %s: %s", record.container_name, network.name, error)
            with self._lock:
                self._book.put(replace(record, state=EndpointState.RESERVED, attached=None, netns=""))
            raise
        with self._lock:
            done = replace(
                record, state=EndpointState.ATTACHED, attached=attached, mac=attached.mac, gateways=attached.gateways
            )
            return self._book.put(done)

    def all_endpoints(self) -> Sequence[EndpointRecord]:
        """Every endpoint, oldest first."""
        with self._lock:
            return self._book.all()

    def detach(
        self, container: str, endpoint: str | EndpointRecord, *, keep: bool = False, lives: bool = False
    ) -> None:
        """Take the interface away and free the addresses; *keep* keeps the place and the addresses reserved.

        lives  the container runs on: that its interface goes is written down first, for whoever comes after a crash

        Succeeds when nothing is left. Raises InvalidArgument when the endpoint is another container's.
        """
        identity = endpoint if isinstance(endpoint, str) else endpoint.id
        with self._lock:
            record = self._book.find(identity)
            if record is None:
                return
            if record.container != container:
                raise InvalidArgument(f"endpoint {identity[:12]} belongs to container {record.container[:12]}")
            network = self.get(record.network)
            if lives and record.state is EndpointState.ATTACHED:
                self._book.put(replace(record, state=EndpointState.ATTACHING))
        if record.state is not EndpointState.RESERVED:
            self._ports.leave(record.id)
            attachment = record.attachment(network.spec(), None if record.netns else self._gone)
            self._driver(network).call.network_detach(attachment=attachment, attached=record.attached)
        with self._lock:
            if keep:
                self._book.put(replace(record, state=EndpointState.RESERVED, attached=None, netns=""))
            else:
                self._drop(record)

    def release(self, container: str) -> None:
        """Take all interfaces of a container away and free its addresses: for its removal."""
        for record in self.endpoints_of(container):
            self.detach(container, record)

    def check(self, endpoint: str | EndpointRecord) -> None:
        """Compare an attached endpoint with the kernel. Raises FailedPrecondition that says what is not as it was."""
        record = self.endpoint(endpoint if isinstance(endpoint, str) else endpoint.id)
        if record.attached is not None:
            network = self.get(record.network)
            attachment = record.attachment(network.spec())
            self._driver(network).call.network_check(attachment=attachment, attached=record.attached)

    def rename(self, container: str, name: str) -> None:
        """Let the endpoints of a container follow its new name."""
        with self._lock:
            for record in self._book.of_container(container):
                self._book.put(replace(record, container_name=name))

    def reconcile(self, containers: Collection[str]) -> Sequence[str]:
        """Make kernel and store agree, at the start of the daemon after `ensure_defaults`.

        containers  ids of the containers that live: endpoints of others are detached and their addresses freed

        Returns what was removed, in words. A driver's failure is logged and keeps the others from nothing.
        """
        valid = frozenset(containers)
        removed: list[str] = []
        with self._lock:
            endpoints = self._book.all()
        for record in endpoints:
            with self._logged(f"endpoint {record.id[:12]} of {record.container_name}"):
                if record.container not in valid:
                    self.detach(record.container, record)
                    removed.append(f"endpoint {record.id[:12]} of {record.container_name}")
                elif record.state is EndpointState.ATTACHING:
                    self.detach(record.container, record, keep=True)
                elif record.ports:
                    with self._lock:
                        for trouble in self._ports.hold(record):
                            self._log.warning("container %s: %s", record.container_name, trouble)
                    if record.state is EndpointState.ATTACHED:
                        self._ports.lead(record, self.get(record.network), Path(record.netns))
        self._ports.settle(self._networks.values())
        for network in self.list():
            if network.state is not NetworkState.READY or network.id in self._failed or network.config_only:
                continue
            spec = network.spec()
            present = [each for each in self.endpoints(network.id) if each.state is not EndpointState.RESERVED]
            keep = [each.attachment(spec) for each in present]
            with self._logged(f"network {network.name}"):
                removed += self._driver(network).call.network_gc(network=spec, valid=keep)
        return removed

    # --- the parts ---------------------------------------------------------------------------------------------------

    def _create(self, request: NetworkRequest, *, is_predefined: bool = False) -> NetworkRecord:
        driver = self._drivers.get(request.driver)
        if driver is None:
            raise NotFound(
                f'plugin "{request.driver}" not found: no network driver has that name; {ready(self._drivers)}'
            )
        identity = new_id()
        with self._lock:
            refuse_name(self._networks.values(), request.name)
            alike = [each for each in self._networks.values() if each.driver == request.driver and not each.config_only]
            if alike and "single" in driver.capabilities:
                raise PermissionDenied(f'only one instance of "{request.driver}" network is allowed')
            ours = [each.subnet for network in self._networks.values() for each in network.subnets]
            asked = pool_requests(request, identity, driver.capabilities, self._config.pools, ours)
            pools = self._pools.request(request.ipam_driver or "default", asked) if asked else ()
            record = replace(planned(request, identity, pools), predefined=is_predefined)
            try:
                self._store.add_network(record)
            except BaseException:
                self._pools.shut(record)
                raise
            self._networks[record.id] = record
        with self._subject(record.id):
            try:
                report = driver.call.network_create(network=record.spec())
            except BaseException:
                self._finish(record)
                raise
            with self._lock:
                record = self._put(replace(record, state=NetworkState.READY, report=dict(report)))
                self._book.open(record)
                self._ports.close_to(self._networks.values())
        return record

    def _note(self, request: NetworkRequest) -> NetworkRecord:
        """Keep a configuration that networks can be made of; no driver hears of it."""
        pool_requests(request, "", (), self._config.pools, ())  # what cannot be is said now
        with self._lock:
            refuse_name(self._networks.values(), request.name)
            record = planned(request, new_id(), ())
            self._store.add_network(record)
            self._networks[record.id] = record
        return record

    def _restore(self, record: NetworkRecord) -> None:
        if record.config_only:
            return
        with self._subject(record.id):
            try:
                report = self._driver(record).call.network_create(network=record.spec())
            except PydError as error:
                self._log.error("network %s is not usable: %s", record.name, error)
                self._failed[record.id] = error
                return
            self._failed.pop(record.id, None)
            if dict(report) != dict(record.report):
                with self._lock:
                    self._put(replace(record, report=dict(report)))

    def _finish(self, record: NetworkRecord) -> None:
        """Undo a creation that failed, or end a removal that was interrupted."""
        with self._logged(f"remove network {record.name}"):
            if not record.config_only:
                with contextlib.suppress(
                    InvalidArgument
                ):  # it says again what cannot work: then there is nothing of it
                    self._driver(record).call.network_delete(network=record.spec())
            self._forget(record)

    def _forget(self, record: NetworkRecord) -> None:
        with self._lock:
            self._store.drop_network(record.id)
            self._networks.pop(record.id, None)
            self._pools.shut(record)
            self._subjects.pop(record.id, None)
            self._failed.pop(record.id, None)
            self._ports.close_to(self._networks.values())

    def _put(self, record: NetworkRecord) -> NetworkRecord:
        self._store.put_network(record)
        self._networks[record.id] = record
        return record

    def _subject(self, network: str) -> threading.Lock:
        with self._lock:
            return self._subjects.setdefault(network, threading.Lock())

    @contextlib.contextmanager
    def _logged(self, what: str) -> Iterator[None]:
        try:
            yield
        except PydError as error:
            self._log.error("%s stays until the next start: %s", what, error)
