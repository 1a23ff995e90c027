"""The local driver: the engine's spool, which every container has anyway, with bounds of its own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from pyd_contracts.errors import FailedPrecondition, InvalidArgument
from pyd_contracts.log_details import FAILED, boolean, size_of
from pyd_contracts.markers import hookimpl
from pyd_contracts.values import LogRecord, LogSource

__all__ = ["LocalDriver"]

_KNOWN = frozenset({"max-file", "max-size", "compress"})


class LocalDriver:
    """Checks options; the engine does the rest."""

    capabilities = frozenset({"spool"})

    @hookimpl
    def log_validate(self, options: Mapping[str, str]) -> None:
        """See the contract; the texts are dockerd's (daemon/logger/local)."""
        for key in sorted(options):
            if key not in _KNOWN:
                raise InvalidArgument(f"unknown log opt '{key}' for log driver local")
        size, files = options.get("max-size", "20m"), options.get("max-file", "5")
        try:
            size_of(size)
        except ValueError as error:
            raise InvalidArgument(f"{FAILED}: invalid value for max-size: {size}: {error}") from error
        if not files.isdigit():
            raise InvalidArgument(
                f'{FAILED}: invalid value for max-file: {files}: strconv.Atoi: parsing "{files}": invalid syntax'
            )
        compress = boolean(options, "compress", "true", f"{FAILED}: error reading compress log option: ")
        if compress and int(files) <= 1:
            raise InvalidArgument(f"{FAILED}: compression cannot be enabled when max file count is 1")
        if int(files) < 1:
            raise InvalidArgument(f"{FAILED}: max file count cannot be less than 1")

    @hookimpl
    def log_open(self, source: LogSource) -> None:
        """See the contract; nothing is delivered."""

    @hookimpl
    def log_write(self, container: str, records: Sequence[LogRecord]) -> int:
        """See the contract; nothing is delivered."""
        raise FailedPrecondition(f"write the log of {container[:12]}: local keeps nothing besides the spool")

    @hookimpl
    def log_end(self, container: str) -> None:
        """See the contract; nothing is delivered."""

    @hookimpl
    def log_remove(self, source: LogSource) -> None:
        """See the contract; nothing is kept."""

    @hookimpl
    def log_close(self) -> None:
        """See the contract; nothing is held."""
