"""Volumes from the command line: what outlives containers, what goes with them, and what a hostile image cannot reach."""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from clients import Client, docker_program, until
from engine_under_test import Daemon

pytestmark = [pytest.mark.root, pytest.mark.docker]

Box = Callable[..., str]


@pytest.fixture
def volume(docker: Client, snapshot: frozenset[str]) -> Iterator[str]:
    """A name that no other volume has; the volume is removed if the test made one."""
    name = f"test-{secrets.token_hex(4)}"
    yield name
    docker("volume", "rm", "-f", name, check=False)


def names(cli: Client, *filters: str) -> list[str]:
    return cli("volume", "ls", "-q", *(f"--filter={each}" for each in filters)).stdout.split()


def mount_point(cli: Client, name: str) -> Path:
    return Path(cli("volume", "inspect", "--format", "{{.Mountpoint}}", name).stdout.strip())


def build(docker: Client, warm: str, tmp_path: Path, script: str, *changes: str) -> str:
    """An image of busybox with what *script* makes in it; without a builder, by way of a tar archive."""
    import subprocess

    import busybox_image

    busybox = busybox_image.static_busybox()
    assert busybox is not None
    root = tmp_path / "rootfs"
    (root / "bin").mkdir(parents=True)
    (root / "bin" / "busybox").write_bytes(Path(busybox).read_bytes())
    (root / "bin" / "busybox").chmod(0o755)
    for applet in ("sh", "ls", "cat", "stat", "find", "sleep", "true", "touch", "echo", "id"):
        (root / "bin" / applet).symlink_to("busybox")
    subprocess.run(["sh", "-ec", script], cwd=root, check=True)
    archive = tmp_path / "rootfs.tar"
    subprocess.run(["tar", "--xattrs", "-cf", archive, "-C", root, "."], check=True)
    flags = [word for change in ("CMD sh", *changes) for word in ("--change", change)]
    return (
        docker("import", "-q", *flags, archive, check=False).stdout.strip()
        or docker("import", *flags, archive).stdout.strip()
    )


@pytest.fixture
def image_of(docker: Client, warm: str, snapshot: frozenset[str], tmp_path: Path) -> Iterator[Callable[..., str]]:
    made: list[str] = []

    def make(script: str, *changes: str) -> str:
        made.append(build(docker, warm, tmp_path, script, *changes))
        return made[-1]

    yield make
    for image in made:
        docker("rmi", "-f", image)


# --- commands ----------------------------------------------------------------------------------------------------


def test_create_list_inspect_remove(cli: Client, volume: str) -> None:
    assert cli("volume", "create", "--label", "a=b", volume).stdout == f"{volume}\n"
    assert cli("volume", "create", volume).stdout == f"{volume}\n"
    assert volume in names(cli, "label=a=b", f"name={volume}", "driver=local", "dangling=true")
    assert volume not in names(cli, "label=a=c")
    assert volume not in names(cli, "dangling=false")
    shown = json.loads(cli("volume", "inspect", volume).stdout)[0]
    assert (shown["Name"], shown["Driver"], shown["Labels"], shown["Scope"]) == (volume, "local", {"a": "b"}, "local")
    assert os.path.isdir(shown["Mountpoint"])
    assert cli("volume", "rm", volume).stdout == f"{volume}\n"
    assert not os.path.exists(shown["Mountpoint"])
    gone = cli("volume", "inspect", volume, check=False)
    assert (gone.returncode, "no such volume" in gone.stderr) == (1, True)


def test_wrong_options_make_nothing(docker: Client, volume: str) -> None:
    for words, said in (
        (("-o", "nope=1"), 'invalid option: "nope"'),
        (("-o", "type=tmpfs"), 'missing required option: "device"'),
        (("-o", "size=1m"), "no quota support"),
        (("-d", "nope"), 'plugin "nope" not found'),
    ):
        done = docker("volume", "create", *words, volume, check=False)
        assert (done.returncode, said in done.stderr) == (1, True), done.stderr
    assert volume not in names(docker)


