"""The kit, run against the namespaces backend."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from pyd_conformance.isolation import IsolationContract
from pyd_isolation_namespaces.driver import NamespacesBackend
from pyd_shim import idmaps


@pytest.mark.root
class TestNamespaces(IsolationContract):
    """The real kernel. Each test has a control group of its own, named after its directory, removed at its end."""

    subject = "namespaces"
    capabilities = frozenset({"terminal", "exec", "pause", "propagation"})
    uncertain = {"users": idmaps.unavailable()}  # noqa: RUF012

    @pytest.fixture(scope="class", autouse=True)
    @classmethod
    def _users(cls) -> None:
        """Whether there are user namespaces is a matter of the host."""
        if not idmaps.unavailable():
            cls.capabilities |= {"users"}

    def make(self, root: Path, run: Path) -> NamespacesBackend:
        parent = f"/pyd-test-{run.stat().st_ino}"
        return NamespacesBackend(run, logging.getLogger("pyd.test"), cgroup_parent=parent)
