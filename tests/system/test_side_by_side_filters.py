"""The lists of pydd beside those of an installed dockerd: a filter gives the same objects, a bad one the same refusal."""

from __future__ import annotations

import json
import re
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from clients import until
from engine_under_test import Daemon
from rival import API, dockerd, today
from side_by_side_filters import DIFFERENT, QUERIES, UNKNOWN, WAITS
from unix_http import Connection

pytestmark = [pytest.mark.root, pytest.mark.docker, pytest.mark.dockerd, pytest.mark.slow]


@dataclass(slots=True)
class Peer:
    """One of the two, by its API. *ids* are of what `furnish` made, by name."""

    name: str
    socket: Path
    ids: dict[str, str] = field(default_factory=dict)
    began: float = 0.0

    def ask(self, method: str, path: str, body: object = None) -> tuple[int, Any]:
        """Status and document; of an error the message, ids replaced by names."""
        connection = Connection(self.socket)
        try:
            headers = {"Content-Type": "application/json"} if body is not None else {}
            text = json.dumps(body).encode() if body is not None else None
            connection.request(method, f"/v{API}{path}", text, headers)
            answer = connection.getresponse()
            content = answer.read().decode()
        finally:
            connection.close()
        if answer.status >= 400:
            return answer.status, today(self.anonymous(json.loads(content)["message"]))
        if path.startswith("/events"):
            return answer.status, [json.loads(line) for line in content.splitlines()]
        found = json.loads(content) if content.strip() else None
        if isinstance(found, dict) and found.get("Error", "") is None:
            del found["Error"]  # of a wait: left out since API 1.42
        return answer.status, found

    def made(self, name: str, method: str, path: str, body: object = None) -> str:
        """The id of what a request makes."""
        status, found = self.ask(method, path, body)
        assert status < 400, f"{self.name}: {path}: {found}"
        self.ids[name] = found.get("Id", "").removeprefix("sha256:") or name
        return self.ids[name]

    def do(self, method: str, path: str, body: object = None) -> Any:
        """A request that works."""
        status, found = self.ask(method, path, body)
        assert status < 400, f"{self.name}: {path}: {found}"
        return found

    def anonymous(self, text: str) -> str:
        for name, each in self.ids.items():
            for length in (64, 12, 4):
                if each != name:
                    text = re.sub(rf"(sha256:)?\b{each[:length]}\b", f"<{name}>", text)
        return text

    def filled(self, value: Any) -> Any:
        """*value* with ``{name}`` replaced by this side's ids."""
        if isinstance(value, Mapping):
            return {key: self.filled(each) for key, each in value.items()}
        if isinstance(value, list):
            return [self.filled(each) for each in value]
        return re.sub(
            r"\{([a-z][a-z0-9-]*)(?::(\d+))?\}",
            lambda match: self.ids[match[1]][: int(match[2] or 64)] if match[1] in self.ids else match[0],
            value,
        )


