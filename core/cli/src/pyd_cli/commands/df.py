"""`pyd system df`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from pyd_cli import containers, units
from pyd_cli.command import FORMAT, Command
from pyd_cli.commands.images import rows as image_rows
from pyd_cli.flags import Flag, Options
from pyd_cli.listing import listing, short_id
from pyd_cli.session import Session
from pyd_cli.tables import table

HEADERS = {"Type": "TYPE", "TotalCount": "TOTAL", "Active": "ACTIVE", "Size": "SIZE", "Reclaimable": "RECLAIMABLE"}
FLAGS = (FORMAT, Flag("verbose", "v", "bool", "Show detailed information on space usage"))

Items = list[dict[str, Any]]


def line(kind: str, items: Items, active: int, size: int, free: int, percent: bool = True) -> dict[str, str]:
    shown = units.human_size(free)
    if percent and size > 0:
        shown += f" ({free * 100 // size}%)"
    return {
        "Type": kind,
        "TotalCount": str(len(items)),
        "Active": str(active),
        "Size": units.human_size(size),
        "Reclaimable": shown,
    }


def counted(
    items: Items, used: Callable[[dict[str, Any]], bool], size: Callable[[dict[str, Any]], int]
) -> tuple[int, int, int]:
    """(how many are in use, bytes of all, bytes of those not in use)."""
    sizes = [(used(item), max(size(item), 0)) for item in items]
    return sum(use for use, _ in sizes), sum(count for _, count in sizes), sum(count for use, count in sizes if not use)


def summary(usage: dict[str, Any]) -> list[dict[str, str]]:
    images: Items = usage.get("Images") or []
    layers = usage.get("LayersSize") or 0
    in_use = [item for item in images if item.get("Containers", 0) > 0]
    kept = sum(item["Size"] - max(item.get("SharedSize", 0), 0) for item in in_use if item.get("Size", 0) > 0)
    found = [line("Images", images, len(in_use), layers, max(layers - kept, 0))]
    running = ("running", "paused", "restarting")
    items: Items = usage.get("Containers") or []
    found.append(
        line(
            "Containers",
            items,
            *counted(items, lambda item: item.get("State") in running, lambda item: item.get("SizeRw") or 0),
        )
    )
    items = usage.get("Volumes") or []
    found.append(
        line(
            "Local Volumes",
            items,
            *counted(items, lambda item: volume_usage(item, "RefCount") > 0, lambda item: volume_usage(item, "Size")),
        )
    )
    items = usage.get("BuildCache") or []
    own = [item for item in items if not item.get("Shared")]
    active = sum(bool(item.get("InUse")) for item in items)
    _, size, free = counted(own, lambda item: bool(item.get("InUse")), lambda item: item.get("Size") or 0)
    return [*found, line("Build Cache", items, active, size, free, percent=False)]


def volume_usage(item: dict[str, Any], name: str) -> int:
    return int((item.get("UsageData") or {}).get(name) or 0)


def execute(session: Session, options: Options, _args: list[str]) -> None:
    usage = session.api.get("/system/df")
    if options["verbose"] and not options["format"]:
        session.write(verbose(usage))
        return
    session.write(listing(summary(usage), options["format"], tuple(HEADERS), HEADERS, "*formatter.diskUsageContext"))


def verbose(usage: dict[str, Any]) -> str:
    images = []
    for item in usage.get("Images") or []:
        images += list(image_rows([{**item, "Containers": item.get("Containers", 0)}], False, True))[:1]
    columns = ("Repository", "Tag", "ID", "CreatedSince", "Size", "SharedSize", "UniqueSize", "Containers")
    heads = ("REPOSITORY", "TAG", "IMAGE ID", "CREATED", "SIZE", "SHARED SIZE", "UNIQUE SIZE", "CONTAINERS")
    text = "Images space usage:\n\n" + table(heads, ([row[name] for name in columns] for row in images))
    rows = [containers.row({**item, "SizeRootFs": 0}) for item in usage.get("Containers") or []]
    columns = ("ID", "Image", "Command", "LocalVolumes", "Size", "RunningFor", "Status", "Names")
    text += "\nContainers space usage:\n\n"
    text += table([containers.HEADERS[name] for name in columns], ([row[name] for name in columns] for row in rows))
    text += "\nLocal Volumes space usage:\n\n"
    volumes = [
        (item["Name"], str(volume_usage(item, "RefCount")), units.human_size(volume_usage(item, "Size")))
        for item in usage.get("Volumes") or []
    ]
    text += table(("VOLUME NAME", "LINKS", "SIZE"), volumes)
    cache: Items = usage.get("BuildCache") or []
    whole = sum(item.get("Size") or 0 for item in cache if not item.get("Shared"))
    text += f"\nBuild cache usage: {units.human_size(whole)}\n\n"
    text += table(
        ("CACHE ID", "CACHE TYPE", "SIZE", "CREATED", "LAST USED", "USAGE", "SHARED"), (cached(item) for item in cache)
    )
    if "StorageDrivers" in usage:  # pyd's own: another daemon has one driver
        drivers = [
            (item["Driver"], str(item["Layers"]), str(item["Containers"]), units.human_size(item["Size"]))
            for item in usage["StorageDrivers"]
        ]
        text += "\nStorage drivers space usage:\n\n"
        text += table(("DRIVER", "LAYERS", "CONTAINERS", "SIZE"), drivers)
    return text


def cached(item: dict[str, Any]) -> list[str]:
    last = item.get("LastUsedAt") or ""
    return [
        short_id(item["ID"]),
        item.get("Type") or "",
        units.human_size(item.get("Size") or 0, 3),
        units.since(units.rfc3339(item.get("CreatedAt") or "")),
        units.since(units.rfc3339(last)) if last else "",
        str(item.get("UsageCount") or 0),
        str(bool(item.get("Shared"))).lower(),
    ]


df = Command("df", "[OPTIONS]", "Show pyd disk usage", execute, FLAGS)
