"""Who is told when rules vanish, and when."""

from __future__ import annotations

import subprocess
import threading
from collections.abc import Iterator

import pytest

from pyd_conformance.network_stage import fresh_host
from pyd_network_bridge.nft import Library, Nft
from pyd_network_bridge.watch import Watch

pytestmark = pytest.mark.root

TABLE = "pyd-c0ffee07"


@pytest.fixture
def rules() -> Iterator[Nft]:
    with fresh_host():
        nft = Library()
        try:
            nft.run(f"add table ip {TABLE}; add chain ip {TABLE} first; add chain ip {TABLE} second")
            yield nft
        finally:
            nft.close()


def somebody(script: str) -> None:
    subprocess.run(["nft", script], check=True)


def test_what_is_taken_away_while_it_is_put_back_is_not_missed(rules: Nft) -> None:
    told: list[bool] = []
    twice = threading.Event()

    def gone(missing: bool) -> None:
        told.append(missing)
        if len(told) == 1:
            somebody(f"delete chain ip {TABLE} second")
        else:
            twice.set()

    watch = Watch(rules, TABLE, gone)
    try:
        somebody(f"delete chain ip {TABLE} first")
        assert twice.wait(10)
    finally:
        watch.close()
    assert told == [True, True]


def test_what_is_put_back_is_not_taken_for_somebodys_doing(rules: Nft) -> None:
    told: list[bool] = []
    marked = threading.Event()

    def gone(missing: bool) -> None:
        told.append(missing)
        rules.run(f"flush table ip {TABLE}; delete table ip {TABLE}; add table ip {TABLE}; add chain ip {TABLE} first")
        if len(told) == 2:
            marked.set()

    watch = Watch(rules, TABLE, gone)
    try:
        somebody(f"delete chain ip {TABLE} first")
        somebody("add table ip strangers; delete table ip strangers")
        assert not marked.wait(
            1
        )  # there is no word of "nothing happened"; several times the calm that comes before a call
        somebody(f"delete chain ip {TABLE} first")
        assert marked.wait(10)
    finally:
        watch.close()
    assert told == [True, True]
