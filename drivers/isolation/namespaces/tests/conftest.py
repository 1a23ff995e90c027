"""One backend, one root file system and one control group for all tests of this folder, removed at the end."""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from pyd_conformance.isolation_stage import IsolationStage, Place, busybox_missing
from pyd_conformance.pytest_plugin import absent
from pyd_isolation_namespaces.driver import NamespacesBackend
from pyd_shim.cgroups import Group, discover

PARENT = f"/pyd-test-{os.urandom(4).hex()}"


def groups() -> set[str]:
    """Every control group below this run's parent."""
    return {
        f"{above}/{name}"
        for above, names, _ in os.walk("/sys/fs/cgroup")
        for name in names
        if f"{PARENT}/" in f"{above}/{name}/"
    }


@pytest.fixture(scope="session")
def no_group_is_left() -> Iterator[None]:
    yield
    with contextlib.suppress(OSError):
        Group(discover(), f"{PARENT}/none").remove_parent()
    assert groups() == set()


@pytest.fixture
def stage(request: pytest.FixtureRequest, tmp_path: Path, no_group_is_left: None) -> Iterator[IsolationStage]:
    """A backend in the real kernel. Afterwards nothing may be left: no mount on the host, no group, no process."""
    if (why := busybox_missing()) is not None:
        absent(request.config, "busybox", why)

    def make(_root: Path, run: Path) -> NamespacesBackend:
        return NamespacesBackend(run, logging.getLogger("pyd.test"), cgroup_parent=PARENT)

    stage = IsolationStage(make, Place.at(tmp_path))
    yield stage
    used = set(stage.sandboxes)
    stage.close()
    assert {container: left for container in used if (left := stage.leftovers(container))} == {}
    mounts = Path("/proc/self/mountinfo").read_text(encoding="utf-8", errors="replace")
    assert str(tmp_path) not in mounts, "a mount shows on the host"
