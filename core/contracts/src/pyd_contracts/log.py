"""The log contract, `pyd.log.v1`: where the output of containers goes besides the engine's own spool."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol

from pyd_contracts.markers import hookspec
from pyd_contracts.values import LogRecord, LogSource

__all__ = ["GROUP", "LogDriver", "LogFiles"]

GROUP = "pyd.log.v1"


class LogDriver(Protocol):
    """Brings what containers write to a sink: a file, a socket, a service elsewhere.

    Output is on disk before a driver sees it, in the engine's spool, and stays there until the driver has taken it. So a
    driver keeps nothing back and need not hurry: what it cannot deliver now comes again. A *record* is output of one
    moment: whole lines of one stream, or a piece of a line that is longer than 16 KiB.

    Life cycle::

        validate        when a container is made
        open ── write, write, … ── end        once a run, or once a daemon
        remove          with the container

    Validation happens in the daemon. Delivery happens in a process of its own, which makes the driver anew on the same
    directories: drivers keep nothing in memory that both would need.

    LOG-1   Each hook ends within ten seconds, also when the sink accepts and then says nothing.
    LOG-2   Hooks are called from several threads, those of one container one after the other; a sink that is slow or gone
            for one container holds up no other container.
    LOG-3   Every record is with the sink at least once, in order, after write has answered for it; across a crash at any
            moment, with the driver made anew and the records repeated that write had not answered for.
    LOG-4   Any bytes are taken. What the sink's protocol cannot carry is replaced or cut, never refused.

    Capabilities (an attribute ``capabilities: frozenset[str]``): ``files``: it keeps files beside the container that people
    and programs read (contract `LogFiles`); they go with the container. ``spool``: the engine's own spool is all there is to
    it; nothing is ever delivered. ``nothing``: as ``spool``, and there is no spool either.
    """

    @hookspec(firstresult=True)
    def log_validate(self, options: Mapping[str, str]) -> None:
        """Check the options of a new container.

        LOG-10  InvalidArgument when an option is not known (``unknown log opt 'x' for NAME log driver``) or its value cannot
                work.
        LOG-11  Nothing is made, and no sink is asked: one that is down is no fault of the options.
        """

    @hookspec(firstresult=True)
    def log_open(self, source: LogSource) -> None:
        """Get ready for a container's records.

        LOG-15  Unavailable when that needs the sink and it does not answer; the engine tries again.
        LOG-16  A second time, without an end between, begins anew and is as good as the first.
        """

    @hookspec(firstresult=True)
    def log_write(self, container: str, records: Sequence[LogRecord]) -> int:
        """Bring records to the sink; how many of them, from the first one on, are there.

        LOG-20  Fewer than were given: the sink takes no more now; the rest comes again.
        LOG-21  Unavailable when none is known to be there; all of them come again.
        LOG-22  Content, stream and time arrive, the time as exact as the protocol has it; each line is a message of its own.
        LOG-23  FailedPrecondition when the container is not open.
        """

    @hookspec(firstresult=True)
    def log_end(self, container: str) -> None:
        """Let go of a container's sink: connections and files are closed.

        LOG-25  Of a container that is not open, or a second time: nothing.
        """

    @hookspec(firstresult=True)
    def log_remove(self, source: LogSource) -> None:
        """The container goes: so do files that are kept of it.

        LOG-30  Nothing of it is left below the driver's root and at the container's place; twice is once.
        """

    @hookspec(firstresult=True)
    def log_close(self) -> None:
        """Let go of everything.

        LOG-35  Twice is once.
        """


class LogFiles(Protocol):
    """Optional: files beside the container that people and programs read (capability ``files``)."""

    @hookspec(firstresult=True)
    def log_path(self, source: LogSource) -> Path:
        """Name the file that is being written to (Docker's ``LogPath``).

        LOG-40  Below the container's place; it is there once the container is open, and holds what write answered for.
        """
