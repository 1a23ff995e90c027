"""`pyd history`."""

from __future__ import annotations

import time

from pyd_cli import units
from pyd_cli.command import FORMAT, PLATFORM, Command
from pyd_cli.flags import Flag, Options
from pyd_cli.listing import ellipsis, listing, short_id
from pyd_cli.session import Session

FLAGS = (
    FORMAT,
    Flag("human", "H", "bool", "Print sizes and dates in human readable format", True),
    Flag("no-trunc", "", "bool", "Don't truncate output"),
    PLATFORM,
    Flag("quiet", "q", "bool", "Only show image IDs"),
)
HEADERS = {
    "ID": "IMAGE", "CreatedSince": "CREATED", "CreatedAt": "CREATED AT", "CreatedBy": "CREATED BY", "Size": "SIZE",
    "Comment": "COMMENT",
}  # fmt: skip


def execute(session: Session, options: Options, args: list[str]) -> None:
    items = session.api.get(f"/images/{args[0]}/history") or []
    trunc, human = not options["no-trunc"], options["human"]
    rows = []
    for item in items:
        created = item.get("Created") or 0
        stamp = time.strftime("%Y-%m-%dT%H:%M:%S%z", time.localtime(created))
        stamp = stamp[:-5] + "Z" if stamp.endswith("+0000") else f"{stamp[:-2]}:{stamp[-2:]}"
        command = (item.get("CreatedBy") or "").replace("\t", " ")
        rows.append({
            "ID": short_id(item["Id"]) if trunc else item["Id"],
            "CreatedAt": "" if created <= -62135596800 else stamp,
            "CreatedSince": (units.since(created) if created > -62135596800 else "N/A") if human else stamp,
            "CreatedBy": ellipsis(command, 45) if trunc else command,
            "Size": units.human_size(item.get("Size") or 0, 3) if human else str(item.get("Size") or 0),
            "Comment": item.get("Comment") or "",
        })  # fmt: skip
    if options["quiet"] and options["format"] in ("", "table"):
        session.write("".join(row["ID"] + "\n" for row in rows))
        return
    columns = ("ID", "CreatedSince" if human else "CreatedAt", "CreatedBy", "Size", "Comment")
    session.write(listing(rows, options["format"], columns, HEADERS, "*formatter.historyContext"))


history = Command(
    "history",
    "[OPTIONS] IMAGE",
    "Show the history of an image",
    execute,
    FLAGS,
    (1, 1),
    ("pyd image history", "pyd history"),
)
