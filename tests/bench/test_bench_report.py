"""The bench's table: medians, and "better by" in the right direction."""

from __future__ import annotations

from bench import table


def test_less_is_better_for_times_and_more_for_rates() -> None:
    results = {
        "exec": {"pydd": [10.0, 12.0, 300.0], "dockerd": [60.0, 59.0, 61.0]},
        "ping": {"pydd": [2000.0], "dockerd": [4000.0]},
        "idle memory": {"pydd": [50.0]},
    }
    lines = table(results, ["pydd", "dockerd"]).splitlines()
    assert lines[0].split() == ["pydd", "dockerd", "unit", "better", "by"]
    assert lines[1].split() == ["exec", "12", "60", "ms", "5.00"]
    assert lines[2].split() == ["idle", "memory", "50", "-", "MiB", "PSS", "-"]
    assert lines[3].split() == ["ping", "2000", "4000", "requests/s", "0.50"]


def test_one_engine_alone_has_no_ratio() -> None:
    assert table({"exec": {"dockerd": [60.0]}}, ["dockerd"]).splitlines()[1].split() == ["exec", "60", "ms"]
