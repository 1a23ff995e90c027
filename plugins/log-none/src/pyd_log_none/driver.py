"""The none driver: what a container writes reaches who is attached to it, and nobody else."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from pyd_contracts.errors import FailedPrecondition
from pyd_contracts.markers import hookimpl
from pyd_contracts.values import LogRecord, LogSource

__all__ = ["NoneDriver"]


class NoneDriver:
    """Says that nothing is to be kept; there is no work for anybody then."""

    capabilities = frozenset({"nothing"})

    @hookimpl
    def log_validate(self, options: Mapping[str, str]) -> None:
        """See the contract. Like dockerd's it takes any option, and ignores it."""

    @hookimpl
    def log_open(self, source: LogSource) -> None:
        """See the contract; nothing is delivered."""

    @hookimpl
    def log_write(self, container: str, records: Sequence[LogRecord]) -> int:
        """See the contract; nothing is delivered."""
        raise FailedPrecondition(f"write the log of {container[:12]}: none keeps nothing")

    @hookimpl
    def log_end(self, container: str) -> None:
        """See the contract; nothing is delivered."""

    @hookimpl
    def log_remove(self, source: LogSource) -> None:
        """See the contract; nothing is kept."""

    @hookimpl
    def log_close(self) -> None:
        """See the contract; nothing is held."""
