"""The kit, run against the oci backend with each runtime that is installed."""

from __future__ import annotations

import logging
import shutil
from pathlib import Path

import pytest

from pyd_conformance.isolation import IsolationContract
from pyd_conformance.pytest_plugin import absent
from pyd_isolation_oci.driver import OciBackend
from pyd_isolation_oci.runtimes import Runtime, obstacle
from pyd_shim import idmaps


class OciContract(IsolationContract):
    """The real kernel. Each test has a control group of its own, named after its directory."""

    capabilities = frozenset({"terminal", "exec", "pause", "runtimes"})
    uncertain = {"users": idmaps.unavailable()}  # noqa: RUF012
    runtime = ""

    @pytest.fixture(scope="class", autouse=True)
    @classmethod
    def _users(cls) -> None:
        """Whether there are user namespaces is a matter of the host."""
        if not idmaps.unavailable():
            cls.capabilities |= {"users"}

    @pytest.fixture(autouse=True)
    def installed(self, request: pytest.FixtureRequest) -> None:
        """Skip, or fail where nothing may be missing."""
        if shutil.which(self.runtime) is None:
            absent(request.config, self.runtime, f"{self.runtime} is not installed (Debian: {self.runtime})")
        if why := obstacle(self.runtime):
            pytest.skip(why)

    def make(self, root: Path, run: Path) -> OciBackend:
        parent = f"/pyd-test-{run.stat().st_ino}"
        found = {self.runtime: Runtime(self.runtime, shutil.which(self.runtime) or self.runtime)}
        return OciBackend(run, logging.getLogger("pyd.test"), found, cgroup_parent=parent)


@pytest.mark.root
class TestRunc(OciContract):
    subject = "oci (runc)"
    runtime = "runc"


@pytest.mark.root
class TestCrun(OciContract):
    subject = "oci (crun)"
    runtime = "crun"
