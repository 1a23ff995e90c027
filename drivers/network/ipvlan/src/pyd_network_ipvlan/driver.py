"""The ipvlan driver: containers on a network of the host's that share the MAC address of the host's interface.

In mode l2 they take part in the network's own ARP; in l3 and l3s the kernel routes to them by address, nothing is
broadcast, and the routers outside must know that the subnet is behind this host.
"""

from __future__ import annotations

import logging

from pyd_contracts.values import NetworkSpec
from pyd_netlink.stacked.driver import StackedDriver
from pyd_netlink.stacked.flavour import Flavour, choose
from pyd_netlink.wire import short

__all__ = ["IpvlanDriver"]

_MODES = {"l2": 0, "l3": 1, "l3s": 2}
_FLAGS = {"bridge": 0, "private": 1, "vepa": 2}
"""IPVLAN_MODE_* and IPVLAN_F_* of linux/if_link.h."""
_IFLA_IPVLAN_MODE, _IFLA_IPVLAN_FLAGS = 1, 2


class IpvlanDriver(StackedDriver):
    """Networks as ipvlan interfaces on a parent. The kernel has one mode and one flag for all that are on one parent."""

    capabilities = frozenset({"shared-mac"})

    def __init__(self, instance: str, log: logging.Logger) -> None:
        super().__init__("ipvlan", instance, log)

    def flavour(self, network: NetworkSpec) -> Flavour:
        """The options ``ipvlan_mode`` and ``ipvlan_flag``."""
        words = "requested ipvlan mode '{}' is not valid, 'l2' mode is the ipvlan driver default"
        mode = choose(network.options, "ipvlan_mode", _MODES, "l2", words)
        words = "requested ipvlan flag '{}' is not valid, 'bridge' is the ipvlan driver default"
        flag = choose(network.options, "ipvlan_flag", _FLAGS, "bridge", words)
        data = short(_IFLA_IPVLAN_MODE, _MODES[mode]) + short(_IFLA_IPVLAN_FLAGS, _FLAGS[flag])
        return Flavour(kind="ipvlan", mode=f"{mode} {flag}", data=data, own_mac=False, routed=mode != "l2", common=data)
