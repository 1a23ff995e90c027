"""`pyd ps`, `pyd container ls`."""

from __future__ import annotations

from pyd_cli import containers
from pyd_cli.command import FILTER, FORMAT, Command
from pyd_cli.flags import Flag, Options
from pyd_cli.listing import filters, listing
from pyd_cli.session import Session

FLAGS = (
    Flag("all", "a", "bool", "Show all containers (default shows just running)"),
    FILTER,
    FORMAT,
    Flag("last", "n", "int", "Show n last created containers (includes all states)", -1),
    Flag("latest", "l", "bool", "Show the latest created container (includes all states)"),
    Flag("no-trunc", "", "bool", "Don't truncate output"),
    Flag("quiet", "q", "bool", "Only display container IDs"),
    Flag("size", "s", "bool", "Display total file sizes"),
)


def show(session: Session, options: Options, _args: list[str]) -> None:
    form = options["format"] or ("" if options["quiet"] else session.config.get("psFormat", ""))
    last = 1 if options["latest"] and not options.was_given("last") else options["last"]
    template = form not in ("", "table", "json")
    query = {
        "all": options["all"],
        "limit": last if last > 0 else None,
        "size": options["size"] or (template and (".Size" in form or "json ." in form)),
        "filters": filters(options["filter"]),
    }
    items = session.api.get("/containers/json", query) or []
    trunc = not options["no-trunc"]
    if options["quiet"] and form in ("", "table"):
        session.write("".join((item["Id"][:12] if trunc else item["Id"]) + "\n" for item in items))
        return
    rows = (containers.row(item, trunc, template) for item in items)
    columns = (*containers.COLUMNS, "Size") if options["size"] else containers.COLUMNS
    session.write(listing(rows, form, columns, containers.headers(template), containers.TYPE))


ps = Command(
    "ps",
    "[OPTIONS]",
    "List containers",
    show,
    FLAGS,
    aliases=("pyd container ls", "pyd container list", "pyd container ps", "pyd ps"),
)
ls = Command("ls", ps.usage_tail, ps.short, show, FLAGS, aliases=ps.aliases)
