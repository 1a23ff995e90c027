"""The routes, one module per noun; each has a table `ROUTES` and the handlers it names."""

from __future__ import annotations

from pyd_daemon.routes import (
    absent,
    archive,
    attach_ws,
    builds,
    containers,
    execs,
    images,
    networks,
    resources,
    system,
    volumes,
)
from pyd_daemon.routing import Route

__all__ = ["ROUTES"]

ROUTES: tuple[Route, ...] = (
    *system.ROUTES,
    *containers.ROUTES,
    *archive.ROUTES,
    *attach_ws.ROUTES,
    *execs.ROUTES,
    *resources.ROUTES,
    *images.ROUTES,
    *networks.ROUTES,
    *volumes.ROUTES,
    *builds.ROUTES,
    *absent.ROUTES,
)
