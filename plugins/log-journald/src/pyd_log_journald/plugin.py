"""The entry point."""

from __future__ import annotations

import stat
from pathlib import Path

from pyd_contracts import DriverContext, Setting, settings
from pyd_contracts.errors import Declined
from pyd_log_journald.driver import JournaldDriver

__all__ = ["create"]


@settings(Setting("socket", str, "/run/systemd/journal/socket", "The socket of the journal."))
def create(context: DriverContext) -> JournaldDriver:
    """The driver. Raises Declined where no journal runs."""
    path = context.settings["socket"]
    try:
        there = stat.S_ISSOCK(Path(path).stat().st_mode)
    except OSError:
        there = False
    if not there:
        raise Declined(f"journald is not enabled on this host: there is no socket at {path}")
    return JournaldDriver(path)
