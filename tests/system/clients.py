"""What talks to the daemon under test: command-line clients, and a registry on loopback."""

from __future__ import annotations

import http.client
import os
import re
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from terminal import Terminal

IMAGE = "busybox:latest"
Completed = subprocess.CompletedProcess[str]


@dataclass(frozen=True, slots=True)
class Client:
    """A command-line client that is bound to one daemon."""

    program: tuple[str, ...]
    environment: dict[str, str]

    def __call__(
        self, *words: str | Path, check: bool = True, stdin: str | None = None, timeout: float = 60
    ) -> Completed:
        """Run it with *stdin* as its input. Unless *check* is off, a status other than 0 fails the test."""
        command = [*self.program, *map(str, words)]
        done = subprocess.run(
            command,
            input=stdin,
            stdin=subprocess.DEVNULL if stdin is None else None,
            capture_output=True,
            text=True,
            timeout=timeout,
            env=self.environment,
        )
        if check and done.returncode != 0:
            pytest.fail(f"{' '.join(command)}: status {done.returncode}: {done.stderr.strip()}\n{done.stdout}")
        return done

    def start(self, *words: str | Path) -> subprocess.Popen[str]:
        """Run it without waiting, its three streams pipes: for use as a context, which ends it if it still runs."""
        return _Ended(
            [*self.program, *map(str, words)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            bufsize=1,
            env=self.environment,
        )

    def terminal(self, *words: str | Path, rows: int = 24, columns: int = 80) -> Terminal:
        """Run it on a terminal."""
        return Terminal([*self.program, *map(str, words)], self.environment, rows, columns)


class _Ended(subprocess.Popen[str]):
    """A process that does not outlive its context, also when the test fails."""

    def __exit__(self, *reason: Any) -> None:
        if self.poll() is None and reason[0] is not None:
            self.kill()
        super().__exit__(*reason)


@dataclass(frozen=True, slots=True)
class Registry:
    """A docker-registry on loopback; *host* is how references begin."""

    host: str
    archive: Path

    def push(self, name: str = IMAGE) -> str:
        """Push the busybox image as *name* and return its whole reference."""
        reference = f"{self.host}/{name}"
        command = ["skopeo", "--insecure-policy", "copy", "--quiet", "--dest-tls-verify=false"]
        subprocess.run(
            [*command, f"docker-archive:{self.archive}", f"docker://{reference}"],
            check=True,
            capture_output=True,
            timeout=60,
        )
        return reference


def until(fact: Callable[[], object], what: str, seconds: float = 20) -> None:
    """Wait until *fact* is true; AssertionError that names *what* otherwise."""
    deadline = time.monotonic() + seconds
    while not fact():
        assert time.monotonic() < deadline, f"not within {seconds:.0f} s: {what}"
        time.sleep(0.02)


def docker_program() -> str:
    """The docker client to test with: version 28 where there is one on PATH, else the first."""
    found = [shutil.which("docker", path=folder) for folder in os.get_exec_path()]
    programs = list(dict.fromkeys(program for program in found if program))
    for program in programs:
        said = subprocess.run([program, "--version"], capture_output=True, text=True, timeout=20, check=False).stdout
        if re.search(r"version 28\.", said):
            return program
    return programs[0]


@contextmanager
def serve(folder: Path, archive: Path, more: str = "") -> Iterator[Registry]:
    """An empty docker-registry with its data in *folder*, on a free port of 127.0.0.1, without TLS; *more* YAML settings."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        host = f"127.0.0.1:{probe.getsockname()[1]}"
    config = folder / "config.yml"
    config.write_text(
        "version: 0.1\nlog: {level: warn}\n"
        f"storage: {{filesystem: {{rootdirectory: {folder}/data}}, delete: {{enabled: true}}}}\n"
        f"http: {{addr: {host}}}\n{more}"
    )
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(["docker-registry", "serve", config], stdout=log, stderr=log)
    try:
        assert _answers(host, process), f"docker-registry did not start:\n{(folder / 'log').read_text()[-2000:]}"
        yield Registry(host, archive)
    finally:
        process.terminate()
        process.wait(20)


def _answers(host: str, process: subprocess.Popen[bytes], seconds: float = 20) -> bool:
    deadline = time.monotonic() + seconds
    while process.poll() is None and time.monotonic() < deadline:
        connection = http.client.HTTPConnection(host, timeout=5)
        try:
            connection.request("GET", "/v2/")
            if connection.getresponse().status in (http.client.OK, http.client.UNAUTHORIZED):
                return True
        except OSError:
            time.sleep(0.02)  # not there yet
        finally:
            connection.close()
    return False
