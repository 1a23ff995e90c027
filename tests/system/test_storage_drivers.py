"""Several storage drivers alive in one daemon: chosen by container, shown, and the default changed without a loss."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from clients import IMAGE, Client, docker_program
from engine_under_test import BIN, Daemon

pytestmark = [pytest.mark.root, pytest.mark.docker]


@pytest.fixture
def one(
    new_pydd: Callable[..., Daemon], client_environment: dict[str, str], image_archive: Path
) -> tuple[Daemon, Client]:
    daemon = new_pydd()
    docker = Client((docker_program(), "-H", daemon.url), client_environment)
    docker("load", "-q", "-i", image_archive)
    return daemon, docker


def ready(docker: Client) -> list[str]:
    """The storage drivers that work here."""
    drivers = json.loads(docker("info", "-f", "{{json .}}").stdout)["DriverStatus"]
    return str(dict(drivers)["Available Drivers"]).split()


def storage_of(docker: Client, container: str) -> str:
    return docker("inspect", "-f", "{{.GraphDriver.Name}}", container).stdout.strip()


def test_each_ready_driver_runs_a_container(one: tuple[Daemon, Client], client_environment: dict[str, str]) -> None:
    daemon, docker = one
    own = Client((str(BIN / "pyd"), "-H", daemon.url), client_environment)
    drivers = ready(docker)
    assert {"overlay", "vfs"} <= set(drivers)
    for client, program in ((docker, "docker"), (own, "pyd")):
        for driver in drivers:
            name = f"{program}-{driver}"
            script = "rm /bin/yes && mkdir /new && echo content > /new/file && cat /new/file"
            done = client("run", "--name", name, "--storage-opt", f"driver={driver}", IMAGE, "sh", "-c", script)
            assert done.stdout == "content\n"
            assert storage_of(client, name) == driver
            assert client("diff", name).stdout.split("\n")[:-1] == ["C /bin", "D /bin/yes", "A /new", "A /new/file"]
            client("commit", name, f"made-{program}-{driver}")
            client("rm", name)
            seen = client(
                "run", "--rm", f"made-{program}-{driver}", "sh", "-c", "cat /new/file; ls /bin/yes", check=False
            )
            assert seen.stdout == "content\n"
            assert seen.returncode


def test_another_default_loses_nothing(one: tuple[Daemon, Client]) -> None:
    daemon, docker = one
    docker("run", "--name", "before", IMAGE, "sh", "-c", "echo runs >> /count; cat /count")
    docker("commit", "before", "committed")
    daemon.stop()
    daemon.config.write_text(daemon.config.read_text() + '[storage]\ndefault = "vfs"\n')
    daemon.start()

    assert docker("info", "-f", "{{.Driver}}").stdout == "vfs\n"
    names = docker("images", "--format", "{{.Repository}}").stdout.split()
    assert set(names) == {IMAGE.partition(":")[0], "committed"}
    assert docker("start", "-a", "before").stdout == "runs\nruns\n"
    assert storage_of(docker, "before") == "overlay"
    assert docker("run", "--name", "after", "committed", "cat", "/count").stdout == "runs\n"
    assert storage_of(docker, "after") == "vfs"


def test_a_driver_that_is_not_there_is_named(one: tuple[Daemon, Client]) -> None:
    _, docker = one

    done = docker("create", "--storage-opt", "driver=zfs", IMAGE, check=False)
    assert done.returncode
    assert "storage driver 'zfs' is not ready; ready are: " in done.stderr
    done = docker("create", "--storage-opt", "size=1G", "--storage-opt", "driver=vfs", IMAGE, check=False)
    assert done.returncode
    assert "size" in done.stderr
    done = docker("create", "--storage-opt", "siez=1G", IMAGE, check=False)
    assert "siez" in done.stderr
    assert docker("ps", "-aq").stdout == ""


def test_many_at_once_share_one_unpacking(one: tuple[Daemon, Client]) -> None:
    daemon, docker = one
    with ThreadPoolExecutor(6) as clients:
        done = list(clients.map(lambda _: docker("create", "--storage-opt", "driver=vfs", IMAGE, "true"), range(6)))

    assert len({each.stdout for each in done}) == 6
    command = [str(BIN / "pyd"), "-H", daemon.url, "system", "check", "-f", "{{.Snapshots.vfs}} {{.Clean}}"]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert said == "8 true\n", "six containers, the image's layer, and what every container needs"


def test_what_each_driver_holds(one: tuple[Daemon, Client]) -> None:
    daemon, docker = one
    docker("run", "--storage-opt", "driver=vfs", IMAGE, "dd", "if=/dev/zero", "of=/big", "bs=1M", "count=3")
    docker("create", IMAGE, "true")

    api = daemon.api()
    try:
        found = {each.pop("Driver"): each for each in api.json("GET", "/system/df")["StorageDrivers"]}
    finally:
        api.close()

    assert set(found) == set(ready(docker))
    assert [found["vfs"][kind] for kind in ("Layers", "Containers")] == [2, 1]
    assert [found["overlay"][kind] for kind in ("Layers", "Containers")] == [2, 1]
    assert found["vfs"]["Size"] > found["overlay"]["Size"] + (3 << 20)
    command = [str(BIN / "pyd"), "-H", daemon.url, "system", "df", "-v"]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert [line.split()[:3] for line in said.splitlines() if line.startswith(("vfs ", "overlay "))] == [
        ["overlay", "2", "1"],
        ["vfs", "2", "1"],
    ]
    assert "DRIVER" not in docker("system", "df", "-v").stdout
