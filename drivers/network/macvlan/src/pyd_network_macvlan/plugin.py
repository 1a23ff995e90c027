"""The entry point: looks at the host, returns the driver."""

from __future__ import annotations

from pyd_contracts.context import DriverContext
from pyd_contracts.errors import Declined
from pyd_netlink.namespaces import has_net_admin
from pyd_network_macvlan.driver import MacvlanDriver
from pyd_network_macvlan.kernel import has_macvlan

__all__ = ["create"]


def create(context: DriverContext) -> MacvlanDriver:
    """A driver for this host. Raises Declined when such interfaces cannot be made here."""
    if not has_net_admin():
        raise Declined("network driver macvlan: CAP_NET_ADMIN is missing; run the daemon as root")
    try:
        able = has_macvlan()
    except OSError as error:
        raise Declined(f"network driver macvlan: this kernel gives no rtnetlink socket ({error})") from error
    if not able:
        raise Declined("network driver macvlan: no macvlan in this kernel (CONFIG_MACVLAN, module macvlan)")
    return MacvlanDriver(context.instance, context.log)
