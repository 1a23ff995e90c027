"""Deleting veth pairs, which the kernel is slow at, behind the caller's back.

One deletion waits 15 to 50 ms for readers of the device lists (``synchronize_net``), and keeps all other work on
interfaces waiting meanwhile; a hundred in one message wait once. When a container's namespace dies the kernel deletes
the pair by itself. So a detach cuts the port off (no packet passes any more) and puts it into a group of its own,
both at once and in 0.1 ms; a thread deletes the whole group a little later, if the kernel has not done so by then.
The group is in the kernel, not in this process: what a crash leaves in it is recognised and swept.
"""

from __future__ import annotations

import errno
import logging
import threading

from pyd_contracts.errors import PydError
from pyd_netlink.rtnetlink import Link, Pool, del_group, set_link, set_port, translate

__all__ = ["Reaper"]

_PATIENCE = 0.25
"""Seconds given to the kernel to do the work itself. It takes 30 to 70 ms where a namespace died."""


class Reaper:
    """Gives interfaces up at once and deletes them later, many at a time."""

    def __init__(self, pool: Pool, group: int, log: logging.Logger) -> None:
        self._pool = pool
        self._group = group
        self._log = log
        self._wake = threading.Condition()
        self._pending = False
        self._hurry = False
        self._thread: threading.Thread | None = None

    @property
    def group(self) -> int:
        """The interface group of what is given up."""
        return self._group

    def give_up(self, link: Link) -> bool:
        """Cut *link* off and mark it for deletion; False when it was gone already."""
        with self._pool.borrow() as netlink:
            # In this order: a change of the group is news of the device, and on such news the bridge enables its port.
            marked, cut = netlink.send(set_link(link.index, group=self._group), set_port(link.index, disabled=True))
        if marked is not None and marked.errno != errno.ENODEV:
            raise translate(marked, f"give up interface {link.name}")
        if cut is not None and cut.errno not in (errno.ENODEV, errno.EINVAL, errno.EOPNOTSUPP, errno.ENETDOWN):
            self._log.warning("interface %s passes packets until it is deleted: %s", link.name, cut.strerror)
        return marked is None

    def later(self) -> None:
        """Have what was given up deleted soon."""
        with self._wake:
            self._pending = True
            if self._thread is None:
                self._thread = threading.Thread(target=self._work, name="pyd-bridge-reaper", daemon=True)
                self._thread.start()

    def now(self) -> None:
        """Delete what was given up, and return when it is gone."""
        self._delete()

    def close(self) -> None:
        """Wait until nothing given up is left."""
        with self._wake:
            thread = self._thread
            self._hurry = True
            self._wake.notify_all()
        if thread is not None:
            thread.join()
        self._hurry = False

    def _work(self) -> None:
        while True:
            with self._wake:
                if not self._pending:
                    self._thread = None
                    return
                self._pending = False
                self._wake.wait_for(lambda: self._hurry, timeout=_PATIENCE)
            try:
                self._delete()
            except (PydError, OSError):
                self._log.exception("interfaces of group %#x stay until the next start", self._group)

    def _delete(self) -> None:
        with self._pool.borrow() as netlink:
            (answer,) = netlink.send(del_group(self._group))
        if answer is not None and answer.errno != errno.ENODEV:
            raise translate(answer, "delete detached interfaces")