def furnish(peer: Peer) -> None:
    """The same containers, images, volumes and networks on each side, made in the same order."""
    peer.began = time.time()
    peer.ids["bridge"] = peer.do("GET", "/networks/bridge")["Id"]
    peer.ids["busybox"] = peer.do("GET", "/images/busybox/json")["Id"].removeprefix("sha256:")
    for repository, tag in (("other", "1"), ("other", "2"), ("repo/x", "latest"), ("localhost:5000/a/b", "3")):
        peer.do("POST", f"/images/busybox/tag?repo={quote(repository, safe='')}&tag={tag}")
    for name, labels in (("v-used", {"l": "1", "m": ""}), ("v-free", {"l": "2"}), ("w-plain", {})):
        peer.do("POST", "/volumes/create", {"Name": name, "Labels": labels})
    for name, labels in (("netone", {"l": "1"}), ("nettwo", {"l": "2"})):
        peer.made(name, "POST", "/networks/create", {"Name": name, "Labels": labels})
    ended = create(peer, "exited-3", ["sh", "-c", "exit 3"], Labels={"a": "2"})
    for name, changes in (("derived", "LABEL l=1"), ("", "LABEL l=2")):
        tag = f"&repo={name}&tag=1" if name else ""
        peer.made(name or "dangling", "POST", f"/commit?container={ended}&changes={quote(changes)}{tag}", {})
    web = create(
        peer, "web-one", ["sleep", "1000"], Labels={"a": "1", "b": "2"}, ExposedPorts={"80/tcp": {}, "90/udp": {}},
        HostConfig={"Binds": ["v-used:/data"], "PortBindings": {"80/tcp": [{"HostPort": "18080"}]}},
        Healthcheck={"Test": ["CMD", "true"], "Interval": 10**9},
    )  # fmt: skip
    create(peer, "idle", ["true"], Volumes={"/anon": {}}, HostConfig={"NetworkMode": "netone"})
    paused = create(
        peer, "paused-one", ["sleep", "1000"], HostConfig={"NetworkMode": "none", "Binds": ["/usr:/bound:ro"]}
    )
    derived = create(peer, "of-derived", ["true"], Image="derived:1", ExposedPorts={"85/tcp": {}})
    for each in (ended, derived):
        peer.do("POST", f"/containers/{each}/start")
        peer.do("POST", f"/containers/{each}/wait")
    for each in (web, paused):
        peer.do("POST", f"/containers/{each}/start")
    peer.do("POST", f"/containers/{paused}/pause")
    execution = peer.do("POST", f"/containers/{web}/exec", {"Cmd": ["true"]})["Id"]
    peer.do("POST", f"/exec/{execution}/start", {"Detach": True})
    until(lambda: not peer.do("GET", f"/exec/{execution}/json")["Running"], "the exec has ended")
    until(lambda: peer.do("GET", f"/containers/{web}/json")["State"]["Health"]["Status"] == "healthy", "it is healthy")


def create(peer: Peer, name: str, command: list[str], **more: Any) -> str:
    body = {"Image": "busybox", "Cmd": command, "HostConfig": {"NetworkMode": "none"}, **more}
    return peer.made(name, "POST", f"/containers/create?name={name}", body)


