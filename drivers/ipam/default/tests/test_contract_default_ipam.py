"""The kit, run against the default manager of addresses."""

from __future__ import annotations

from pyd_conformance.ipam import IpamContract
from pyd_ipam_default.driver import DefaultIpam


class TestDefaultIpam(IpamContract):
    """No root, no kernel but for the routes, which are none here."""

    subject = "default"

    def make(self) -> DefaultIpam:
        return DefaultIpam(routes=lambda: self.routes)
