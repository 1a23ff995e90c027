"""Finding routes, and the one table of statuses."""

from __future__ import annotations

import inspect
import logging

import pytest
from aiohttp import web

from pyd_contracts import errors
from pyd_contracts.errors import DriverFault, FailedPrecondition, InvalidArgument, NotFound, PydError
from pyd_daemon.failures import STATUSES, MethodNotAllowed, PageNotFound, describe, status_of
from pyd_daemon.routes import ROUTES
from pyd_daemon.routing import Call, Route, Router


async def nothing(call: Call) -> web.StreamResponse:
    return call.empty()


def router() -> Router:
    rows = ["GET /a", "GET /a/json", "GET /a/{id}/json", "POST /a/{id}/go", "DELETE /a/{id}"]
    rows += ["GET /i/json", "GET /i/{name}/json", "DELETE /i/{name}"]
    return Router(Route(row.split()[0], row.split()[1], nothing) for row in rows)


@pytest.mark.parametrize(
    ("method", "path", "row", "name"),
    [
        ("GET", "/a", "/a", ""),
        ("GET", "/a/json", "/a/json", ""),
        ("GET", "/a/x/json", "/a/{id}/json", "x"),
        ("GET", "/a/json/json", "/a/{id}/json", "json"),
        ("DELETE", "/a/json", "/a/{id}", "json"),
        ("DELETE", "/a/x%2Fy", "/a/{id}", "x/y"),
        ("GET", "/i/json", "/i/json", ""),
        ("GET", "/i/r.example:5000/team/app:1/json", "/i/{name}/json", "r.example:5000/team/app:1"),
        ("GET", "/i/a%2Fb%40sha256:1/json", "/i/{name}/json", "a/b@sha256:1"),
        ("DELETE", "/i/a/b/json", "/i/{name}", "a/b/json"),
        ("DELETE", "/a/%FF", "/a/{id}", "\N{REPLACEMENT CHARACTER}"),
    ],
)
def test_found(method: str, path: str, row: str, name: str) -> None:
    route, value = router().find(method, path)
    assert (route.path, value) == (row, name)


@pytest.mark.parametrize(
    "path",
    ["", "/", "//", "/b", "/a/", "//a", "/a//json", "/a/../json", "/a/./json", "/a/x/y/json", "/a/x/other", "/i//json"],
)
def test_not_found(path: str) -> None:
    with pytest.raises(PageNotFound, match=r"^page not found$"):
        router().find("GET", path)


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [("POST", "/a", ("GET",)), ("PUT", "/a/json", ("DELETE", "GET")), ("GET", "/a/x/go", ("POST",))],
)
def test_other_methods(method: str, path: str, allowed: tuple[str, ...]) -> None:
    with pytest.raises(MethodNotAllowed) as caught:
        router().find(method, path)
    assert caught.value.allowed == allowed


@pytest.mark.parametrize("path", ["/a/{id}/b/c/d", "/{id}", "/a/b/{id}"])
def test_shapes_that_the_router_cannot_find_are_refused(path: str) -> None:
    with pytest.raises(ValueError, match="shapes"):
        Router([Route("GET", path, nothing)])


def test_a_route_is_there_once() -> None:
    with pytest.raises(ValueError, match="twice"):
        Router([Route("GET", "/a", nothing), Route("GET", "/a", nothing)])


def test_all_routes_find_themselves_and_say_what_they_do() -> None:
    routes = Router(ROUTES)
    for route in ROUTES:
        path = route.path.replace("{id}", "x").replace("{name}", "host:1/a/b")
        assert routes.find(route.method, path)[0] is route
        assert route.handler.__doc__, route.path


def test_every_error_has_a_status() -> None:
    family = [kind for _, kind in inspect.getmembers(errors, inspect.isclass) if issubclass(kind, PydError)]
    assert {kind for kind in family if kind is not PydError} <= set(STATUSES)


def test_a_subclass_has_the_status_of_its_parent_unless_overridden() -> None:
    class Missing(NotFound):
        pass

    assert status_of(Missing("x")) == 404
    assert status_of(Missing("x"), {NotFound: 401}) == 401
    assert status_of(FailedPrecondition("x"), {NotFound: 401}) == 409
    assert status_of(PydError("x")) == 500


def test_strangers_leave_a_number_only(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.ERROR):
        status, message = describe(ValueError("/secret/path"), "GET /x")
    assert status == 500
    assert "secret" not in message
    assert "Traceback" not in message
    number = message.split()[2].rstrip(":")
    assert number in caplog.text
    assert "/secret/path" in caplog.text


def test_what_is_the_clients_fault_is_not_logged_as_ours(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        assert describe(InvalidArgument("bad"), "GET /x") == (400, "bad")
    assert caplog.text == ""
    assert describe(DriverFault("disk fell off"), "GET /x") == (500, "disk fell off")
    assert "disk fell off" in caplog.text
