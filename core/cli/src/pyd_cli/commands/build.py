"""`pyd build`: sends a context and shows what becomes of it."""

from __future__ import annotations

import io
import json
import os
import sys
from collections.abc import Iterable
from typing import IO

from pyd_cli import run_values as values
from pyd_cli.api import json_objects
from pyd_cli.build_context import Stream, compressed
from pyd_cli.build_source import Source, prepared
from pyd_cli.command import PLATFORM, Command
from pyd_cli.credentials import registries
from pyd_cli.errors import CliError
from pyd_cli.flags import Flag, Options
from pyd_cli.progress import show
from pyd_cli.proxies import proxies
from pyd_cli.references import parse
from pyd_cli.session import Session
from pyd_cli.units import human_size, parse_size

REDRAWN = 512 * 1024  # bytes between two drawings of how much was sent


def tag(text: str) -> str:
    try:
        parse(text)
    except CliError as fault:
        raise ValueError(str(fault)) from None
    return text


FLAGS = (
    Flag("add-host", "", "list", 'Add a custom host-to-IP mapping ("host:ip")', convert=values.extra_host),
    Flag("build-arg", "", "list", "Set build-time variables", convert=values.environment),
    Flag("cache-from", "", "strings", "Images to consider as cache sources"),
    Flag("cgroup-parent", "", "string", 'Set the parent cgroup for the "RUN" instructions during build'),
    Flag("compress", "", "bool", "Compress the build context using gzip"),
    Flag("cpu-period", "", "int", "Limit the CPU CFS (Completely Fair Scheduler) period"),
    Flag("cpu-quota", "", "int", "Limit the CPU CFS (Completely Fair Scheduler) quota"),
    Flag("cpu-shares", "c", "int", "CPU shares (relative weight)"),
    Flag("cpuset-cpus", "", "string", "CPUs in which to allow execution (0-3, 0,1)"),
    Flag("cpuset-mems", "", "string", "MEMs in which to allow execution (0-3, 0,1)"),
    Flag("disable-content-trust", "", "bool", "Skip image verification", True, hidden=True),
    Flag("file", "f", "string", 'Name of the Dockerfile (Default is "PATH/Dockerfile")'),
    Flag("force-rm", "", "bool", "Always remove intermediate containers"),
    Flag("iidfile", "", "string", "Write the image ID to the file"),
    Flag("isolation", "", "string", "Container isolation technology"),
    Flag("label", "", "list", "Set metadata for an image", convert=values.label),
    Flag("memory", "m", "bytes", "Memory limit", 0, parse_size),
    Flag(
        "memory-swap",
        "",
        "bytes",
        "Swap limit equal to memory plus swap: -1 to enable unlimited swap",
        0,
        values.memory_swap,
    ),
    Flag("network", "", "string", "Set the networking mode for the RUN instructions during build", "default"),
    Flag("no-cache", "", "bool", "Do not use cache when building the image"),
    PLATFORM,
    Flag("pull", "", "bool", "Always attempt to pull a newer version of the image"),
    Flag("quiet", "q", "bool", "Suppress the build output and print image ID on success"),
    Flag("rm", "", "bool", "Remove intermediate containers after a successful build", True),
    Flag("security-opt", "", "strings", "Security options"),
    Flag("shm-size", "", "bytes", 'Size of "/dev/shm"', 0, parse_size),
    Flag("squash", "", "bool", "Squash newly built layers into a single new layer"),
    Flag("tag", "t", "list", 'Name and optionally a tag in the "name:tag" format', convert=tag),
    Flag("target", "", "string", "Set the target build stage to build."),
    Flag("ulimit", "", "ulimit", "Ulimit options", convert=values.ulimit, many=True),
)


