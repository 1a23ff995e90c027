"""Putting the containers service together."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from pathlib import Path

from pyd_contracts.errors import from_oserror
from pyd_contracts.isolation import IsolationBackend
from pyd_contracts.log import LogDriver
from pyd_contracts.storage import StorageDriver
from pyd_engine.containers.agreements import ImageSource, Options
from pyd_engine.containers.connector import Connector
from pyd_engine.containers.delivery import Delivery
from pyd_engine.containers.lines import Lines
from pyd_engine.containers.links import Links
from pyd_engine.containers.mounts import ContainerMounts
from pyd_engine.containers.runner import Runner
from pyd_engine.containers.runtimes import RuntimeTable, powers
from pyd_engine.containers.service import Containers
from pyd_engine.containers.specs import Specs
from pyd_engine.containers.store import ContainerStore
from pyd_engine.containers.views import Views
from pyd_engine.logs.courier import Courier
from pyd_engine.networks.drivers import Driver
from pyd_engine.networks.service import Networks
from pyd_engine.store.database import Database
from pyd_engine.volumes.service import Volumes

__all__ = ["make_containers"]


def make_containers(
    *,
    database: Database,
    images: ImageSource,
    networks: Networks,
    volumes: Volumes,
    network_drivers: Mapping[str, Driver],
    storages: Mapping[str, StorageDriver],
    isolations: Mapping[str, IsolationBackend],
    emit: Callable[[str, str, str, Mapping[str, str]], None],
    data_root: Path,
    run_root: Path,
    options: Options,
    loggings: Mapping[str, LogDriver],
    loggings_absent: Mapping[str, str],
    courier: Courier,
    cgroup_parent: str = "/pyd",
) -> Containers:
    """The service. *storages*, *isolations* and *loggings* are the hooks of ready drivers (`Relay.call`), *emit* publishes an
    event: type, action, id, attributes. Containers' directories are made below both roots."""
    data, run = data_root / "containers", run_root / "containers"
    for directory in (data, run):
        try:
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise from_oserror(error, f"make {directory}") from error
    connector = Connector(networks, network_drivers)
    delivery = Delivery(
        loggings, loggings_absent, courier, keep=options.keep_output, hold=options.hold_output,
        directory=lambda container: data / container,
    )  # fmt: skip
    runtimes = RuntimeTable(isolations, options.isolation)
    specs = Specs(
        runtimes=runtimes.names, default_runtime=runtimes.default, cgroup_parent=cgroup_parent,
        log_default=options.logging, check_log=delivery.check, remap=options.remap,
        propagates=lambda name: "propagation" in powers(isolations[runtimes.of(name).isolation]),
    )  # fmt: skip
    store = ContainerStore(database)
    links = Links(store, connector)
    runner = Runner(
        data, run, storages, isolations, runtimes, connector, ContainerMounts(volumes, run), specs, delivery, links
    )
    return Containers(
        store,
        runner,
        images,
        Views(runner, connector, links),
        Lines(store, runner.mounts, connector, links),
        dataclasses.replace(options, limits=specs.limits, scratch=run),
        check=specs.check,
        process_spec=lambda container, execution: specs.process(container, execution, links.variables(container)),
        forget_document=specs.forget,
        emit=emit,
        links=links,
        network_name=connector.name_of,
        about_network=connector.about,
    )
