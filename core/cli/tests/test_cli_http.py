"""The HTTP client against a tiny server on a unix socket: bodies of every framing, errors, connections taken over."""

from __future__ import annotations

import io
import socket
from collections.abc import Callable
from typing import Any

import pytest
from cli_fakes import answer, json_answer

from pyd_cli.api import Api, as_numbers, quoted_path, with_query
from pyd_cli.endpoint import Endpoint, chosen
from pyd_cli.errors import ApiError, CliError, Unreachable
from pyd_cli.http import Client

Start = Callable[[dict[str, Any]], Any]


def test_a_body_with_a_length(fake_daemon: Start) -> None:
    daemon = fake_daemon({"GET /a": answer(b"hello")})
    response = Client(Endpoint(daemon.host)).request("GET", "/a")
    assert (response.status, response.read(), response.headers["api-version"]) == (200, b"hello", "1.41")


def test_a_chunked_body_in_awkward_pieces(fake_daemon: Start) -> None:
    def reply(client: socket.socket, _: bytes) -> None:
        client.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5;x=y\r\nhel")
        client.sendall(b"lo\r\n1\r\n \r\n5\r\nwor")
        client.sendall(b"ld\r\n0\r\nTrailer: x\r\n\r\n")

    daemon = fake_daemon({"GET /a": reply})
    assert Client(Endpoint(daemon.host)).request("GET", "/a").read() == b"hello world"


def test_a_body_up_to_the_end_of_the_connection(fake_daemon: Start) -> None:
    daemon = fake_daemon({"GET /a": lambda client, _: client.sendall(b"HTTP/1.0 200 OK\r\n\r\nall of it")})
    assert Client(Endpoint(daemon.host)).request("GET", "/a").read() == b"all of it"


