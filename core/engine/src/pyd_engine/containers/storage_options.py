"""What containers ask of storage drivers, in the contract's terms: ``--storage-opt``."""

from __future__ import annotations

from pyd_contracts.errors import InvalidArgument
from pyd_contracts.log_details import size_of
from pyd_engine.containers.container import Container

__all__ = ["storage_options"]


def storage_options(container: Container) -> dict[str, str]:
    """A size is a number of bytes, and which driver it is is no business of the driver. InvalidArgument for what is no size."""
    options = {key: value for key, value in (container.host_config.storage_opt or {}).items() if key != "driver"}
    if "size" in options:
        try:
            options["size"] = str(size_of(options["size"]))
        except ValueError as error:
            raise InvalidArgument(f"storage option size: {error}") from error
    return options
