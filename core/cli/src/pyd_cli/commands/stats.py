"""`pyd stats`."""

from __future__ import annotations

import sys
from typing import Any

from pyd_cli.command import FORMAT, UNLIMITED, Command
from pyd_cli.errors import ApiError, CliError
from pyd_cli.flags import Flag, Options
from pyd_cli.listing import listing
from pyd_cli.session import Session
from pyd_cli.units import binary_size, human_size

FLAGS = (
    Flag("all", "a", "bool", "Show all containers (default shows just running)"),
    FORMAT,
    Flag("no-stream", "", "bool", "Disable streaming stats and only pull the first result"),
    Flag("no-trunc", "", "bool", "Do not truncate output"),
)
HEADERS = {
    "Container": "CONTAINER", "ID": "CONTAINER ID", "Name": "NAME", "CPUPerc": "CPU %", "MemUsage": "MEM USAGE / LIMIT",
    "MemPerc": "MEM %", "NetIO": "NET I/O", "BlockIO": "BLOCK I/O", "PIDs": "PIDS",
}  # fmt: skip
COLUMNS = ("ID", "Name", "CPUPerc", "MemUsage", "MemPerc", "NetIO", "BlockIO", "PIDs")


def cpu_percent(stats: dict[str, Any]) -> float:
    """Of one CPU, between this sample and the one before it."""
    now, before = stats.get("cpu_stats") or {}, stats.get("precpu_stats") or {}
    used = (now.get("cpu_usage") or {}).get("total_usage", 0) - (before.get("cpu_usage") or {}).get("total_usage", 0)
    system = now.get("system_cpu_usage", 0) - before.get("system_cpu_usage", 0)
    cpus = now.get("online_cpus") or len((now.get("cpu_usage") or {}).get("percpu_usage") or []) or 1
    return float(used) / system * cpus * 100 if system > 0 and used > 0 else 0.0


def memory_used(memory: dict[str, Any]) -> int:
    """Bytes without the file cache that can be given back (cgroup v1: total_inactive_file, v2: inactive_file)."""
    usage = int(memory.get("usage") or 0)
    details = memory.get("stats") or {}
    for name in ("total_inactive_file", "inactive_file"):
        if 0 <= details.get(name, -1) < usage:
            return usage - int(details[name])
    return usage


def row(argument: str, stats: dict[str, Any], trunc: bool) -> dict[str, str]:
    memory = stats.get("memory_stats") or {}
    used, limit = memory_used(memory), int(memory.get("limit") or 0)
    networks = (stats.get("networks") or {}).values()
    blocks = (stats.get("blkio_stats") or {}).get("io_service_bytes_recursive") or []

    def moved(operation: str) -> int:
        return sum(int(entry["value"]) for entry in blocks if entry.get("op", "")[:1].lower() == operation)

    identity = stats.get("id") or ""
    received, sent = (sum(int(one.get(name) or 0) for one in networks) for name in ("rx_bytes", "tx_bytes"))
    return {
        "Container": argument,
        "ID": identity[:12] if trunc else identity,
        "Name": (stats.get("name") or "").removeprefix("/"),
        "CPUPerc": f"{cpu_percent(stats):.2f}%",
        "MemUsage": f"{binary_size(used)} / {binary_size(limit)}",
        "MemPerc": f"{used * 100 / limit if limit else 0:.2f}%",
        "NetIO": f"{human_size(received, 3)} / {human_size(sent, 3)}",
        "BlockIO": f"{human_size(moved('r'), 3)} / {human_size(moved('w'), 3)}",
        "PIDs": str((stats.get("pids_stats") or {}).get("current") or 0),
    }


def sample(session: Session, names: list[str]) -> list[tuple[str, dict[str, Any]]]:
    """One sample of each container, taken at the same time: each takes the daemon a second."""
    import threading

    found: dict[str, Any] = {}

    def one(name: str) -> None:
        try:
            found[name] = session.api.get(f"/containers/{name}/stats", {"stream": "false"})
        except CliError as fault:
            found[name] = fault

    threads = [threading.Thread(target=one, args=(name,)) for name in names]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for name in names:
        if isinstance(found[name], CliError):
            raise found[name]
    return [(name, found[name]) for name in names]


def execute(session: Session, options: Options, args: list[str]) -> None:
    form = options["format"] or session.config.get("statsFormat", "")
    trunc = not options["no-trunc"]
    terminal = sys.stdout.isatty()
    while True:
        names = args or [item["Id"] for item in session.api.get("/containers/json", {"all": options["all"]}) or []]
        try:
            rows = [row(name if args else name[:12], stats, trunc) for name, stats in sample(session, names)]
        except ApiError as fault:
            if args or fault.status != 404:
                raise
            continue  # one of them has gone between the list and the sample
        text = listing(rows, form, COLUMNS, HEADERS, "*container.statsContext")
        if options["no-stream"]:
            session.write(text)
            return
        session.write("\x1b[H" + text.replace("\n", "\x1b[K\n") + "\x1b[J" if terminal else text)
        sys.stdout.flush()
        if not names:
            import time

            time.sleep(1)


stats = Command(
    "stats",
    "[OPTIONS] [CONTAINER...]",
    "Display a live stream of container(s) resource usage statistics",
    execute,
    FLAGS,
    (0, UNLIMITED),
    ("pyd container stats", "pyd stats"),
)
