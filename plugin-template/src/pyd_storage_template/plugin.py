"""The entry point: what the daemon calls when a configuration names this driver.

Declare the keys of your table ``[storage.<name>]`` with ``@settings(Setting(...))`` and read ``context.settings``.
"""

from __future__ import annotations

import os
import shutil

from pyd_contracts.context import DriverContext
from pyd_contracts.errors import Declined
from pyd_contracts.markers import settings

from .driver import TemplateDriver

__all__ = ["create"]


@settings()
def create(context: DriverContext) -> TemplateDriver:
    """Make the driver. Decline, with the reason and what would help, where it cannot work."""
    if os.geteuid() != 0:
        raise Declined(f"copying owners and devices needs root; this is uid {os.geteuid()}")
    if missing := [tool for tool in ("cp", "rm", "du") if shutil.which(tool) is None]:
        raise Declined(f"not installed: {', '.join(missing)} (package coreutils)")
    return TemplateDriver(context.root)
