"""Devices of the Container Device Interface: names, specifications, and what they make of a document."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from pyd_contracts.errors import InvalidArgument
from pyd_engine.containers import cdi
from pyd_engine.containers.host_config import DeviceRequest


def spec(path: Path, kind: str, **devices: dict[str, Any]) -> None:
    listed = [{"name": name, "containerEdits": edits} for name, edits in devices.items()]
    path.write_text(
        json.dumps({"cdiVersion": "0.6.0", "kind": kind, "devices": listed, "containerEdits": {"env": ["ALL=1"]}})
    )


def document() -> dict[str, Any]:
    return {
        "process": {"env": ["A=old", "B=1"], "user": {}},
        "linux": {"devices": [{"path": "/dev/null"}], "resources": {"devices": []}},
        "mounts": [],
    }


def test_edits_in_a_document(tmp_path: Path) -> None:
    edits = {
        "env": ["A=new"],
        "deviceNodes": [{"path": "/dev/v", "hostPath": "/dev/zero", "permissions": "rw"}],
        "mounts": [{"hostPath": "/usr/lib", "containerPath": "/v", "options": ["ro", "nosuid"]}],
        "additionalGids": [44],
    }
    spec(tmp_path / "v.json", "vendor.com/class", one=edits, two={"env": ["TWO=2"]})
    found, warnings = cdi.edits(["vendor.com/class=one", "vendor.com/class=two"], (tmp_path,))
    changed = document()
    cdi.inject(changed, found)
    assert warnings == []
    assert changed["process"]["env"] == ["B=1", "A=new", "ALL=1", "TWO=2"]
    assert changed["process"]["user"] == {"additionalGids": [44]}
    node = changed["linux"]["devices"][1]
    assert (node["path"], node["type"], node["major"], node["minor"]) == ("/dev/v", "c", 1, 5)
    rule = {"allow": True, "type": "c", "major": 1, "minor": 5, "access": "rw"}
    assert changed["linux"]["resources"]["devices"] == [rule]
    mount = {"destination": "/v", "type": "bind", "source": "/usr/lib", "options": ["ro", "nosuid", "rbind"]}
    assert changed["mounts"] == [mount]


def test_the_later_directory_has_the_last_word_and_faults_are_told(tmp_path: Path) -> None:
    first, second = tmp_path / "etc", tmp_path / "run"
    for each in (first, second):
        each.mkdir()
    spec(first / "v.json", "v.com/c", x={"env": ["WHERE=etc"]})
    spec(
        second / "v.json", "v.com/c", x={"env": ["WHERE=run"], "hooks": [{"hookName": "createContainer", "path": "/x"}]}
    )
    (first / "bad.json").write_text("[]")
    (first / "bad.yaml").write_text("kind: [\n")
    (first / "note.txt").write_text("not a specification")
    found, warnings = cdi.edits(["v.com/c=x"], (first, second, tmp_path / "absent"))
    assert found[0]["env"] == ["WHERE=run"]
    assert [word in warning for word, warning in zip(("bad.json", "bad.yaml", "hooks"), warnings, strict=True)] == [
        True
    ] * 3
    assert not any("\n" in warning for warning in warnings)


_YAML = """\
---
cdiVersion: 0.5.0
kind: v.com/c
containerEdits:
  env: [ALL=1]
devices:
- name: "0"
  containerEdits:
    deviceNodes:
    - path: /dev/v0
      hostPath: /dev/zero
      fileMode: 0640
      uid: 7
    additionalGids: [44]
    mounts:
    - {hostPath: /usr/lib, containerPath: /v, options: [ro, nosuid, nodev, bind]}
"""


@pytest.mark.parametrize("suffix", ["yaml", "yml"])
def test_yaml_says_what_json_says(tmp_path: Path, suffix: str) -> None:
    """As nvidia-ctk writes it by default; the octal number is what its library makes of it."""
    (tmp_path / f"v.{suffix}").write_text(_YAML)
    found, warnings = cdi.edits(["v.com/c=0"], (tmp_path,))
    changed = document()
    cdi.inject(changed, found)
    assert warnings == []
    node = changed["linux"]["devices"][1]
    assert (node["path"], node["type"], node["major"], node["fileMode"], node["uid"]) == ("/dev/v0", "c", 1, 0o640, 7)
    assert changed["process"] == {"env": ["A=old", "B=1", "ALL=1"], "user": {"additionalGids": [44]}}
    assert changed["mounts"][0]["options"] == ["ro", "nosuid", "nodev", "bind"]


def test_yaml_costs_nothing_where_there_is_none(tmp_path: Path) -> None:
    spec(tmp_path / "v.json", "v.com/c", x={})
    script = (
        "import sys; from pathlib import Path; from pyd_engine.containers import cdi; "
        f"cdi.edits(['v.com/c=x'], (Path({str(tmp_path)!r}),)); sys.exit('yaml' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", script], check=True)


@pytest.mark.parametrize(
    ("request_", "words"),
    [
        (DeviceRequest(driver="cdi", device_ids=("v.com/c=none",)), "unresolvable CDI devices v.com/c=none"),
        (DeviceRequest(driver="cdi", device_ids=("../etc",)), "not vendor.com/class=name"),
        (
            DeviceRequest(count=-1, capabilities=(("gpu",),)),
            r'could not select device driver "" with capabilities: \[\[gpu\]\]',
        ),
    ],
)
def test_refused(request_: DeviceRequest, words: str, tmp_path: Path) -> None:
    with pytest.raises(InvalidArgument, match=words):
        cdi.edits(cdi.asked([request_]), (tmp_path,))


def test_a_host_device_that_is_not_there(tmp_path: Path) -> None:
    spec(tmp_path / "v.json", "v.com/c", x={"deviceNodes": [{"path": "/dev/absent-device"}]})
    found, _ = cdi.edits(["v.com/c=x"], (tmp_path,))
    with pytest.raises(InvalidArgument, match="/dev/absent-device"):
        cdi.inject(document(), found)
