"""The clients people have, against the API over fakes: the docker command line and docker-py."""

from __future__ import annotations

import asyncio
import gc
import os
import shutil
import warnings
from typing import Any

import pytest

docker = pytest.importorskip("docker")

needs_command = pytest.mark.skipif(shutil.which("docker") is None, reason="the docker command line is not installed")


async def command(api: Any, *arguments: str, stdin: bytes = b"") -> tuple[int, bytes, bytes]:
    """Run ``docker``; exit status, output, errors."""
    process = await asyncio.create_subprocess_exec(
        "docker",
        *arguments,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env={"PATH": os.environ["PATH"], "DOCKER_HOST": f"unix://{api.path}", "HOME": os.path.dirname(api.path)},
    )
    async with asyncio.timeout(30):
        out, err = await process.communicate(stdin)
    assert process.returncode is not None
    return process.returncode, out, err


@needs_command
@pytest.mark.docker
class TestCommandLine:
    async def test_version(self, api: Any) -> None:
        status, out, _ = await command(api, "version", "--format", "{{.Server.APIVersion}}")
        assert (status, out) == (0, b"1.56\n")

    async def test_run(self, api: Any) -> None:
        assert await command(api, "run", "app", "hello", "world") == (0, b"hello world\n", b"")
        assert (await command(api, "run", "app", "exit", "7"))[0] == 7

    async def test_run_with_input(self, api: Any) -> None:
        data = b"x" * 1_000_000
        assert await command(api, "run", "-i", "app", "cat", stdin=data) == (0, b"cat\n" + data, b"")

    async def test_life_of_a_container(self, api: Any) -> None:
        status, out, _ = await command(api, "run", "-d", "--name", "one", "app", "sleep")
        assert (status, len(out)) == (0, 65)
        assert (await command(api, "ps", "--format", "{{.Names}}"))[1] == b"one\n"
        assert await command(api, "exec", "one", "id") == (0, b"id\n", b"")
        assert await command(api, "exec", "-i", "one", "cat", stdin=b"in") == (0, b"cat\nin", b"")
        assert (await command(api, "exec", "-d", "one", "id"))[0] == 0
        assert (await command(api, "logs", "one"))[1] == b"sleep\n"
        assert (await command(api, "stop", "one"))[1] == b"one\n"
        assert (await command(api, "rm", "one"))[1] == b"one\n"
        status, _, err = await command(api, "start", "one")
        assert (status, b"No such container: one" in err) == (1, True)

    async def test_images(self, api: Any) -> None:
        status, out, _ = await command(api, "pull", "-q", "app:1")
        assert (status, out) == (0, b"docker.io/library/app:1\n")
        assert (await command(api, "load", stdin=b"x" * 1000))[1].startswith(b"Loaded image: ")

    async def test_errors(self, api: Any) -> None:
        for arguments, words in (
            (("service", "ls"), b"This node is not a swarm manager"),
            (("network", "rm", "bridge"), b"pre-defined network"),
            (("rmi", "nope"), b"No such image: nope"),
        ):
            status, _, err = await command(api, *arguments, stdin=b"FROM scratch\n")
            assert status == 1
            assert words in err


async def test_docker_py(api: Any) -> None:
    def use() -> None:
        client = docker.DockerClient(base_url=f"unix://{api.path}", timeout=30)
        assert client.ping()
        box = client.containers.run("app", ["hello"], detach=True)
        assert box.wait() == {"StatusCode": 0}
        assert box.logs() == b"hello\n"
        box = client.containers.run("app", ["sleep"], detach=True)
        for _ in range(20):  # the head and the output must not come together: docker-py would lose the output
            assert box.exec_run(["id"], demux=True) == (0, (b"id\n", None))
            assert box.exec_run(["id"], tty=True) == (0, b"id\n")
        assert list(box.exec_run(["id"], stream=True).output) == [b"id\n"]
        assert box.exec_run(["id"], detach=True).exit_code is not None
        box.stop()
        box.remove()
        with pytest.raises(docker.errors.NotFound):
            client.containers.get("nope")
        box = client.containers.create("app", ["cat"], stdin_open=True)
        stream = box.attach_socket(params={"stdin": 1, "stdout": 1, "stream": 1})
        box.start()
        stream._sock.sendall(b"in")
        got = b""
        while len(got) < 22:
            got += stream._sock.recv(100)
        assert got == b"\x01\0\0\0\0\0\0\x04cat\n\x01\0\0\0\0\0\0\x02in"
        stream._sock.close()
        stream.close()
        event = next(client.events(since=1, until=2, decode=True))
        assert (event["Action"], event["id"]) == ("start", "abc")
        assert [each["status"].split()[0] for each in client.api.pull("a", "b", stream=True, decode=True)] == [
            "Pulling",
            "Status:",
        ]
        client.close()

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)  # docker-py does not close the sockets of exec streams
        await asyncio.to_thread(use)
        gc.collect()
