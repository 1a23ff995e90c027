"""`pyd volume`."""

from __future__ import annotations

from typing import Any

from pyd_cli.command import FILTER, FORMAT, UNLIMITED, Command
from pyd_cli.each import each
from pyd_cli.errors import CliError
from pyd_cli.flags import Flag, Options
from pyd_cli.listing import filters, label_head, label_text, listing
from pyd_cli.run_values import as_map, label
from pyd_cli.session import Session
from pyd_cli.units import human_size

HEADERS = {
    "Name": "VOLUME NAME", "Driver": "DRIVER", "Scope": "SCOPE", "Mountpoint": "MOUNTPOINT", "Labels": "LABELS",
    "Links": "LINKS", "Size": "SIZE", "Availability": "AVAILABILITY", "Group": "GROUP", "Status": "STATUS",
}  # fmt: skip


def row(item: dict[str, Any]) -> dict[str, Any]:
    usage = item.get("UsageData")
    return {
        "Name": item["Name"],
        "Driver": item["Driver"],
        "Scope": item.get("Scope") or "",
        "Mountpoint": item.get("Mountpoint") or "",
        "Labels": label_text(item.get("Labels")),
        "Links": str(usage["RefCount"]) if usage else "N/A",
        "Size": human_size(usage["Size"]) if usage else "N/A",
        "Availability": "N/A",
        "Group": "N/A",
        "Status": "N/A",
    }


def execute_ls(session: Session, options: Options, _args: list[str]) -> None:
    form = options["format"] or ("" if options["quiet"] else session.config.get("volumesFormat", ""))
    items = session.api.get("/volumes", {"filters": filters(options["filter"])}).get("Volumes") or []
    items.sort(key=lambda item: item["Name"])
    if options["quiet"] and form in ("", "table"):
        session.write("".join(item["Name"] + "\n" for item in items))
        return
    heads: dict[str, Any] = HEADERS
    rows = [row(item) for item in items]
    if form not in ("", "table", "json"):
        from pyd_cli.listing import label_of
        from pyd_cli.template_values import Method

        heads = {**HEADERS, "Label": Method(label_head)}
        for fields, item in zip(rows, items, strict=True):
            fields["Label"] = label_of(item)
    session.write(listing(rows, form, ("Driver", "Name"), heads, "*formatter.volumeContext"))


def execute_create(session: Session, options: Options, args: list[str]) -> None:
    if args and options["name"]:
        raise CliError("conflicting options: cannot specify a volume-name through both --name and as a positional arg")
    body = {
        "Name": args[0] if args else options["name"],
        "Driver": options["driver"],
        "DriverOpts": as_map(options["opt"]),
        "Labels": as_map(options["label"]),
    }
    session.say(session.api.post("/volumes/create", None, body)["Name"])


def execute_rm(session: Session, options: Options, args: list[str]) -> int:
    def one(name: str) -> None:
        session.api.call("DELETE", f"/volumes/{name}", {"force": options["force"]}).close()

    return each(session, args, one)


ls = Command(
    "ls",
    "[OPTIONS]",
    "List volumes",
    execute_ls,
    (FILTER, FORMAT, Flag("quiet", "q", "bool", "Only display volume names")),
    aliases=("pyd volume ls", "pyd volume list"),
)
create = Command(
    "create",
    "[OPTIONS] [VOLUME]",
    "Create a volume",
    execute_create,
    (
        Flag("driver", "d", "string", "Specify volume driver name", "local"),
        Flag("label", "", "list", "Set metadata for a volume", convert=label),
        Flag("name", "", "string", "Specify volume name", hidden=True),
        Flag("opt", "o", "map", "Set driver specific options"),
    ),
    (0, 1),
)
rm = Command(
    "rm",
    "[OPTIONS] VOLUME [VOLUME...]",
    "Remove one or more volumes. You cannot remove a volume that is in use by a container.",
    execute_rm,
    (Flag("force", "f", "bool", "Force the removal of one or more volumes"),),
    (1, UNLIMITED),
    ("pyd volume rm", "pyd volume remove"),
)
