"""Log drivers and containers: which one has a sink, when its delivery begins and ends, what of it people may see.

The spool comes first, whatever the driver: it is written by the shim, and `docker logs` reads it. A driver that has a sink of
its own gets what is in the spool, from a process of its own (`pyd_engine.logs.courier`).
"""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from pyd_contracts.errors import FailedPrecondition, PydError, from_oserror
from pyd_contracts.log import LogDriver
from pyd_contracts.values import LogSource
from pyd_engine.containers import log_options
from pyd_engine.containers.container import Container
from pyd_engine.containers.host_config import LogConfig
from pyd_engine.logs.courier import Courier, undelivered
from pyd_engine.logs.cursor import Cursor, behind, lost, prepare
from pyd_engine.logs.orders import Order

__all__ = ["Delivery"]

log = logging.getLogger(__name__)


class Delivery:
    """What becomes of containers' output.

    drivers    the hooks of ready drivers (`Relay.call`), with their capabilities
    absent     why installed ones are not ready
    keep       bytes of output that are kept when a container's options say nothing
    hold       bytes of it that wait for a sink
    directory  of a container by id, and its spool in it
    """

    def __init__(
        self, drivers: Mapping[str, LogDriver], absent: Mapping[str, str], courier: Courier, *, keep: int, hold: int,
        directory: Callable[[str], Path],
    ) -> None:  # fmt: skip
        self._drivers = drivers
        self._absent = absent
        self._courier = courier
        self._keep = keep
        self._hold = hold
        self._directory = directory

    def check(self, config: LogConfig) -> None:
        """Raises InvalidArgument unless a container can be made so."""
        log_options.check(config, self._drivers, self._absent)

    # --- what a container's driver is like -------------------------------------------------------------------------

    def spooled(self, container: Container) -> bool:
        """Its output is kept at all."""
        return "nothing" not in self._powers(container)

    def readable(self, container: Container) -> bool:
        """`docker logs` shows it."""
        options = container.host_config.log_config.config or {}
        return self.spooled(container) and options.get("cache-disabled", "") not in ("true", "1", "t")

    def wanted(self, container: Container) -> bool:
        """It has a sink besides the spool."""
        return not self._powers(container) & {"spool", "nothing"} and self._name(container) in self._drivers

    def path(self, container: Container) -> str:
        """The file that people and programs may read; empty when there is none."""
        if not container.runs or "files" not in self._powers(container):
            return ""
        driver: Any = self._drivers[self._name(container)]
        return str(driver.log_path(source=self._source(container)))

    def state(self, container: Container) -> dict[str, Any] | None:
        """How far delivery is, for inspect; None when there is none."""
        if not container.runs or not self.wanted(container):
            return None
        try:
            directory = os.open(self._spool(container), os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError:
            return None
        try:
            cursor = Cursor.read(directory)
            return {
                "Undelivered": behind(directory, cursor), "Dropped": cursor.dropped, "Lost": lost(directory),
                "Error": cursor.error,
            }  # fmt: skip
        except (OSError, ValueError) as error:
            return {"Error": f"the position is lost: {error}"}
        finally:
            os.close(directory)

    # --- a container's life ----------------------------------------------------------------------------------------

    def prepare(self, container: Container) -> None:
        """Before a run: say to the shim how much is kept. FailedPrecondition when the driver is not there any more."""
        name = self._name(container)
        if name not in self._drivers:
            why = self._absent.get(name, "it is not installed")
            raise FailedPrecondition(f"failed to initialize logging driver: {name} is not ready: {why}")
        spool, wanted = self._spool(container), self.wanted(container)
        try:
            if wanted:
                prepare(spool)
            log_options.policy(container, self._keep, self._hold if wanted else 0).write(spool)
        except OSError as error:
            raise from_oserror(error, f"write the log policy of container {container.name}") from error

    def began(self, container: Container) -> None:
        """It runs."""
        if self.wanted(container):
            self._courier.follow(self._order(container))

    def ended(self, container: Container) -> None:
        """It does not; what it wrote is delivered to the end."""
        self._courier.end(container.id)

    def removed(self, container: Container) -> None:
        """It goes. What its driver keeps beside it goes too; what waits for a sink elsewhere goes on waiting."""
        if not self.wanted(container):
            return
        if "files" not in self._powers(container):
            self._courier.leave(self._order(container))
            return
        self._courier.forget(container.id)
        self._drivers[self._name(container)].log_remove(source=self._source(container))

    def resume(self, containers: Iterable[Container]) -> None:
        """A daemon starts: go on with whoever runs, and with whoever left something undelivered."""
        for container in containers:
            try:
                if container.state.phase.alive:
                    self.began(container)
                elif container.runs and self.wanted(container):
                    with contextlib.suppress(FileNotFoundError):
                        if undelivered(self._spool(container)):
                            self._courier.follow(replace(self._order(container), ended=True))
            except (OSError, PydError) as error:
                log.error("deliver the output of container %s: %s", container.name, error)
        self._courier.resume()

    def close(self) -> None:
        """End; what is not delivered waits for the next daemon."""
        self._courier.close()

    # --- small things ----------------------------------------------------------------------------------------------

    @staticmethod
    def _name(container: Container) -> str:
        return container.host_config.log_config.type

    def _powers(self, container: Container) -> frozenset[str]:
        driver: Any = self._drivers.get(self._name(container))
        powers: frozenset[str] = frozenset() if driver is None else driver.capabilities
        return powers

    def _spool(self, container: Container) -> str:
        return os.fspath(self._directory(container.id) / "logs")

    def _source(self, container: Container) -> LogSource:
        return log_options.source_of(container, self._directory(container.id))

    def _order(self, container: Container) -> Order:
        return Order(
            driver=self._name(container), source=self._source(container), directory=self._spool(container),
            most=log_options.most_waiting(container),
        )  # fmt: skip
