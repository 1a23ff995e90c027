"""The host's half of the read-back of an attachment."""

from __future__ import annotations

from pyd_netlink.check import is_up, links_here

__all__ = ["faults_outside"]


def faults_outside(host_ifname: str, bridge: str) -> list[str]:
    """What differs in the host's namespace; the calling thread must be in it."""
    links = links_here()
    if bridge not in links:
        return [f"bridge {bridge} is not there"]
    faults = [] if is_up(links[bridge]) else [f"bridge {bridge} is down"]
    port = links.get(host_ifname)
    if port is None:
        return [*faults, f"interface {host_ifname} is not there"]
    if port.get_attr("IFLA_MASTER") != links[bridge]["index"]:
        faults.append(f"interface {host_ifname} is not a port of bridge {bridge}")
    if not is_up(port):
        faults.append(f"interface {host_ifname} is down")
    return faults
