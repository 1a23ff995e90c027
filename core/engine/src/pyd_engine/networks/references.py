"""Networks by what people call them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from pyd_contracts.errors import Conflict, InvalidArgument, NotFound
from pyd_engine.networks.records import NetworkRecord

__all__ = ["configuration", "refuse_name", "resolve"]


def resolve(networks: Mapping[str, NetworkRecord], ref: str) -> NetworkRecord:
    """The network of that id, name, or unique beginning of an id. Raises NotFound, InvalidArgument."""
    found = networks.get(ref) or next((each for each in networks.values() if each.name == ref), None)
    if found is None and ref:
        matches = [each for key, each in networks.items() if key.startswith(ref)]
        if len(matches) > 1:
            raise InvalidArgument(f"network {ref} is ambiguous ({len(matches)} matches found based on ID prefix)")
        found = matches[0] if matches else None
    if found is None:
        raise NotFound(f"network {ref} not found")
    return found


def configuration(networks: Iterable[NetworkRecord], name: str) -> NetworkRecord:
    """The configuration network of that name. Raises NotFound."""
    found = next((each for each in networks if each.config_only and each.name == name), None)
    if found is None:
        raise NotFound(f'configuration network "{name}" does not exist')
    return found


def refuse_name(networks: Iterable[NetworkRecord], name: str) -> None:
    """Raise Conflict when a network of that name is there."""
    if any(each.name == name for each in networks):
        raise Conflict(f"network with name {name} already exists")
