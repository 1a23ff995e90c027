"""Devices of the Container Device Interface (`--device vendor.com/class=name`), from a specification in /var/run/cdi."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from msgspec import json, yaml

from clients import Client

pytestmark = [pytest.mark.root, pytest.mark.docker, pytest.mark.usefixtures("snapshot")]


@pytest.fixture(params=["json", "yaml"])
def kind(request: pytest.FixtureRequest, name: str, tmp_path: Path) -> Iterator[str]:
    """A specification of one device, in each of the two languages; its kind."""
    (tmp_path / "lib").write_text("library")
    edits = {
        "env": ["VENDOR=yes"],
        "deviceNodes": [{"path": "/dev/vendor0", "hostPath": "/dev/zero"}],
        "mounts": [{"hostPath": f"{tmp_path}/lib", "containerPath": "/vendor/lib", "options": ["ro"]}],
        "hooks": [{"hookName": "createContainer", "path": "/bin/true"}],
    }
    kind = f"{name}.example/device"
    folder = Path("/var/run/cdi")
    made = not folder.exists()
    folder.mkdir(exist_ok=True)
    path = folder / f"{name}.{request.param}"
    spec = {"cdiVersion": "0.6.0", "kind": kind, "devices": [{"name": "d0", "containerEdits": edits}]}
    path.write_bytes((yaml.encode if request.param == "yaml" else json.encode)(spec))
    yield kind
    path.unlink()
    if made:
        folder.rmdir()


def test_a_device_with_all_it_brings(docker: Client, warm: str, kind: str) -> None:
    script = (
        "echo $VENDOR; head -c 3 /dev/vendor0 | wc -c; cat /vendor/lib; touch /vendor/lib 2>&- || echo '; read-only'"
    )
    done = docker("run", "--rm", "--device", f"{kind}=d0", warm, "sh", "-c", script)
    assert done.stdout.split("\n")[:3] == ["yes", "3", "library; read-only"]
    assert "hooks" in done.stderr  # a warning: they are not run


def test_one_that_nobody_offers(docker: Client, warm: str) -> None:
    done = docker("run", "--rm", "--device", "vendor.example/none=x", warm, "true", check=False)
    assert (done.returncode, "unresolvable CDI devices vendor.example/none=x" in done.stderr) == (125, True), (
        done.stderr
    )