def query_of(session: Session, options: Options, source: Source) -> dict[str, str | bool | list[str]]:
    """The options as the API takes them; what has its default is left out."""
    arguments = dict(_argument(values.filled(item)) for item in options["build-arg"])
    arguments |= proxies(session, arguments)
    ulimits = {item["Name"]: item for item in options["ulimit"]}  # of one name the last counts
    structures = {
        "buildargs": arguments,
        "labels": values.as_map(options["label"]),
        "cachefrom": options["cache-from"],
        "ulimits": [ulimits[name] for name in sorted(ulimits)],
    }
    numbers = {
        "cpuperiod": "cpu-period",
        "cpuquota": "cpu-quota",
        "cpushares": "cpu-shares",
        "memory": "memory",
        "memswap": "memory-swap",
        "shmsize": "shm-size",
    }
    isolation = options["isolation"]
    return {
        "t": options["tag"],
        "remote": source.remote,
        "dockerfile": source.recipe,
        "version": "1",
        "q": options["quiet"],
        "nocache": options["no-cache"],
        "rm": "" if options["rm"] else "0",
        "forcerm": options["force-rm"],
        "pull": options["pull"],
        "squash": options["squash"],
        "target": options["target"],
        "platform": options["platform"].lower(),
        "isolation": "" if isolation == "default" else isolation,
        "networkmode": "" if options["network"] == "default" else options["network"],
        "cgroupparent": options["cgroup-parent"],
        "cpusetcpus": options["cpuset-cpus"],
        "cpusetmems": options["cpuset-mems"],
        "extrahosts": options["add-host"],
        "securityopt": options["security-opt"],
        **{name: str(options[flag]) for name, flag in numbers.items() if options[flag]},
        **{
            name: json.dumps(content, separators=(",", ":"), ensure_ascii=False, sort_keys=True)
            for name, content in structures.items()
            if content
        },
    }


def _argument(text: str) -> tuple[str, str | None]:
    """`NAME` alone, without a value in the environment, is null: the recipe's own default stays."""
    name, equals, value = text.partition("=")
    return name, value if equals else None


class Upload(Stream):
    """The context on its way, and the line that tells how much has been sent: redrawn on a terminal, else at the end."""

    def __init__(self, source: Iterable[bytes], out: IO[str]) -> None:
        super().__init__(iter(source))
        self.out = out
        self.terminal = out.isatty()
        self._drawn = 0
        self._ended = False

    def read(self, size: int = -1) -> bytes:
        data = super().read(size)
        if not data:
            self.end()
        elif self.terminal and self.sent - self._drawn > REDRAWN:
            self._drawn = self.sent
            self.out.write(self._line())
            self.out.flush()
        return data

    def end(self) -> None:
        if not self._ended:
            self._ended = True
            self.out.write(self._line() + "\r\n")
            self.out.flush()

    def _line(self) -> str:
        return f"Sending build context to pyd daemon {human_size(self.sent):>8}\r"


def execute(session: Session, options: Options, args: list[str]) -> int:
    target: str = options["iidfile"]
    if target:
        _forget(target)
    source = prepared(args[0], options["file"])
    quiet = options["quiet"]
    out: IO[str] = io.StringIO() if quiet else sys.stdout
    shown: IO[str] = io.StringIO() if quiet else sys.stdout
    body: Upload | None = None
    if source.body is not None:
        body = Upload(compressed(Stream(source.body)) if options["compress"] else source.body, out)
    headers = {"X-Registry-Config": registries(session)}
    try:
        response = session.api.call("POST", "/build", query_of(session, options, source), body, headers)
        try:
            extras = show(json_objects(response), shown)
        finally:
            response.close()
    except CliError:
        if isinstance(out, io.StringIO) and isinstance(shown, io.StringIO):
            session.complain_raw(out.getvalue() + shown.getvalue())  # quiet was meant for the good end
        raise
    identity = next((extra["ID"] for extra in reversed(extras) if extra.get("ID")), "")
    if isinstance(shown, io.StringIO):
        identity = shown.getvalue()  # all that the daemon says to `q` is the ID
        session.write(identity)
    if target:
        _remember(target, identity)
    return 0


def _forget(path: str) -> None:
    """No ID of an earlier build shall stand there when this one fails."""
    try:
        os.unlink(path)
    except FileNotFoundError:
        pass
    except OSError as fault:
        raise CliError(f"Removing image ID file: remove {path}: {(fault.strerror or str(fault)).lower()}") from fault


def _remember(path: str, identity: str) -> None:
    if not identity:
        raise CliError(f"Server did not provide an image ID. Cannot write {path}")
    try:
        with open(path, "w", encoding="utf-8") as file:
            file.write(identity)
    except OSError as fault:
        raise CliError(f"open {path}: {(fault.strerror or str(fault)).lower()}") from fault


build = Command(
    "build",
    "[OPTIONS] PATH | URL | -",
    "Build an image from a Dockerfile",
    execute,
    FLAGS,
    (1, 1),
    ("pyd image build", "pyd build", "pyd builder build"),
)
