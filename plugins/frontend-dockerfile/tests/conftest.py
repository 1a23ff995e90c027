"""Plans for tests."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import pytest

from pyd_contracts.values import Plan, Recipe
from pyd_frontend_dockerfile.driver import DockerfileFrontend

_BASE: Mapping[str, Any] = {"config": {"Env": ["PATH=/bin"], "Cmd": ["sh"]}}


def _plan(
    text: str,
    target: str = "",
    known: Mapping[str, Mapping[str, Any]] | None = None,
    platforms: tuple[str, str] = ("linux/amd64", ""),
    **arguments: str | None,
) -> Plan:
    frontend, found = DockerfileFrontend(), dict(known or {})
    recipe = Recipe(text, target=target, arguments=arguments, platform=platforms[0], machine=platforms[1])
    while missing := frontend.frontend_images(recipe=recipe, known=found):
        found.update(dict.fromkeys(missing, _BASE))
    return frontend.frontend_plan(recipe=recipe, known=found)


@pytest.fixture
def plan() -> Callable[..., Plan]:
    """The plan of a Dockerfile; images that are not in *known* have a PATH and a Cmd."""
    return _plan
