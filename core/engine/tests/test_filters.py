"""Values of list filters."""

from __future__ import annotations

import pytest

from pyd_contracts.errors import InvalidArgument
from pyd_engine.filters import boolean, like, resembles


@pytest.mark.parametrize(
    ("values", "means"), [([], None), (["true"], True), (["1"], True), (["0"], False), (["false", "0"], False)]
)
def test_booleans(values: list[str], means: bool | None) -> None:
    assert boolean({"dangling": values}, "dangling") is means


@pytest.mark.parametrize("values", [["x"], [""], ["True"], ["true", "false"]])
def test_what_is_no_boolean(values: list[str]) -> None:
    with pytest.raises(InvalidArgument) as refused:
        boolean({"dangling": values}, "dangling")
    assert str(refused.value) == f"invalid filter 'dangling=[{' '.join(values)}]'"


@pytest.mark.parametrize(
    ("patterns", "found"),
    [([], True), (["eb"], True), (["^web$"], True), (["x", "w.b"], True), (["W"], False), (["["], False), ([""], True)],
)
def test_names_by_regular_expression(patterns: list[str], found: bool) -> None:
    assert like("web", patterns) is found


@pytest.mark.parametrize(
    ("pattern", "found"),
    [("a/b:1", True), ("a/*", True), ("*", False), ("*/*", True), ("a/[bc]", True), ("a/?:1", True), ("a", False)],
)
def test_references_by_pattern(pattern: str, found: bool) -> None:
    assert resembles(pattern, "a/b:1", "a/b") is found


@pytest.mark.parametrize("pattern", ["[", "a[b", "a\\"])
def test_what_is_no_pattern(pattern: str) -> None:
    with pytest.raises(InvalidArgument, match="syntax error in pattern"):
        resembles(pattern)
