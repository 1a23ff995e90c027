"""`prune` of containers, images, networks, volumes, the build cache, and of the whole system."""

from __future__ import annotations

import json
from typing import Any

from pyd_cli.command import FORCE, Command, filter_value
from pyd_cli.errors import ApiError, CliError
from pyd_cli.flags import Flag, Options
from pyd_cli.listing import filters
from pyd_cli.session import Session
from pyd_cli.units import human_size, parse_size

FILTER = Flag("filter", "", "filter", 'Provide filter values (e.g. "until=<timestamp>")', convert=filter_value)
ALL_IMAGES = Flag("all", "a", "bool", "Remove all unused images, not just dangling ones")
ALL_VOLUMES = Flag("all", "a", "bool", "Remove all unused volumes, not just anonymous ones")
SURE = "Are you sure you want to continue?"


def containers(session: Session, given: str | None) -> tuple[int, str]:
    result = session.api.post("/containers/prune", {"filters": given})
    return result.get("SpaceReclaimed") or 0, lines("Deleted Containers:", result.get("ContainersDeleted"))


def networks(session: Session, given: str | None) -> tuple[int, str]:
    result = session.api.post("/networks/prune", {"filters": given})
    return 0, lines("Deleted Networks:", result.get("NetworksDeleted"))


def volumes(session: Session, given: str | None) -> tuple[int, str]:
    result = session.api.post("/volumes/prune", {"filters": given})
    return result.get("SpaceReclaimed") or 0, lines("Deleted Volumes:", result.get("VolumesDeleted"))


def images(session: Session, given: str | None) -> tuple[int, str]:
    result = session.api.post("/images/prune", {"filters": given})
    deleted = [
        f"untagged: {item['Untagged']}" if item.get("Untagged") else f"deleted: {item['Deleted']}"
        for item in result.get("ImagesDeleted") or []
    ]
    return result.get("SpaceReclaimed") or 0, lines("Deleted Images:", deleted)


def build_cache(session: Session, given: str | None, everything: bool) -> tuple[int, str]:
    try:
        result = session.api.post("/build/prune", {"filters": given, "all": everything})
    except ApiError as fault:
        if fault.status not in (404, 405, 501):
            raise
        return 0, ""  # an engine without a builder has no build cache
    return result.get("SpaceReclaimed") or 0, lines("Deleted build cache objects:", result.get("CachesDeleted"))


def lines(head: str, names: Any) -> str:
    return "".join(f"{line}\n" for line in [head, *names]) + "\n" if names else ""


def with_filter(given: str | None, name: str, value: str) -> str:
    """The filters with one more."""
    known: dict[str, dict[str, bool]] = json.loads(given) if given else {}
    known.setdefault(name, {})[value] = True
    return json.dumps(known)


def execute_container(session: Session, options: Options, _args: list[str]) -> None:
    given = filters(options["filter"])
    warning = "WARNING! This will remove all stopped containers."
    if options["force"] or session.confirm(f"{warning}\n{SURE}"):
        report(session, containers(session, given))


def execute_network(session: Session, options: Options, _args: list[str]) -> None:
    given = filters(options["filter"])
    warning = "WARNING! This will remove all custom networks not used by at least one container."
    if options["force"] or session.confirm(f"{warning}\n{SURE}"):
        session.write(networks(session, given)[1])


def execute_volume(session: Session, options: Options, _args: list[str]) -> None:
    given = filters(options["filter"])
    anonymous = session.api.at_least("1.42") and not options["all"]
    if options["all"] and session.api.at_least("1.42"):
        given = with_filter(given, "all", "true")
    what = "anonymous local" if anonymous else "all local"
    warning = f"WARNING! This will remove {what} volumes not used by at least one container."
    if options["force"] or session.confirm(f"{warning}\n{SURE}"):
        report(session, volumes(session, given))