# --- containers --------------------------------------------------------------------------------------------------


def test_data_outlives_containers(cli: Client, warm: str, volume: str) -> None:
    cli("run", "--rm", "-v", f"{volume}:/data", warm, "sh", "-c", "echo kept >/data/file")
    assert (
        cli("run", "--rm", "--mount", f"type=volume,src={volume},dst=/elsewhere", warm, "cat", "/elsewhere/file").stdout
        == "kept\n"
    )


def test_two_containers_share_one(docker: Client, volume: str, box: Box) -> None:
    writer = box("sleep", "1000", flags=("-v", f"{volume}:/data"))
    reader = box("sleep", "1000", flags=("-v", f"{volume}:/data:ro"))
    docker("exec", writer, "sh", "-c", "echo shared >/data/file")
    assert docker("exec", reader, "cat", "/data/file").stdout == "shared\n"
    refused = docker("exec", reader, "touch", "/data/other", check=False)
    assert (refused.returncode, "Read-only file system" in refused.stderr) == (1, True)
    in_use = docker("volume", "rm", volume, check=False)
    assert (in_use.returncode, "volume is in use" in in_use.stderr) == (1, True)


def test_anonymous_volumes_go_with_rm_and_stay_without(docker: Client, warm: str, volume: str) -> None:
    before = set(names(docker))
    docker("run", "--rm", "-v", "/anonymous", "-v", f"{volume}:/named", warm, "touch", "/anonymous/x", "/named/x")
    assert set(names(docker)) == before | {volume}
    for flags, left in ((("-v",), 0), ((), 1)):
        container = docker("create", "-v", "/anonymous", warm, "true").stdout.strip()
        docker("rm", *flags, container)
        fresh = set(names(docker)) - before - {volume}
        assert len(fresh) == left
        for each in fresh:
            docker("volume", "rm", each)


def test_volumes_of_another_container(docker: Client, volume: str, box: Box, tmp_path: Path, warm: str) -> None:
    (tmp_path / "file").write_text("bound\n")
    first = box("sleep", "1000", flags=("-v", f"{volume}:/data", "-v", f"{tmp_path}:/bound", "-v", "/anonymous"))
    docker("exec", first, "sh", "-c", "echo data >/data/file; echo anonymous >/anonymous/file")
    script = "cat /data/file /bound/file /anonymous/file; touch /data/new"
    assert docker("run", "--rm", "--volumes-from", first, warm, "sh", "-c", script).stdout == "data\nbound\nanonymous\n"
    refused = docker("run", "--rm", "--volumes-from", f"{first}:ro", warm, "touch", "/data/x", check=False)
    assert (refused.returncode, "Read-only file system" in refused.stderr) == (1, True)
    unknown = docker("run", "--rm", "--volumes-from", "nope", warm, "true", check=False)
    assert (unknown.returncode, "No such container: nope" in unknown.stderr) == (125, True)


def test_inspect_shows_mounts(docker: Client, volume: str, box: Box, tmp_path: Path) -> None:
    container = box("sleep", "1000", flags=("-v", f"{volume}:/data:ro", "-v", f"{tmp_path}:/bound", "--tmpfs", "/t"))
    shown = {each["Destination"]: each for each in json.loads(docker("inspect", container).stdout)[0]["Mounts"]}
    assert shown["/data"] == {
        "Type": "volume", "Name": volume, "Source": str(mount_point(docker, volume)), "Destination": "/data",
        "Driver": "local", "Mode": "ro", "RW": False, "Propagation": "",
    }  # fmt: skip
    assert shown["/bound"]["Source"] == str(tmp_path)
    assert set(shown) == {"/data", "/bound"}
    assert docker("ps", "-q", "--no-trunc", "--filter", f"volume={volume}").stdout.split() == [container]


