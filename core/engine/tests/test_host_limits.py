"""What a host can limit, read from control groups that the tests lay out."""

from __future__ import annotations

from pathlib import Path

import pytest

from pyd_engine.containers.host_limits import hard_limits, lacking, least_oom_score_adj
from pyd_engine.containers.limits import ULIMITS


@pytest.mark.parametrize(
    ("files", "weighs"),
    [
        (["blkio.weight"], True),
        (["group/blkio.bfq.weight"], True),  # BFQ shows none at the root
        (["group/blkio.reset_stats"], False),
        ([], True),  # no group: nobody knows
    ],
)
def test_weights_of_block_devices_on_v1(tmp_path: Path, files: list[str], weighs: bool) -> None:
    for file in files:
        (tmp_path / file).parent.mkdir(exist_ok=True)
        (tmp_path / file).touch()
    mountinfo = tmp_path.with_suffix(".mountinfo")
    mountinfo.write_text(f"30 25 0:26 / {tmp_path} rw - cgroup cgroup rw,blkio\n")
    assert ("blkio-weight" not in lacking(str(mountinfo))) is weighs


@pytest.mark.parametrize("controllers", ["cpu io memory", "cpu memory"])
def test_weights_of_block_devices_on_v2(tmp_path: Path, controllers: str) -> None:
    (tmp_path / "cgroup.controllers").write_text(f"{controllers}\n")
    (tmp_path / "group").mkdir()
    (tmp_path / "group/io.bfq.weight").touch()
    mountinfo = tmp_path.with_suffix(".mountinfo")
    mountinfo.write_text(f"30 25 0:26 / {tmp_path} rw - cgroup2 cgroup2 rw\n")
    assert ("blkio-weight" in lacking(str(mountinfo))) is ("io" not in controllers)


def test_the_daemons_own_limits() -> None:
    assert hard_limits().keys() <= ULIMITS
    assert -1000 <= least_oom_score_adj() <= 1000