def execute_image(session: Session, options: Options, _args: list[str]) -> None:
    given = with_filter(filters(options["filter"]), "dangling", "false" if options["all"] else "true")
    warning = "WARNING! This will remove all dangling images."
    if options["all"]:
        warning = "WARNING! This will remove all images without at least one container associated to them."
    if options["force"] or session.confirm(f"{warning}\n{SURE}"):
        report(session, images(session, given))


def execute_builder(session: Session, options: Options, _args: list[str]) -> None:
    what = "all build cache" if options["all"] else "all dangling build cache"
    if not options["force"] and not session.confirm(f"WARNING! This will remove {what}. {SURE}"):
        return
    query = {
        "all": options["all"],
        "filters": filters(options["filter"]),
        "keep-storage": str(options["keep-storage"] or ""),
    }
    result = session.api.post("/build/prune", query)
    deleted = lines("Deleted build cache objects:", result.get("CachesDeleted"))
    report(session, (result.get("SpaceReclaimed") or 0, deleted))


def report(session: Session, result: tuple[int, str]) -> None:
    freed, text = result
    session.write(f"{text}Total reclaimed space: {human_size(freed)}\n")


def execute_system(session: Session, options: Options, _args: list[str]) -> None:
    given = filters(options["filter"])
    if options["volumes"] and given and "until" in json.loads(given):
        raise CliError('ERROR: The "until" filter is not supported with "--volumes"')
    if not options["force"] and not session.confirm(system_warning(options, given)):
        return
    freed, text = containers(session, given)
    parts = [text, networks(session, given)[1]]
    if options["volumes"]:
        more, text = volumes(session, given)
        freed, parts = freed + more, [*parts, text]
    more, text = images(session, with_filter(given, "dangling", "false" if options["all"] else "true"))
    freed, parts = freed + more, [*parts, text]
    more, text = build_cache(session, given, options["all"])
    freed, parts = freed + more, [*parts, text]
    session.write("".join(parts) + f"Total reclaimed space: {human_size(freed)}\n")


def system_warning(options: Options, given: str | None) -> str:
    what = ["all stopped containers", "all networks not used by at least one container"]
    if options["volumes"]:
        what.append("all anonymous volumes not used by at least one container")
    if options["all"]:
        what.append("all images without at least one container associated to them")
    else:
        what.append("all dangling images")
    what.append("all build cache" if options["all"] else "unused build cache")
    text = "WARNING! This will remove:\n" + "".join(f"  - {line}\n" for line in what)
    if given:
        text += "\n  Items to be pruned will be filtered with:\n"
        text += "".join(f"  - {name}={value}\n" for name, found in json.loads(given).items() for value in found)
    return f"{text}\n{SURE}"


builder = Command(
    "prune",
    "",
    "Remove build cache",
    execute_builder,
    (
        Flag("all", "a", "bool", "Remove all unused build cache, not just dangling ones"),
        Flag("filter", "", "filter", 'Provide filter values (e.g. "until=24h")', convert=filter_value),
        FORCE,
        Flag("keep-storage", "", "bytes", "Amount of disk space to keep for cache", 0, parse_size),
    ),
)
container = Command("prune", "[OPTIONS]", "Remove all stopped containers", execute_container, (FILTER, FORCE))
image = Command("prune", "[OPTIONS]", "Remove unused images", execute_image, (ALL_IMAGES, FILTER, FORCE))
network = Command("prune", "[OPTIONS]", "Remove all unused networks", execute_network, (FILTER, FORCE))
volume = Command("prune", "[OPTIONS]", "Remove unused local volumes", execute_volume, (ALL_VOLUMES, FILTER, FORCE))
system = Command(
    "prune",
    "[OPTIONS]",
    "Remove unused data",
    execute_system,
    (
        Flag("all", "a", "bool", "Remove all unused images not just dangling ones"),
        FILTER,
        FORCE,
        Flag("volumes", "", "bool", "Prune anonymous volumes"),
    ),
)
