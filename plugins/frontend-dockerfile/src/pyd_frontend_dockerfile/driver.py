"""The frontend for Dockerfiles."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pyd_contracts.markers import hookimpl
from pyd_contracts.values import Plan, Recipe
from pyd_frontend_dockerfile.outline import Outline
from pyd_frontend_dockerfile.planning import make_plan

__all__ = ["DockerfileFrontend"]


class DockerfileFrontend:
    """Reads Dockerfiles. It holds nothing between two questions."""

    capabilities: frozenset[str] = frozenset()

    @hookimpl
    def frontend_images(self, recipe: Recipe, known: Mapping[str, Mapping[str, Any]]) -> frozenset[str]:
        """See the contract; a base image's triggers may ask for a further stage, and that for its base."""
        _, missing = Outline(recipe).survey(known)
        return missing

    @hookimpl
    def frontend_plan(self, recipe: Recipe, known: Mapping[str, Mapping[str, Any]]) -> Plan:
        """See the contract."""
        return make_plan(Outline(recipe), known)

    @hookimpl
    def frontend_close(self) -> None:
        """See the contract; nothing is held."""
