"""The entry point: reads settings, looks at the host, returns the driver."""

from __future__ import annotations

from pyd_contracts.context import DriverContext, Setting
from pyd_contracts.errors import Declined
from pyd_contracts.markers import settings
from pyd_netlink.namespaces import has_net_admin
from pyd_netlink.rtnetlink import Netlink
from pyd_network_bridge.driver import BridgeDriver
from pyd_network_bridge.nft import find

__all__ = ["create"]


@settings(
    Setting("bridge-name", str, "", "bridge of the network 'bridge'; empty: pyd0, or pyd- and the instance"),
    Setting("firewall", bool, True, "write nftables rules; false leaves translation and isolation to the operator"),
)
def create(context: DriverContext) -> BridgeDriver:
    """A driver for this host. Raises Declined when interfaces cannot be made here."""
    if not has_net_admin():
        raise Declined("network driver bridge: CAP_NET_ADMIN is missing; run the daemon as root")
    try:
        Netlink().close()
    except OSError as error:
        raise Declined(f"network driver bridge: this kernel gives no rtnetlink socket ({error})") from error
    nft, missing = find() if context.settings.get("firewall", True) else (None, "the setting firewall is false")
    return BridgeDriver(
        instance=context.instance,
        log=context.log,
        nft=nft,
        missing=missing,
        bridge_name=str(context.settings.get("bridge-name", "")),
    )
