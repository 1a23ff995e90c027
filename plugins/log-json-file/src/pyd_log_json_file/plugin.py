"""The entry point."""

from __future__ import annotations

from pyd_contracts import DriverContext, Setting, settings
from pyd_contracts.errors import InvalidArgument
from pyd_contracts.log_details import size_of
from pyd_log_json_file.driver import JsonFileDriver

__all__ = ["create"]


@settings(
    Setting(
        "bound", str, "512m", "How much is kept of a container whose options (max-size) do not say; 0: everything."
    ),
)
def create(context: DriverContext) -> JsonFileDriver:
    """The driver. Raises InvalidArgument for a bound that is no size."""
    try:
        bound = size_of(context.settings["bound"])
    except ValueError as error:
        raise InvalidArgument(f"[logging.json-file] bound: {error}") from error
    return JsonFileDriver(max(0, bound))