def test_a_body_that_ends_too_soon_is_an_error(fake_daemon: Start) -> None:
    daemon = fake_daemon({"GET /a": lambda client, _: client.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nx")})
    with pytest.raises(Unreachable, match="unexpected EOF"):
        Client(Endpoint(daemon.host)).request("GET", "/a").read()


def test_lines_come_whole_and_as_they_arrive(fake_daemon: Start) -> None:
    daemon = fake_daemon({"GET /a": lambda client, _: client.sendall(b"HTTP/1.1 200 OK\r\n\r\n{1}\n\n{2}\n{3}")})
    response = Client(Endpoint(daemon.host)).request("GET", "/a")
    assert list(response.lines()) == [b"{1}", b"{2}", b"{3}"]
    response.close()


def test_a_file_is_sent_chunked(fake_daemon: Start) -> None:
    daemon = fake_daemon({"POST /load": answer(b"ok")})
    Client(Endpoint(daemon.host)).request("POST", "/load", io.BytesIO(b"a" * 70000)).read()
    [(_, body)] = daemon.requests
    assert body == b"10000\r\n" + b"a" * 65536 + b"\r\n1170\r\n" + b"a" * 4464 + b"\r\n0\r\n\r\n"


def test_an_early_answer_is_read_though_the_daemon_stopped_listening(fake_daemon: Start) -> None:
    def refuse(client: socket.socket, _: bytes) -> None:
        client.shutdown(socket.SHUT_RD)
        client.sendall(json_answer({"message": "no space left"}, "500 Internal Server Error"))

    daemon = fake_daemon({"POST /x": answer(), "GET /x": refuse})
    with pytest.raises(ApiError, match="Error response from daemon: no space left"):
        Api(Endpoint(daemon.host)).get("/x")


def test_field_values_cannot_smuggle_a_second_field(fake_daemon: Start) -> None:
    daemon = fake_daemon({})
    with pytest.raises(CliError, match="contains a line break"):
        Client(Endpoint(daemon.host)).request("GET", "/a", headers={"X-Registry-Auth": "a\r\nHost: b"})


def test_an_upgrade_gives_the_connection_and_what_came_with_the_head(fake_daemon: Start) -> None:
    def echo(client: socket.socket, _: bytes) -> None:
        client.sendall(b"HTTP/1.1 101 UPGRADED\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\nfirst")
        while data := client.recv(100):
            client.sendall(data.upper())

    daemon = fake_daemon({"POST /attach": echo})
    response = Client(Endpoint(daemon.host)).upgrade("/attach", None)
    connection = response.connection
    assert response.status == 101
    assert connection.receive() == b"first"
    connection.wire.sendall(b"more")
    assert connection.receive() == b"MORE"
    connection.wire.shutdown(socket.SHUT_WR)
    assert connection.receive() == b""
    connection.close()
    assert "Connection: Upgrade\r\nUpgrade: tcp" in daemon.heads[0]


def test_the_version_agreed_on_is_the_lesser_one(fake_daemon: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DOCKER_API_VERSION", raising=False)
    daemon = fake_daemon({"GET /info": json_answer({"ID": "x"})})
    api = Api(Endpoint(daemon.host))
    assert api.get("/info", {"a": True, "b": None, "c": ["1", "é&"]}) == {"ID": "x"}
    assert [line for line, _ in daemon.requests] == ["HEAD /_ping", "GET /v1.41/info?a=1&c=1&c=%C3%A9%26"]
    assert api.at_least("1.41")
    assert not api.at_least("1.42")
    api.agree("1.99")
    assert api.version == "1.50"


def test_versions_compare_as_numbers() -> None:
    assert as_numbers("1.9") < as_numbers("1.24") < as_numbers("1.50")
    assert as_numbers("nonsense") == (0, 0)


def test_errors_carry_the_daemons_message(fake_daemon: Start) -> None:
    daemon = fake_daemon(
        {
            "GET /json": json_answer({"message": "No such container: x"}, "404 Not Found"),
            "GET /text": answer(b"plain words\n", "500 Oops"),
            "GET /none": answer(b"", "503 Busy"),
        }
    )
    api = Api(Endpoint(daemon.host))
    with pytest.raises(ApiError, match=r"^Error response from daemon: No such container: x$") as caught:
        api.get("/json")
    assert caught.value.status == 404
    with pytest.raises(ApiError, match="plain words$"):
        api.get("/text")
    with pytest.raises(ApiError, match="status 503"):
        api.get("/none")


def test_names_cannot_leave_their_place_in_the_path() -> None:
    assert quoted_path("/containers/a?x=1#y z/json") == "/containers/a%3Fx%3D1%23y%20z/json"
    assert quoted_path("/images/localhost:5000/a/b:2@sha256:ff/json") == "/images/localhost:5000/a/b:2@sha256:ff/json"
    with pytest.raises(CliError, match="value is empty"):
        quoted_path("/containers//json")
    assert quoted_path("/containers//web/json") == quoted_path("/containers///web/json") == "/containers/web/json"
    assert quoted_path("/containers//web") == "/containers/web"
    assert with_query("/a", {"x": "", "y": 0, "z": False}) == "/a?y=0"


def test_nobody_there() -> None:
    with pytest.raises(Unreachable) as caught:
        Client(Endpoint("unix:///nonexistent/x.sock")).connect()
    assert str(caught.value) == "Cannot connect to the pyd daemon at unix:///nonexistent/x.sock. Is the daemon running?"


def test_something_else_is_there(fake_daemon: Start) -> None:
    daemon = fake_daemon({"GET /a": lambda client, _: client.sendall(b"SSH-2.0-OpenSSH\r\n\r\n")})
    with pytest.raises(Unreachable, match="no HTTP answer"):
        Client(Endpoint(daemon.host)).request("GET", "/a")


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("unix:///a/b.sock", ("unix", "/a/b.sock", "", 0)),
        ("/a/b.sock", ("unix", "/a/b.sock", "", 0)),
        ("tcp://h:99", ("tcp", "", "h", 99)),
        ("tcp://[::1]:99/x", ("tcp", "", "::1", 99)),
        ("h", ("tcp", "", "h", 2375)),
    ],
)
def test_addresses(text: str, parts: tuple[str, str, str, int]) -> None:
    endpoint = Endpoint(text)
    assert (endpoint.scheme, endpoint.path, endpoint.host, endpoint.port) == parts


@pytest.mark.parametrize("text", ["foo://x", "unix://", "tcp://h:x"])
def test_addresses_that_are_none(text: str) -> None:
    with pytest.raises(CliError, match="unable to resolve the endpoint"):
        Endpoint(text)


def test_where_the_daemon_is_looked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PYD_HOST", raising=False)
    monkeypatch.delenv("DOCKER_HOST", raising=False)
    assert str(chosen([])) == "unix:///run/pyd/pyd.sock"
    monkeypatch.setenv("DOCKER_HOST", "unix:///docker")
    assert str(chosen([])) == "unix:///docker"
    monkeypatch.setenv("PYD_HOST", "unix:///pyd")
    assert str(chosen([])) == "unix:///pyd"
    assert str(chosen(["unix:///flag"])) == "unix:///flag"
    with pytest.raises(CliError, match="specify only one -H"):
        chosen(["a", "b"])
