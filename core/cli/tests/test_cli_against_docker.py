"""The same commands through `docker` and through `pyd`, against one dockerd: output and exit status must be the same.

The dockerd is private: its own directories and socket, no bridge, no firewall rules. Its one image is a busybox.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

pytestmark = [pytest.mark.root, pytest.mark.docker, pytest.mark.dockerd]

SOURCE = Path(__file__).parent.parent / "src"


def busybox_image(path: Path) -> None:
    """A root file system of a static busybox and its links."""
    busybox = shutil.which("busybox")
    if busybox is None:
        pytest.skip("not installed here: busybox")
    names = subprocess.run([busybox, "--list"], capture_output=True, text=True, check=True).stdout.split()
    with tarfile.open(path, "w") as archive:
        archive.add(busybox, "bin/busybox")
        for name in ("tmp", "proc", "sys", "dev", "etc"):
            directory = tarfile.TarInfo(name)
            directory.type, directory.mode = tarfile.DIRTYPE, 0o755
            archive.addfile(directory)
        for name in names:
            link = tarfile.TarInfo(f"bin/{name}")
            link.type, link.linkname = tarfile.SYMTYPE, "busybox"
            if name != "busybox":
                archive.addfile(link)


@pytest.fixture(scope="module")
def docker_host() -> Iterator[str]:
    # not pytest's directory: a unix socket's path has 107 bytes, and dockerd makes several below its root
    root = Path(tempfile.mkdtemp(prefix="pydcli"))
    host = f"unix://{root}/d.sock"
    command = ["dockerd", "-H", host, "--data-root", f"{root}/data", "--exec-root", f"{root}/run"]
    command += ["-p", f"{root}/pid", "--bridge=none", "--iptables=false"]
    with (root / "log").open("w") as log:
        daemon = subprocess.Popen(command, stdout=log, stderr=log)
    try:
        deadline = time.monotonic() + 60
        while docker(host, "version").returncode:
            if daemon.poll() is not None or time.monotonic() > deadline:
                pytest.skip("dockerd does not start here: " + (root / "log").read_text()[-500:])
            time.sleep(0.2)
        busybox_image(root / "image.tar")
        assert (
            docker(host, "import", "-c", 'CMD ["sh"]', "-m", "hello", str(root / "image.tar"), "bb:1").returncode == 0
        )
        run = ("run", "--network", "none")
        docker(host, *run, "-d", "--name", "web1", "-l", "a.b-c=1", "-v", "vol1:/data", "bb:1", "sleep", "1000")
        docker(host, *run, "--name", "ex1", "bb:1", "sh", "-c", "echo out; exit 3")
        docker(host, "create", "--name", "cr1", "--network", "none", "--expose", "90", "bb:1")
        yield host
        for identity in docker(host, "ps", "-aq").stdout.split():
            docker(host, "rm", "-f", identity)
    finally:
        daemon.terminate()
        daemon.wait(60)
        mounts = [line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines()]
        for mount in sorted((mount for mount in mounts if mount.startswith(f"{root}/")), reverse=True):
            subprocess.run(["umount", "-l", mount])
        shutil.rmtree(root)


def docker(host: str, *argv: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "DOCKER_HOST": host}
    return subprocess.run(
        ["docker", *argv], env=environment, capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=60
    )


def shell(host: str, line: str, program: str) -> tuple[int, str, str]:
    """Status, stdout and stderr of a line whose % is the program; spans of time are made equal."""
    environment = {**os.environ, "DOCKER_HOST": host, "PYTHONPATH": str(SOURCE), "DOCKER_BUILDKIT": "0"}
    environment.pop("PYD_HOST", None)
    called = "docker" if program == "docker" else f"{sys.executable} -m pyd_cli"
    done = subprocess.run(
        ["sh", "-c", line.replace("%", called)],
        env=environment, capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=60,
    )  # fmt: skip
    return done.returncode, same(done.stdout), same(done.stderr)


def same(text: str) -> str:
    """`text` with the program's name, spans of time, and the widths that follow from these, made equal."""
    text = re.sub(r"\bdocker(?=[: ])", "pyd", text)
    text = text.replace("Docker daemon", "pyd daemon")
    text = re.sub(r"DEPRECATED: The legacy builder.*\n(?: {12}.*\n)*\n?", "", text)  # docker's word about BuildKit
    text = re.sub(r"(?m)^Sending build context to pyd daemon.*\n+", "", text)  # archives need not be equally long
    text = re.sub(r"(?m)^ ---> Using cache\n|^ ---> Running in .*\n|^Removing intermediate container .*\n", "", text)
    text = re.sub(r"(?m)^ ---> [0-9a-f]{12}\n|\b[0-9a-f]{12}(?= *$)", "", text) if "built" in text else text
    text = re.sub(r"(Less than a second|About a minute|About an hour|\d+ (second|minute)s?)( ago)?", "TIME", text)
    return re.sub(r" {2,}", "  ", text)


