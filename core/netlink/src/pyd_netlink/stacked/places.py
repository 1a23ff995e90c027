"""Where a driver's attachments are: found in all namespaces the kernel has a number for, also after a restart."""

from __future__ import annotations

import errno
import logging

from pyd_contracts.values import Attachment
from pyd_netlink.elsewhere import HERE, Place, del_link_in, links_in, number_of, numbers
from pyd_netlink.rtnetlink import Netlink, Pool, translate
from pyd_netlink.stacked.plan import Plan

__all__ = ["Places"]

Key = tuple[str, str]


class Places:
    """Attachments and the numbers of their namespaces.

    What was attached by this process is remembered. What an earlier one attached is looked for once, in all namespaces;
    so a detach costs the same however many containers there are.
    """

    def __init__(self, pool: Pool, kind: str, instance: str, log: logging.Logger) -> None:
        self._pool = pool
        self._kind = kind
        self._instance = instance
        self._log = log
        self._numbers: dict[Key, int] = {}
        self._looked = False

    def enter(self, attachment: Attachment, where: int) -> None:
        """Remember in which namespace *attachment* is."""
        self._numbers[_key(attachment)] = where

    def find(self, netlink: Netlink, plan: Plan, attachment: Attachment, fd: int | None) -> Place | None:
        """The interface of *attachment*; *fd* is its namespace where that is known. None when it is gone.

        The group says which network an interface is of. Its alias says whose it is; it may have another name by now.
        """
        where = self._number(netlink, attachment) if fd is None else number_of(netlink, fd)
        if where is None:
            return None
        for link in links_in(netlink, where, self._kind):
            if link.group != plan.group:
                continue
            if link.alias == plan.alias(attachment) or (not link.alias and link.name == attachment.ifname):
                return Place(where, link)
        return None

    def of(self, netlink: Netlink, plan: Plan) -> list[Place]:
        """All interfaces of a network."""
        everywhere = (HERE, *numbers(netlink))
        return [
            Place(n, link) for n in everywhere for link in links_in(netlink, n, self._kind) if link.group == plan.group
        ]

    def remove(self, netlink: Netlink, place: Place) -> bool:
        """Delete an interface; False when it was gone already."""
        (answer,) = netlink.send(del_link_in(place))
        if answer is not None and answer.errno not in (errno.ENODEV, errno.EINVAL):
            raise translate(answer, f"delete interface {place.link.name}") from answer
        return answer is None

    def forget(self, attachment: Attachment) -> None:
        """Its interface is gone."""
        self._numbers.pop(_key(attachment), None)

    def _number(self, netlink: Netlink, attachment: Attachment) -> int | None:
        found = self._numbers.get(_key(attachment))
        if found is None and not self._looked:
            self._look(netlink)
            found = self._numbers.get(_key(attachment))
        return found

    def _look(self, netlink: Netlink) -> None:
        self._looked = True
        for number in numbers(netlink):
            for link in links_in(netlink, number, self._kind):
                match link.alias.split():
                    case ["pyd", self._instance, _, container, ifname]:
                        self._numbers.setdefault((container, ifname), number)


def _key(attachment: Attachment) -> Key:
    return attachment.container[:12], attachment.ifname
