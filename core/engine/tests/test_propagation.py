"""Propagation of binds on mounts that the tests write down."""

from __future__ import annotations

from pathlib import Path

import pytest

from pyd_contracts.errors import InvalidArgument
from pyd_engine.containers.binds import Bind
from pyd_engine.containers.propagation import check_propagation

MOUNTS = r"""22 1 8:1 / / rw,relatime - ext4 /dev/root rw
30 22 0:30 / /nosuch/shared rw shared:1 - tmpfs t rw
31 22 0:31 / /nosuch/slave rw master:1 - tmpfs t rw
32 30 0:32 / /nosuch/shared/private rw - tmpfs t rw
33 22 0:33 / /nosuch/a\040b rw shared:2 master:1 - tmpfs t rw
"""


def check(tmp_path: Path, source: str, propagation: str, *, reaches: bool = True) -> list[str]:
    (tmp_path / "mountinfo").write_text(MOUNTS)
    bind = Bind("bind", source, "/b", propagation=propagation)
    return check_propagation([bind], reaches=reaches, mountinfo=str(tmp_path / "mountinfo"))


@pytest.mark.parametrize(
    ("source", "propagation"),
    [
        ("/nosuch/private", "rprivate"),
        ("/nosuch/private", "private"),
        ("/nosuch/shared/x", "rslave"),
        ("/nosuch/shared", "slave"),
        ("/nosuch/slave/x/y", "rslave"),
        ("/nosuch/a b", "rslave"),
    ],
)
def test_what_can_be_given(tmp_path: Path, source: str, propagation: str) -> None:
    assert check(tmp_path, source, propagation) == []


@pytest.mark.parametrize(
    ("source", "propagation", "said"),
    [
        (
            "/nosuch/sharedless",
            "rslave",
            "path /nosuch/sharedless is mounted on / but it is not a shared or slave mount",
        ),
        ("/nosuch/slave", "rshared", "path /nosuch/slave is mounted on /nosuch/slave but it is not a shared mount"),
        (
            "/nosuch/shared/private/x",
            "slave",
            "is mounted on /nosuch/shared/private but it is not a shared or slave mount",
        ),
    ],
)
def test_what_cannot(tmp_path: Path, source: str, propagation: str, said: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        check(tmp_path, source, propagation)
    assert said in str(caught.value)


def test_what_is_given_in_part_is_told(tmp_path: Path) -> None:
    (said,) = check(tmp_path, "/nosuch/shared", "rshared", reaches=False)
    assert said == "Mounts that the container makes below /b stay its own: rshared is done as rslave"
