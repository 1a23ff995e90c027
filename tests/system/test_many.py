"""Many containers and many clients at once: no error, nothing left, and what a container costs."""

from __future__ import annotations

import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from clients import IMAGE, Client, docker_program
from engine_under_test import Daemon

pytestmark = [pytest.mark.root, pytest.mark.docker, pytest.mark.slow, pytest.mark.timeout(300)]

COUNT, CLIENTS = 100, 8


def test_a_hundred_containers_by_eight_clients(
    new_pydd: Callable[..., Daemon], client_environment: dict[str, str], image_archive: Path
) -> None:
    daemon = new_pydd()
    docker = Client((docker_program(), "-H", daemon.url), client_environment)
    docker("load", "-q", "-i", image_archive)
    docker("network", "create", "--internal", "many")

    def start(number: int) -> str:
        api = daemon.api()
        try:
            networks = {"NetworkMode": "many" if number % 2 else "bridge"}
            body: dict[str, Any] = {"Image": IMAGE, "Cmd": ["sleep", "1000"], "HostConfig": networks}
            container: str = api.json("POST", f"/containers/create?name=many-{number}", body)["Id"]
            api.call("POST", f"/containers/{container}/start")
            return container
        finally:
            api.close()

    def end(container: str) -> None:
        api = daemon.api()
        try:
            api.call("DELETE", f"/containers/{container}?force=1")
        finally:
            api.close()

    with ThreadPoolExecutor(CLIENTS) as clients:
        containers = list(clients.map(start, range(COUNT)))
    assert len(set(containers)) == COUNT
    running = docker("ps", "-q", "--no-trunc").stdout.split()
    assert set(running) == set(containers)
    seen = json.loads(docker("network", "inspect", "many").stdout)[0]["Containers"]
    addresses = {each["IPv4Address"] for each in seen.values()}
    assert len(addresses) == len(seen) == COUNT // 2
    assert "Address" in docker("exec", "many-1", "nslookup", "many-99").stdout.partition("\n\n")[2]
    with ThreadPoolExecutor(CLIENTS) as clients:
        list(clients.map(end, containers))
    assert docker("ps", "-aq").stdout == ""
    docker("network", "rm", "many")
    daemon.close()  # and looks whether anything is left
