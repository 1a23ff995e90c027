"""Sizes, spans and times, with the figures of go-units."""

from __future__ import annotations

import time

import pytest

from pyd_cli import units


@pytest.mark.parametrize(
    ("size", "digits", "text"),
    [
        (0, 4, "0B"),
        (999, 4, "999B"),
        (1986000, 4, "1.986MB"),
        (1986000, 3, "1.99MB"),
        (1e9, 4, "1GB"),
        (1.5e12, 3, "1.5TB"),
    ],
)
def test_decimal_sizes(size: float, digits: int, text: str) -> None:
    assert units.human_size(size, digits) == text


@pytest.mark.parametrize(
    ("size", "text"), [(0, "0B"), (1024, "1KiB"), (2204107, "2.102MiB"), (25276000000, "23.54GiB")]
)
def test_binary_sizes(size: float, text: str) -> None:
    assert units.binary_size(size) == text


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("32", 32),
        ("32b", 32),
        ("64KiB", 65536),
        ("512m", 512 << 20),
        ("1.5g", 3 << 29),
        ("1 kb", 1024),
        ("2T", 2 << 40),
    ],
)
def test_sizes_are_read(text: str, size: int) -> None:
    assert units.parse_size(text) == size


@pytest.mark.parametrize(
    ("text", "reason"), [("x", "invalid size: 'x'"), ("1q", "invalid suffix: 'q'"), ("1.2.3m", "invalid size")]
)
def test_sizes_that_are_none(text: str, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        units.parse_size(text)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.4, "Less than a second"),
        (1, "1 second"),
        (59, "59 seconds"),
        (60, "About a minute"),
        (119, "About a minute"),
        (120, "2 minutes"),
        (3600, "About an hour"),
        (5400, "2 hours"),
        (47 * 3600, "47 hours"),
        (48 * 3600, "2 days"),
        (14 * 86400, "2 weeks"),
        (60 * 86400, "2 months"),
        (730 * 86400, "2 years"),
    ],
)
def test_spans(seconds: float, text: str) -> None:
    assert units.human_duration(seconds) == text


@pytest.mark.parametrize(
    ("text", "nanos"),
    [("5s", 5 * 10**9), ("1m30s", 90 * 10**9), ("1.5h", 5400 * 10**9), ("-2ms", -2 * 10**6), ("0", 0)],
)
def test_durations(text: str, nanos: int) -> None:
    assert units.parse_duration(text) == nanos


@pytest.mark.parametrize("text", ["", "5", "x", "5y", "1.2.3s", "s"])
def test_durations_that_are_none(text: str) -> None:
    with pytest.raises(ValueError, match="duration"):
        units.parse_duration(text)


def test_rfc3339_agrees_with_the_calendar() -> None:
    assert units.rfc3339("1970-01-01T00:00:00Z") == 0
    assert units.rfc3339("2026-11-23T19:13:44.5Z") == 1795461224.5
    assert units.rfc3339("2026-11-23T20:13:44+01:00") == 1795461224
    assert units.rfc3339("2024-02-29T00:00:00Z") == 1709164800
    assert units.days(1, 1, 1) == -719162


def test_moments_for_since_and_until() -> None:
    assert units.timestamp("1136073845.000000001") == "1136073845.000000001"
    assert units.timestamp("0") == "0"
    assert units.timestamp("10s", now=100.5) == "90.500000000"
    assert units.timestamp("2026-11-23T19:13:44.25Z") == "1795461224.250000000"
    local = time.mktime((2026, 11, 23, 0, 0, 0, 0, 0, -1))
    assert units.timestamp("2026-11-23") == f"{int(local)}.000000000"
    with pytest.raises(ValueError, match='failed to parse value as time or duration: "foo"'):
        units.timestamp("foo")
