"""One stage for each runtime that is installed, one control group for all tests of this folder."""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from pyd_conformance.isolation_stage import IsolationStage, Place, busybox_missing
from pyd_conformance.pytest_plugin import absent
from pyd_isolation_oci.driver import OciBackend
from pyd_isolation_oci.runtimes import KNOWN, Runtime, obstacle
from pyd_shim.cgroups import Group, discover

PARENT = f"/pyd-test-{os.urandom(4).hex()}"


@pytest.fixture(scope="session")
def no_group_is_left() -> Iterator[None]:
    yield
    with contextlib.suppress(OSError):
        Group(discover(), f"{PARENT}/none").remove_parent()


@pytest.fixture(params=KNOWN)
def stage(request: pytest.FixtureRequest, tmp_path: Path, no_group_is_left: None) -> Iterator[IsolationStage]:
    """A backend in the real kernel. Afterwards nothing may be left: no mount on the host, no group, no process."""
    if (why := busybox_missing()) is not None:
        absent(request.config, "busybox", why)
    program = shutil.which(request.param)
    if program is None:
        absent(request.config, request.param, f"{request.param} is not installed (Debian: {request.param})")
    if why := obstacle(request.param):
        pytest.skip(why)
    runtimes = {request.param: Runtime(request.param, str(program))}

    def make(_root: Path, run: Path) -> OciBackend:
        return OciBackend(run, logging.getLogger("pyd.test"), runtimes, cgroup_parent=PARENT)

    stage = IsolationStage(make, Place.at(tmp_path))
    yield stage
    used = set(stage.sandboxes)
    stage.close()
    assert {container: left for container in used if (left := stage.leftovers(container))} == {}
    mounts = Path("/proc/self/mountinfo").read_text(encoding="utf-8", errors="replace")
    assert str(tmp_path) not in mounts, "a mount shows on the host"
