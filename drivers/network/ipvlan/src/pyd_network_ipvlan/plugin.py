"""The entry point: looks at the host, returns the driver."""

from __future__ import annotations

from pyd_contracts.context import DriverContext
from pyd_contracts.errors import Declined
from pyd_netlink.namespaces import has_net_admin
from pyd_network_ipvlan.driver import IpvlanDriver
from pyd_network_ipvlan.kernel import has_ipvlan

__all__ = ["create"]


def create(context: DriverContext) -> IpvlanDriver:
    """A driver for this host. Raises Declined when such interfaces cannot be made here."""
    if not has_net_admin():
        raise Declined("network driver ipvlan: CAP_NET_ADMIN is missing; run the daemon as root")
    try:
        able = has_ipvlan()
    except OSError as error:
        raise Declined(f"network driver ipvlan: this kernel gives no rtnetlink socket ({error})") from error
    if not able:
        raise Declined("network driver ipvlan: no ipvlan in this kernel (CONFIG_IPVLAN, module ipvlan)")
    return IpvlanDriver(context.instance, context.log)
