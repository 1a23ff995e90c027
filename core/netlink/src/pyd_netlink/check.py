"""The full read-back of an attachment, by pyroute2.

An independent reader finds what our own messages got wrong. pyroute2 takes 250 ms and 20 MB to load: it is imported
on the first check and on no other path. Its own ways into a namespace fork; here the thread is in the namespace
before it begins.
"""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import ip_address, ip_interface
from typing import Any

from pyd_contracts.values import Attached, Attachment

__all__ = ["faults_inside", "is_up", "links_here"]

_FAMILIES = {4: 2, 6: 10}


def faults_inside(attachment: Attachment, attached: Attached) -> list[str]:
    """What differs in the container's namespace; the calling thread must be in it."""
    from pyroute2 import IPRoute

    with IPRoute() as route:
        links = [link for link in route.get_links() if link.get_attr("IFLA_IFNAME") == attachment.ifname]
        if not links:
            return [f"interface {attachment.ifname} is not in the container's namespace"]
        return list(_inside(route, links[0], attachment, attached))


def links_here() -> dict[str, Any]:
    """The interfaces of the calling thread's namespace by name, as pyroute2 gives them."""
    from pyroute2 import IPRoute

    with IPRoute() as route:
        return {link.get_attr("IFLA_IFNAME"): link for link in route.get_links()}


def _inside(route: Any, link: Any, attachment: Attachment, attached: Attached) -> Iterator[str]:
    name, index = attachment.ifname, link["index"]
    if not is_up(link):
        yield f"interface {name} is down"
    mac = str(link.get_attr("IFLA_ADDRESS")).lower()
    if mac != attached.mac.lower():
        yield f"interface {name} has the MAC address {mac}, not {attached.mac}"
    held = {
        ip_interface(f"{item.get_attr('IFA_LOCAL') or item.get_attr('IFA_ADDRESS')}/{item['prefixlen']}")
        for item in route.get_addr(index=index)
    }
    for address in (*attached.addresses, *attachment.link_local):
        if address not in held:
            yield f"interface {name} lacks the address {address}"
    for gateway in attached.gateways:
        routes = [
            item
            for item in route.get_routes(family=_FAMILIES[gateway.version], table=254)
            if item["dst_len"] == 0 and item.get_attr("RTA_OIF") == index and item.get_attr("RTA_GATEWAY")
        ]
        if not any(ip_address(item.get_attr("RTA_GATEWAY")) == gateway for item in routes):
            yield f"no default route leads through {gateway} on {name}"


def is_up(link: Any) -> bool:
    """Whether a link, as pyroute2 gives it, is up."""
    return bool(link["flags"] & 1)