def test_events_and_disk_usage(docker: Client, warm: str, volume: str) -> None:
    docker("volume", "create", volume)
    container = docker(
        "create", "-v", f"{volume}:/data", warm, "sh", "-c", "head -c 100000 /dev/zero >/data/x"
    ).stdout.strip()
    docker("start", "-a", container)
    rows = docker("system", "df", "-v", "--format", "{{json .Volumes}}").stdout
    found = next(each for each in json.loads(rows) if each["Name"] == volume)
    assert found["Links"] == "1"
    assert found["Size"].endswith("kB")
    docker("rm", container)
    docker("volume", "rm", volume)

    def told() -> list[str]:
        flags = ("--since", "10m", "--until", "0s", "--filter", f"volume={volume}", "--format", "{{.Action}}")
        return docker("events", *flags).stdout.split()

    until(lambda: told() == ["create", "mount", "unmount", "destroy"], "the volume's events")


def test_prune(docker: Client, warm: str, volume: str) -> None:
    docker("volume", "create", "--label", "mine", volume)
    docker("volume", "prune", "-f", "--filter", "label=mine")
    assert volume in names(docker)
    done = docker("volume", "prune", "-f", "--all", "--filter", "label=mine")
    assert volume in done.stdout
    assert volume not in names(docker)


# --- what a volume is filled with --------------------------------------------------------------------------------

_CONTENT = """
mkdir -p data/inner; echo one >data/file; ln data/file data/same; ln -s file data/link; mkfifo data/pipe
chown 7:8 data/file; chmod 4755 data/inner; chown 5:6 data; chmod 1770 data; mknod data/null c 1 3
setfattr -n user.note -v hello data/file 2>/dev/null || true; echo plain >a-file
"""


def test_an_empty_volume_gets_what_the_image_has(docker: Client, image_of: Callable[..., str], volume: str) -> None:
    image = image_of(_CONTENT, "VOLUME /data")
    script = "stat -c '%n %a %u %g %F %h' /data /data/* | sort; cat /data/link || true"
    wanted = docker("run", "--rm", "--entrypoint", "sh", "-v", f"{volume}:/other", image, "-c", script).stdout
    again = docker("run", "--rm", "-v", f"{volume}:/data", image, "sh", "-c", script).stdout
    assert again == wanted
    assert again.splitlines()[0] == "/data 1770 5 6 directory 3"
    assert "/data/file 644 7 8 regular file 2" in again
    assert "/data/pipe" in again
    # not a second time: the volume is the container's now
    docker("run", "--rm", "-v", f"{volume}:/data", image, "sh", "-c", "busybox rm /data/file")
    assert "/data/file " not in docker("run", "--rm", "-v", f"{volume}:/data", image, "sh", "-c", script).stdout


def test_nocopy_and_a_file_in_the_way(docker: Client, image_of: Callable[..., str], volume: str) -> None:
    image = image_of(_CONTENT)
    assert docker("run", "--rm", "-v", f"{volume}:/data:nocopy", image, "ls", "-A", "/data").stdout == ""
    done = docker("run", "--rm", "-v", f"{volume}:/a-file", image, "true", check=False)
    assert (done.returncode, "file exists /a-file" in done.stderr) == (125, True), done.stderr


@pytest.mark.parametrize("target", ["/", "/etc", "../../../../../../etc"])
def test_an_image_reaches_nothing_of_the_host(
    docker: Client, image_of: Callable[..., str], volume: str, target: str
) -> None:
    """CVE-2022-23648, CVE-2017-1002101: the place of the volume is a link that would lead out."""
    image = image_of(f"ln -s '{target}' data; mkdir etc; echo image >etc/mine")
    docker("create", "--name", volume, "-v", f"{volume}:/data", image, "true")
    try:
        point = mount_point(docker, volume)
        found = {each.name for each in point.iterdir()}
        told = [each.read_bytes() for each in point.rglob("*") if each.name in ("hostname", "hosts", "resolv.conf")]
    finally:
        docker("rm", volume)
    places = {
        "dev",
        "proc",
        "sys",
        ".dockerenv",
        "hostname",
        "hosts",
        "mtab",
        "resolv.conf",
    }  # that every container has
    assert found <= {"bin", "etc", "data", "mine"} | places
    assert not any(told), told


