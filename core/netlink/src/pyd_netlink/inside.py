"""The container's half of an attachment, in its network namespace: addresses, routes, sysctls, then the interface is up.

Of several networks the one with the highest priority leads out. Its default route has the kernel's own metric, as
if it were the only one; those of the others have metrics in the order of their priorities, so that the next takes over when its
interface goes, without anybody's help.
"""

from __future__ import annotations

import errno
import re
from collections.abc import Mapping, Sequence

from pyd_contracts.errors import InvalidArgument, NotFound
from pyd_contracts.values import Attachment
from pyd_netlink.namespaces import set_sysctl
from pyd_netlink.rtnetlink import (
    Message,
    Netlink,
    Way,
    add_address,
    add_default_route,
    set_link,
    sync_carrier,
    translate,
)

__all__ = ["check_sysctls", "configure"]

_LOOPBACK = 1
_FIRST = {4: 0, 6: 1024}
"""Metrics of a route that asks for none (IP6_RT_PRIO_USER of linux/ipv6_route.h)."""
_TAKEN = OSError(errno.EEXIST, "another network has the first place")
_SYSCTLS = "com.docker.network.endpoint.sysctls"
_SYSCTL = re.compile(r"net[./](ipv4|ipv6|mpls)[./](conf|neigh)[./]IFNAME[./]([a-z0-9_]+)=(.+)\Z")


def configure(attachment: Attachment, ways: Sequence[Way], *, alias: str = "", notify: bool | None = None) -> None:
    """Set the interface up; the calling thread must be in the namespace.

    ways      where default routes lead
    alias     what the interface is marked with
    notify    whether neighbours are told of the addresses when the interface comes up: later (False), or now and later
              (True); None: never. An earlier holder may have had another MAC address
    """
    name = attachment.ifname
    set_sysctl(f"ipv6/conf/{name}/accept_ra", "0")  # CVE-2020-13401: no neighbour may announce itself as a router
    has_ipv6 = any(each.version == 6 for each in (*attachment.addresses, *attachment.link_local))
    if not has_ipv6:
        set_sysctl(f"ipv6/conf/{name}/disable_ipv6", "1")  # CVE-2024-32473: no IPv6 where none was asked for
    for key, value in check_sysctls(attachment.options, name).items():
        if not set_sysctl(key, value):
            raise InvalidArgument(f"option {_SYSCTLS}: this kernel has no net.{key.replace('/', '.')}")
    if notify and has_ipv6:
        set_sysctl(f"ipv6/conf/{name}/ndisc_notify", "1")
    try:
        netlink = Netlink()
    except OSError as error:
        raise translate(error, "open a rtnetlink socket in the container") from error
    try:
        link = netlink.link(name)
        if link is None:
            raise NotFound(f"interface {name} vanished from the container while it was set up")
        messages = [set_link(_LOOPBACK, up=True)]
        messages += [set_link(link.index, alias=alias, arp_notify=bool(notify))] if alias or notify else []
        messages += [add_address(link.index, each) for each in (*attachment.addresses, *attachment.link_local)]
        messages += [set_link(link.index, up=True)]
        messages += [set_link(link.index, arp_notify=True)] if notify is False else []
        # Nearly always it is the only network, and all goes in one batch.
        alone = attachment.default_route and not attachment.gateway_priority
        routes = [_route(attachment, link.index, way) for way in ways] if alone else []
        answers = netlink.send(*messages, sync_carrier(link.index), *routes)
        routed, answers = answers[len(messages) + 1 :], answers[: len(messages) + 1]
        for way, answer in zip(ways, routed or [_TAKEN] * len(ways), strict=True):
            if answer is not None and answer.errno == errno.EEXIST:
                _lead(netlink, attachment, link.index, way)
            else:
                answers.append(answer)
    except OSError as error:
        raise translate(error, f"set up interface {name} of the container") from error
    finally:
        netlink.close()
    for answer in answers:
        if answer is not None:
            raise translate(answer, f"set up interface {name} of the container") from answer


def check_sysctls(options: Mapping[str, str], name: str) -> dict[str, str]:
    """``com.docker.network.endpoint.sysctls=net.ipv4.conf.IFNAME.log_martians=1,…`` as files below /proc/sys/net.

    Raises InvalidArgument for one that is not of the interface alone.
    """
    found = {}
    for text in filter(None, options.get(_SYSCTLS, "").split(",")):
        match = _SYSCTL.match(text.strip())
        if match is None:
            raise InvalidArgument(
                f"option {_SYSCTLS}={text!r}: write net.ipv4.conf.IFNAME.KEY=VALUE, with the word IFNAME"
            )
        family, group, key, value = match.groups()
        found[f"{family}/{group}/{name}/{key}"] = value
    return found


def _route(attachment: Attachment, index: int, way: Way, metric: int = 0, *, replace: bool = False) -> Message:
    near = isinstance(way, int) or any(way in address.network for address in attachment.addresses)
    return add_default_route(index, way, metric, onlink=not near, replace=replace)


def _lead(netlink: Netlink, attachment: Attachment, index: int, way: Way) -> None:
    """The default route of one network among several."""
    netlink.run(_route(attachment, index, way, _metric(attachment.gateway_priority, index)))
    if not attachment.default_route:
        return
    version = way if isinstance(way, int) else way.version
    first = _FIRST[version]
    present = netlink.default_routes(version)
    for other, metric, via in present:
        if metric == first and not any(i == other and m != first for i, m, _ in present):
            netlink.run(add_default_route(other, via or version, _metric(0, other), onlink=via is not None))
    netlink.run(_route(attachment, index, way, replace=True))


def _metric(priority: int, index: int) -> int:
    """Of routes that are not the first: by priority, then by age."""
    return 100_000 - 20 * max(-4000, min(4000, priority)) + index % 20
