"""The macvlan driver: containers with MAC addresses of their own on a network of the host's.

Between host and containers nothing passes, the kernel has it so: who wants that gives the host a macvlan interface too.
"""

from __future__ import annotations

import logging

from pyd_contracts.values import NetworkSpec
from pyd_netlink.stacked.driver import StackedDriver
from pyd_netlink.stacked.flavour import Flavour, choose
from pyd_netlink.wire import number

__all__ = ["MacvlanDriver"]

_MODES = {"bridge": 4, "private": 1, "vepa": 2, "passthru": 8}
"""MACVLAN_MODE_* of linux/if_link.h."""
_IFLA_MACVLAN_MODE = 1


class MacvlanDriver(StackedDriver):
    """Networks as macvlan interfaces on a parent."""

    def __init__(self, instance: str, log: logging.Logger) -> None:
        super().__init__("macvlan", instance, log)

    def flavour(self, network: NetworkSpec) -> Flavour:
        """The option ``macvlan_mode``."""
        words = "requested macvlan mode '{}' is not valid, 'bridge' mode is the macvlan driver default"
        mode = choose(network.options, "macvlan_mode", _MODES, "bridge", words)
        return Flavour(
            kind="macvlan", mode=mode, data=number(_IFLA_MACVLAN_MODE, _MODES[mode]), alone=mode == "passthru"
        )
