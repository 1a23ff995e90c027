"""Sees when somebody takes rules of ours away: a whole table (`nft flush ruleset`), a chain, a rule, an element.

The kernel tells of every change, our own among them: those are known by the sender's netlink port, which is learned from
a change made for the purpose. Where each change comes from another port, as with the program ``nft``, only vanished
tables are heeded. Tables of others are nobody's business here: several daemons on one host would wake each other for ever.
"""

from __future__ import annotations

import os
import select
import socket
import struct
import threading
import time
from collections.abc import Callable, Collection, Iterable, Iterator

from pyd_contracts.errors import PydError
from pyd_network_bridge.firewall import OPERATOR
from pyd_network_bridge.nft import Nft

__all__ = ["Watch"]

_NETLINK_NETFILTER = 12
_NFNLGRP_NFTABLES = 7
_SOL_NETLINK, _ADD_MEMBERSHIP = 270, 1
_NFTABLES = 10 << 8
_DELTABLE, _DELCHAIN, _DELRULE, _DELSET, _DELELEMENT = (_NFTABLES | kind for kind in (2, 5, 8, 11, 14))
_PARTS = (_DELCHAIN, _DELRULE, _DELSET, _DELELEMENT)
"""Messages of NFNL_SUBSYS_NFTABLES (linux/netfilter/nf_tables.h). In each the first attribute names the table, the second the
chain, set or map."""
_HEADER, _ATTRIBUTE = struct.Struct("=IHHII"), struct.Struct("=HH")
_CALM = 0.2
"""Seconds to wait after the last removal: a firewall that reloads is let finish."""
_PATIENCE = 1.0
"""Seconds for the kernel's word about our own change; it comes before the change returns."""


class Watch:
    """Calls *gone* on a thread of its own after others deleted the tables called *table*, or what is in them.

    *gone* is told whether it is known that something of ours is missing; else it has to look. Nothing is polled. Raises
    OSError where the kernel does not tell.
    """

    def __init__(self, nft: Nft, table: str, gone: Callable[[bool], None]) -> None:
        self._nft = nft
        self._table = table
        self._gone = gone
        self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, _NETLINK_NETFILTER)
        try:
            self._socket.bind((0, 0))
            self._socket.setsockopt(_SOL_NETLINK, _ADD_MEMBERSHIP, _NFNLGRP_NFTABLES)
            self._wake, self._waker = os.pipe2(os.O_CLOEXEC)
        except OSError:
            self._socket.close()
            raise
        self._meanwhile: list[tuple[int, int, list[str]]] = []
        self._overrun = False
        self._ours = self._learn()
        self._forget()
        self._thread = threading.Thread(target=self._run, name="pyd-rules", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """End the thread. Twice is once."""
        if self._waker >= 0:
            os.close(self._waker)
            self._waker = -1
            self._thread.join()
            self._socket.close()
            os.close(self._wake)

    def _run(self) -> None:
        pending = missing = False
        while True:
            ready, _, _ = select.select([self._socket.fileno(), self._wake], [], [], _CALM if pending else None)
            if self._wake in ready:
                return
            if ready:
                looked, known = self._told()
                pending, missing = pending or looked, missing or known
                continue
            before = self._ours
            self._gone(missing)
            self._ours = self._learn()
            pending, missing = self._judged(self._meanwhile, {before, self._ours})
            pending = pending or self._overrun  # a look is enough: that many changes were our own, most likely
            self._forget()

    def _learn(self) -> int | None:
        """The port our changes come from; None when they come from several. What else is told is kept: somebody may take away
        what has just been put back."""
        return first if (first := self._port_of_a_change()) == self._port_of_a_change() else None

    def _port_of_a_change(self) -> int | None:
        name = f"{self._table}-watch"  # always the same: what a killed daemon left goes with the next one's
        try:
            self._nft.run(f"add table ip {name}")
            self._nft.run(f"delete table ip {name}")
        except PydError:
            return None
        end = time.monotonic() + _PATIENCE
        while time.monotonic() < end and select.select([self._socket], [], [], _PATIENCE)[0]:
            try:
                found = list(self._messages())
            except OSError:  # more was told than we could take
                self._overrun = True
                continue
            ours = [port for kind, port, names in found if kind == _DELTABLE and names[:1] == [name]]
            self._meanwhile += found
            if ours:
                return ours[0]
        return None

    def _forget(self) -> None:
        self._meanwhile.clear()
        self._overrun = False

    def _told(self) -> tuple[bool, bool]:
        """Read what there is: whether something of ours may be missing, and whether it is known to be."""
        try:
            found = list(self._messages())
        except BlockingIOError:
            return False, False
        except OSError:  # ENOBUFS: more was told than we could take
            return True, True
        return self._judged(found, {self._ours})

    def _judged(
        self, messages: Iterable[tuple[int, int, list[str]]], ours: Collection[int | None]
    ) -> tuple[bool, bool]:
        """The same of *messages*, but for those from *ours*."""
        looked = missing = False
        for kind, port, names in messages:
            if port in ours or names[:1] != [self._table]:
                continue
            looked = looked or kind == _DELTABLE
            missing = missing or (None not in ours and kind in _PARTS and names[1:2] != [OPERATOR])
        return looked or missing, missing

    def _messages(self) -> Iterator[tuple[int, int, list[str]]]:
        """(kind, sender's port, texts of the first attributes) of what one read gives."""
        data = self._socket.recv(1 << 16, socket.MSG_DONTWAIT)
        position = 0
        while position + _HEADER.size <= len(data):
            length, kind, _, _, port = _HEADER.unpack_from(data, position)
            yield kind, port, _texts(data[position + _HEADER.size + 4 : position + length])  # 4: nfgenmsg
            position += max(_HEADER.size, length + 3 & ~3)


def _texts(data: bytes) -> list[str]:
    found: list[str] = []
    position = 0
    while position + _ATTRIBUTE.size <= len(data) and len(found) < 2:
        length, _ = _ATTRIBUTE.unpack_from(data, position)
        if length < _ATTRIBUTE.size:
            break
        text = data[position + _ATTRIBUTE.size : position + length]
        found.append(text.rstrip(b"\0").decode("ascii", "replace"))
        position += length + 3 & ~3
    return found