@pytest.fixture(scope="module")
def peers(
    new_pydd: Callable[..., Daemon],
    client_environment: dict[str, str],
    image_archive: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[tuple[Peer, Peer]]:
    """dockerd and pydd, furnished."""
    daemon = new_pydd()
    ours = Peer("pydd", daemon.socket)
    api = daemon.api()
    api.call("POST", "/images/load?quiet=1", image_archive.read_bytes(), {"Content-Type": "application/x-tar"})
    api.close()
    with dockerd(tmp_path_factory.mktemp("theirs"), client_environment) as side:
        theirs = Peer("dockerd", Path(side.url.removeprefix("unix://")))
        for peer in (theirs, ours):
            furnish(peer)
        yield theirs, ours
        side.run(["unpause", "paused-one"])
    daemon.close()


def told(peer: Peer, path: str, filters: Any) -> tuple[int, Any]:
    """What a list shows, by names."""
    text = filters if isinstance(filters, str) else json.dumps(peer.filled(filters))
    query = f"{path}{'&' if '?' in path else '?'}filters={quote(text)}"
    if path == "/events":
        query += f"&since={peer.began:.3f}&until={time.time():.3f}"
    status, found = peer.ask("GET", query)
    if status >= 400:
        return status, found
    return status, _SHOWN[path.partition("?")[0]](peer, found)


def _images(peer: Peer, found: Any) -> Any:
    names = {identity: name for name, identity in peer.ids.items()}
    return sorted(
        (names.get(each["Id"].removeprefix("sha256:")), sorted(set(each["RepoTags"] or ()) - {"<none>:<none>"}))
        for each in found
    )  # before API 1.43 who has no tag has that one


def _volumes(_peer: Peer, found: Any) -> Any:
    return sorted(re.sub(r"\b[0-9a-f]{64}\b", "<anonymous>", each["Name"]) for each in found["Volumes"] or ())


def _events(peer: Peer, found: Any) -> Any:
    """What is told, however often: health checks go on. Networks are not told of alike: they are left out."""
    shown = set()
    for each in found:
        action = re.sub(r"^(exec_\w+: ).*", r"\1", each["Action"])
        actor = re.sub(r"\b[0-9a-f]{64}\b", "<anonymous>", peer.anonymous(each["Actor"]["ID"]))
        if each["Type"] != "network":
            shown.add((each["Type"], action, actor))
    return sorted(shown)


_SHOWN: dict[str, Callable[[Peer, Any], Any]] = {
    "/containers/json": lambda _peer, found: [each["Names"][0] for each in found],
    "/images/json": _images,
    "/volumes": _volumes,
    "/networks": lambda _peer, found: sorted(each["Name"] for each in found),
    "/events": _events,
}
_ALL = [(path, filters) for path, several in QUERIES.items() for filters in several]


@pytest.mark.parametrize(("path", "filters"), _ALL, ids=[f"{path}-{filters}" for path, filters in _ALL])
def test_a_filter_gives_the_same(peers: tuple[Peer, Peer], path: str, filters: Any) -> None:
    theirs, ours = (told(peer, path, filters) for peer in peers)
    why = DIFFERENT.get((path, filters if isinstance(filters, str) else json.dumps(filters)))
    if why is None:
        assert ours == theirs, f"dockerd: {theirs}\npydd:    {ours}"
    else:
        assert ours != theirs, f"no longer differs, though: {why}"


def test_every_reason_belongs_to_a_query() -> None:
    assert not set(DIFFERENT) - {(path, each if isinstance(each, str) else json.dumps(each)) for path, each in _ALL}
    assert len(_ALL) > 300


# --- wait ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("condition", WAITS)
@pytest.mark.parametrize("state", ["created", "exited", "running", "removed", "nosuch"])
def test_waiting(peers: tuple[Peer, Peer], condition: str, state: str) -> None:
    """Whether it answers at once, at the end of a run or at the removal; and what."""
    theirs, ours = (waited(peer, condition, state) for peer in peers)
    if condition not in UNKNOWN:
        assert ours == theirs
        return
    assert theirs[1][0] in (200, 404), "no longer differs"
    assert (ours[1][0], ours[1][1].partition(";")[0]) == (400, UNKNOWN[condition])


def waited(peer: Peer, condition: str, state: str) -> tuple[str, tuple[int, Any]]:
    """After which step the answer to a wait comes, and the answer."""
    path = f"/containers/waiting/wait?condition={condition}" if condition else "/containers/waiting/wait"
    if state == "nosuch":
        return "", peer.ask("POST", path)
    create(peer, "waiting", ["sh", "-c", "trap 'exit 5' TERM; while :; do sleep 0.05; done"], StopTimeout=20)
    if state != "created":
        peer.do("POST", "/containers/waiting/start")
        until(lambda: peer.do("GET", "/containers/waiting/top?ps_args=-o%20pid,args")["Processes"][1:], "it has begun")
    if state == "exited":
        peer.do("POST", "/containers/waiting/stop")
    answers: list[tuple[int, Any]] = []
    thread = threading.Thread(target=lambda: answers.append(peer.ask("POST", path)))
    thread.start()
    try:
        steps: dict[str, Callable[[], object]] = {
            "at once": lambda: time.sleep(0),
            "end": lambda: peer.do("POST", "/containers/waiting/stop") if state in ("running", "removed") else None,
            "start": lambda: peer.do("POST", "/containers/waiting/start") if state != "removed" else None,
            "end again": lambda: peer.do("POST", "/containers/waiting/kill") if state != "removed" else None,
            "removal": lambda: peer.do("DELETE", "/containers/waiting?force=1"),
        }
        for step, perform in steps.items():
            perform()
            thread.join(0.7 if step != "removal" else 20)
            if answers:
                return step, answers[0]
        return "never", (0, None)
    finally:
        peer.ask("DELETE", "/containers/waiting?force=1")
        thread.join(20)