COMMANDS = """
% ps -a
% ps -aq
% ps -a --no-trunc
% ps -a --format json
% ps -a --format 'table {{.Names}}\\t{{.Label "a.b-c"}}\\t{{.State}}'
% ps -a --filter status=exited --format '{{.Names}} {{.Mounts}} {{.Networks}} {{upper .State}}'
% ps --filter foo=bar
% ps --format '{{.Foo}}'
% ps --format '{{.ID'
% images
% images -q --no-trunc
% images --format '{{.Repository}}:{{.Tag}} {{.Size}}'
% network ls
% network inspect host
% volume ls
% volume inspect vol1
% history bb:1
% system df -v
% top web1 -o pid,args
% logs ex1
% logs --since foo ex1
% inspect web1
% inspect web1 nosuch bb:1 vol1
% inspect -f '{{.State.Status}} {{json .Config.Labels}} {{.Config.Env}} {{.State.Health}}' web1
% inspect -f '{{range $k, $v := .Config.Labels}}{{$k}}={{$v}} {{end}}{{len .Mounts}}' web1
% inspect -f '{{.Config.Foo}}' web1
% inspect -f '{{' web1
% inspect --type foo x
% container inspect nosuch
% version -f '{{.Server.Version}}'
% info -f '{{.ServerVersion}} {{.Driver}}'
% exec web1 sh -c 'echo a; echo b >&2; exit 9'
% exec web1 nosuch
echo hi | % exec -i web1 cat
% run --rm --network none bb:1 sh -c 'echo o; echo e >&2; exit 5'
% run --rm --network none bb:1 nosuch
% run --rm --network none bb:1 /bin
% run --rm --network none bb:1 sh -c 'kill -9 $$'
head -c 300000 /dev/zero | % run -i --rm --network none bb:1 md5sum
% run --rm --network none bb:1 head -c 3000000 /dev/zero | md5sum
% run --rm -t --network none bb:1 echo tty
% run --name web1 bb:1
% run --memory 1q bb:1
% run --rm --restart=always bb:1
% run --pull never nosuch
% run Foo
% run
% start -a ex1
% start web1 nosuch
% stop nosuch
% kill ex1
% wait ex1
% rename web1 cr1
% rm web1
% rmi -f nosuch
% tag nosuch a
% pull -a localhost:1/x:1
% save bb:1 | tar t | wc -l
% cp web1:/bin/busybox - | tar t
printf 'FROM bb:1 AS one\nLABEL a=1\nFROM one\nLABEL b=2\n' | % build -t made:1 -
printf 'FROM bb:1\nLABEL a=1\n' | % build -q -
printf 'FROM bb:1\nRUN exit 7\n' | % build --network none --no-cache - 2>&1 | tail -1
printf 'FROM bb:1\nRUN exit 7\n' | % build --network none - >/dev/null
printf 'FROO\n' | % build -q -
printf 'FROM bb:1\n' | % build --target nosuch -
printf 'FROM bb:1\n' | % build --platform a/b/c/d -
printf 'FROM bb:1\n' | % build --isolation hyperv -
% build - </dev/null
% build nosuch
% builder prune -f
% builder prune --filter foo=bar -f
% foo
% ps x
% ps --foo
% volume prune
% system prune -a --volumes
""".strip().splitlines()


@pytest.mark.parametrize("line", COMMANDS)
def test_pyd_says_what_docker_says(docker_host: str, line: str) -> None:
    assert shell(docker_host, line, "pyd") == shell(docker_host, line, "docker")