def test_subpath(docker: Client, warm: str, volume: str) -> None:
    docker(
        "run",
        "--rm",
        "-v",
        f"{volume}:/v",
        warm,
        "sh",
        "-c",
        "mkdir /v/sub; echo x >/v/sub/f; ln -s / /v/out; ln -s sub /v/in",
    )
    mount = f"type=volume,src={volume},dst=/m,volume-subpath="
    assert docker("run", "--rm", "--mount", f"{mount}sub", warm, "cat", "/m/f").stdout == "x\n"
    assert docker("run", "--rm", "--mount", f"{mount}in", warm, "cat", "/m/f").stdout == "x\n"
    for subpath, said in (("out", "leads out"), ("nope", "no such file"), ("../x", "relative path within the volume")):
        done = docker("run", "--rm", "--mount", f"{mount}{subpath}", warm, "ls", "/m", check=False)
        assert (done.returncode in (125, 127), said in done.stderr) == (True, True), done.stderr


# --- mounts and crashes ------------------------------------------------------------------------------------------


def test_a_memory_volume_lives_while_it_is_used(docker: Client, volume: str, box: Box) -> None:
    docker("volume", "create", "-o", "type=tmpfs", "-o", "device=tmpfs", "-o", "o=size=1m", volume)
    first = box("sleep", "1000", flags=("-v", f"{volume}:/data"))
    second = box("sleep", "1000", flags=("-v", f"{volume}:/data"))
    docker("exec", first, "sh", "-c", "echo x >/data/file")
    assert docker("exec", second, "cat", "/data/file").stdout == "x\n"
    docker("rm", "-f", first)
    assert docker("exec", second, "cat", "/data/file").stdout == "x\n"
    docker("rm", "-f", second)
    assert str(mount_point(docker, volume)) not in Path("/proc/self/mountinfo").read_text()
    assert docker("run", "--rm", "-v", f"{volume}:/data", "busybox", "ls", "-A", "/data").stdout == ""


def test_what_cannot_be_mounted_is_said(docker: Client, warm: str, volume: str) -> None:
    docker("volume", "create", "-o", "type=none", "-o", "o=bind", "-o", "device=/no/such/place", volume)
    done = docker("run", "--rm", "-v", f"{volume}:/data", warm, "true", check=False)
    assert done.returncode == 127  # what the docker client makes of "no such file or directory", whoever says it
    assert "failed to mount local volume: mount /no/such/place:" in done.stderr
    assert "no such file or directory" in done.stderr


def test_users_are_known_after_a_crash(
    new_pydd: Callable[..., Daemon], client_environment: dict[str, str], image_archive: Path
) -> None:
    daemon = new_pydd()
    docker = Client((docker_program(), "-H", daemon.url), client_environment)
    docker("load", "-q", "-i", image_archive)
    docker("volume", "create", "-o", "type=tmpfs", "-o", "device=tmpfs", "memory")
    docker(
        "run",
        "-d",
        "--name",
        "user",
        "-v",
        "memory:/m",
        "-v",
        "plain:/p",
        "-v",
        "/anonymous",
        "busybox",
        "sleep",
        "1000",
    )
    docker("exec", "user", "sh", "-c", "echo x >/m/file")
    daemon.kill()
    daemon.start()
    assert docker("exec", "user", "cat", "/m/file").stdout == "x\n"
    for name in ("memory", "plain"):
        assert "volume is in use" in docker("volume", "rm", name, check=False).stderr
    assert docker("run", "--rm", "-v", "memory:/m", "busybox", "cat", "/m/file").stdout == "x\n"
    docker("kill", "user")
    until(lambda: "/_data" not in Path("/proc/self/mountinfo").read_text(), "the unmount of the volume")
    docker("rm", "-v", "user")
    assert sorted(docker("volume", "ls", "-q").stdout.split()) == ["memory", "plain"]
    docker("volume", "rm", "memory", "plain")
    daemon.close()
