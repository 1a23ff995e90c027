"""`pyd images`, `pyd image ls`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from pyd_cli import units
from pyd_cli.command import FILTER, FORMAT, Command
from pyd_cli.flags import Flag, Options
from pyd_cli.listing import filters, listing, short_id
from pyd_cli.session import Session

FLAGS = (
    Flag("all", "a", "bool", "Show all images (default hides intermediate images)"),
    Flag("digests", "", "bool", "Show digests"),
    FILTER,
    FORMAT,
    Flag("no-trunc", "", "bool", "Don't truncate output"),
    Flag("quiet", "q", "bool", "Only show image IDs"),
)
HEADERS = {
    "ID": "IMAGE ID", "Repository": "REPOSITORY", "Tag": "TAG", "Digest": "DIGEST", "CreatedSince": "CREATED",
    "CreatedAt": "CREATED AT", "Size": "SIZE", "Containers": "CONTAINERS", "VirtualSize": "VIRTUAL SIZE",
    "SharedSize": "SHARED SIZE", "UniqueSize": "UNIQUE SIZE",
}  # fmt: skip
NONE = "<none>"


def split_tag(name: str) -> tuple[str, str]:
    """`registry:5000/a:1` as (`registry:5000/a`, `1`)."""
    repository, colon, tag = name.rpartition(":")
    return (repository, tag) if colon and "/" not in tag else (name, NONE)


def names_of(item: dict[str, Any], digests: bool) -> Iterator[tuple[str, str, str]]:
    """(repository, tag, digest) for each line the image has in the table."""
    tags: dict[str, list[str]] = {}
    hashes: dict[str, list[str]] = {}
    for name in item.get("RepoTags") or []:
        if name != "<none>:<none>":
            repository, tag = split_tag(name)
            tags.setdefault(repository, []).append(tag)
    for name in item.get("RepoDigests") or []:
        if name != "<none>@<none>":
            repository, _, digest = name.partition("@")
            hashes.setdefault(repository, []).append(digest)
    if not tags and not hashes:
        yield NONE, NONE, NONE
    for repository, found in tags.items():
        known = hashes.pop(repository, [])
        for tag in found:
            if not digests or not known:
                yield repository, tag, NONE
            else:
                yield from ((repository, tag, digest) for digest in known)
    for repository, known in hashes.items():
        for digest in known if digests else known[:1]:
            yield repository, NONE, digest


def rows(items: list[dict[str, Any]], digests: bool, trunc: bool) -> Iterator[dict[str, str]]:
    for item in items:
        shared, own = item.get("SharedSize", -1), item.get("Size", 0)
        known = shared is not None and shared >= 0
        for repository, tag, digest in names_of(item, digests):
            yield {
                "ID": short_id(item["Id"]) if trunc else item["Id"],
                "Repository": repository,
                "Tag": tag,
                "Digest": digest,
                "CreatedSince": units.since(item.get("Created", 0)),
                "CreatedAt": units.local_stamp(item.get("Created", 0)),
                "Size": units.human_size(own, 3),
                "Containers": str(item["Containers"]) if item.get("Containers", -1) >= 0 else "N/A",
                "VirtualSize": units.human_size(own),
                "SharedSize": units.human_size(shared) if known else "N/A",
                "UniqueSize": units.human_size(own - shared) if known else "N/A",
            }


def show(session: Session, options: Options, args: list[str]) -> None:
    form = options["format"] or ("" if options["quiet"] else session.config.get("imagesFormat", ""))
    given = list(options["filter"]) + ([f"reference={args[0]}"] if args else [])
    items = session.api.get("/images/json", {"all": options["all"], "filters": filters(given)}) or []
    trunc = not options["no-trunc"]
    if options["quiet"] and form in ("", "table"):
        lines = (row["ID"] for row in rows(items, options["digests"], trunc))
        session.write("".join(line + "\n" for line in lines))
        return
    digests = options["digests"] or ".Digest" in form
    columns = ("Repository", "Tag", *(("Digest",) if options["digests"] else ()), "ID", "CreatedSince", "Size")
    session.write(listing(rows(items, digests, trunc), form, columns, HEADERS, "*formatter.imageContext"))


images = Command(
    "images",
    "[OPTIONS] [REPOSITORY[:TAG]]",
    "List images",
    show,
    FLAGS,
    (0, 1),
    ("pyd image ls", "pyd image list", "pyd images"),
)
ls = Command("ls", images.usage_tail, images.short, show, FLAGS, (0, 1), images.aliases)
