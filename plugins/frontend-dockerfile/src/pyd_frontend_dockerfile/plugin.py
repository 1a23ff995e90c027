"""The entry point."""

from __future__ import annotations

from pyd_contracts import DriverContext
from pyd_frontend_dockerfile.driver import DockerfileFrontend

__all__ = ["create"]


def create(context: DriverContext) -> DockerfileFrontend:  # noqa: ARG001 - every entry point gets it
    """The frontend; it takes no settings."""
    return DockerfileFrontend()
