"""`pyd network`."""

from __future__ import annotations

from typing import Any

from pyd_cli.command import FILTER, FORMAT, UNLIMITED, Command
from pyd_cli.errors import ApiError, CliError, Unreachable
from pyd_cli.flags import Flag, Options
from pyd_cli.listing import filters, label_head, label_text, listing, short_id
from pyd_cli.run_values import as_map, label
from pyd_cli.session import Session

HEADERS = {
    "ID": "NETWORK ID", "Name": "NAME", "Driver": "DRIVER", "Scope": "SCOPE", "IPv4": "IPV4", "IPv6": "IPV6",
    "Internal": "INTERNAL", "Labels": "LABELS", "CreatedAt": "CREATED AT",
}  # fmt: skip


def stamp(text: str) -> str:
    """An RFC 3339 time as Go prints it."""
    day, _, clock = text.partition("T")
    return f"{day} {clock.removesuffix('Z')} +0000 UTC" if clock.endswith("Z") else text


def execute_ls(session: Session, options: Options, _args: list[str]) -> None:
    form = options["format"] or ("" if options["quiet"] else session.config.get("networksFormat", ""))
    items = session.api.get("/networks", {"filters": filters(options["filter"])}) or []
    items.sort(key=lambda item: (item["Name"], item["Id"]))
    trunc = not options["no-trunc"]
    if options["quiet"] and form in ("", "table"):
        session.write("".join((short_id(item["Id"]) if trunc else item["Id"]) + "\n" for item in items))
        return
    heads: dict[str, Any] = HEADERS
    rows = [row(item, trunc) for item in items]
    if form not in ("", "table", "json"):
        from pyd_cli.listing import label_of
        from pyd_cli.template_values import Method

        heads = {**HEADERS, "Label": Method(label_head)}
        for fields, item in zip(rows, items, strict=True):
            fields["Label"] = label_of(item)
    session.write(listing(rows, form, ("ID", "Name", "Driver", "Scope"), heads, "*network.networkContext"))


def row(item: dict[str, Any], trunc: bool) -> dict[str, Any]:
    return {
        "ID": short_id(item["Id"]) if trunc else item["Id"],
        "Name": item["Name"],
        "Driver": item["Driver"],
        "Scope": item["Scope"],
        "IPv4": str(bool(item.get("EnableIPv4"))).lower(),
        "IPv6": str(bool(item.get("EnableIPv6"))).lower(),
        "Internal": str(bool(item.get("Internal"))).lower(),
        "Labels": label_text(item.get("Labels")),
        "CreatedAt": stamp(item.get("Created") or ""),
    }


def execute_create(session: Session, options: Options, args: list[str]) -> None:
    body: dict[str, Any] = {
        "Name": args[0],
        "Driver": options["driver"],
        "Scope": options["scope"],
        "Internal": options["internal"],
        "Ingress": options["ingress"],
        "Attachable": options["attachable"],
        "ConfigOnly": options["config-only"],
        "Options": as_map(options["opt"]),
        "Labels": as_map(options["label"]),
        "IPAM": {"Driver": options["ipam-driver"], "Options": as_map(options["ipam-opt"]), "Config": pools(options)},
    }
    for flag, field in (("ipv4", "EnableIPv4"), ("ipv6", "EnableIPv6")):
        if options.was_given(flag):
            body[field] = options[flag]
    if options["config-from"]:
        body["ConfigFrom"] = {"Network": options["config-from"]}
    created = session.api.post("/networks/create", None, body)
    if created.get("Warning"):
        session.complain(f"WARNING: {created['Warning']}")
    session.say(created["Id"])


def pools(options: Options) -> list[dict[str, Any]]:
    """--subnet, --gateway, --ip-range and --aux-address, each with the subnet it lies in."""
    from ipaddress import ip_address, ip_interface, ip_network

    found: dict[Any, dict[str, Any]] = {}
    try:
        for text in options["subnet"]:
            subnet = ip_network(text, strict=False)
            if any(subnet.version == other.version and subnet.overlaps(other) for other in found):
                raise CliError("multiple overlapping subnet configuration is not supported")
            found[subnet] = {"Subnet": text}

        def owner(text: str, what: str) -> dict[str, Any]:
            address = ip_interface(text).ip if "/" in text else ip_address(text)
            for subnet, pool in found.items():
                if address in subnet:
                    return pool
            raise CliError(f"no matching subnet for {what} {text}")

        for text in options["ip-range"]:
            owner(text, "range")["IPRange"] = text
        for text in options["gateway"]:
            pool = owner(text, "gateway")
            if "Gateway" in pool:
                raise CliError(f"cannot configure multiple gateways ({text}, {pool['Gateway']}) for the same subnet")
            pool["Gateway"] = text
        for name, text in as_map(options["aux-address"]).items():
            owner(text, "aux-address").setdefault("AuxiliaryAddresses", {})[name] = text
    except ValueError as fault:
        raise CliError(f"invalid address: {fault}") from None
    return list(found.values())


def execute_rm(session: Session, options: Options, args: list[str]) -> int:
    status = 0
    for name in args:
        try:
            session.api.call("DELETE", f"/networks/{name}").close()
            session.say(name)
        except Unreachable:
            raise
        except CliError as fault:
            if options["force"] and isinstance(fault, ApiError) and fault.status == 404:
                continue
            session.complain(fault)
            status = 1
    return status


def execute_connect(session: Session, options: Options, args: list[str]) -> None:
    endpoint: dict[str, Any] = {}
    addresses = {
        "IPv4Address": options["ip"], "IPv6Address": options["ip6"], "LinkLocalIPs": options["link-local-ip"],
    }  # fmt: skip
    if given := {name: value for name, value in addresses.items() if value}:
        endpoint["IPAMConfig"] = given
    if options["alias"]:
        endpoint["Aliases"] = options["alias"]
    if options["link"]:
        endpoint["Links"] = options["link"]
    if options["driver-opt"]:
        endpoint["DriverOpts"] = as_map(options["driver-opt"])
    if options["gw-priority"]:
        endpoint["GwPriority"] = options["gw-priority"]
    body = {"Container": args[1], "EndpointConfig": endpoint}
    session.api.call("POST", f"/networks/{args[0]}/connect", None, body).close()


def execute_disconnect(session: Session, options: Options, args: list[str]) -> None:
    body = {"Container": args[1], "Force": options["force"]}
    session.api.call("POST", f"/networks/{args[0]}/disconnect", None, body).close()


ls = Command(
    "ls",
    "[OPTIONS]",
    "List networks",
    execute_ls,
    (
        FILTER,
        FORMAT,
        Flag("no-trunc", "", "bool", "Do not truncate the output"),
        Flag("quiet", "q", "bool", "Only display network IDs"),
    ),
    aliases=("pyd network ls", "pyd network list"),
)
create = Command(
    "create",
    "[OPTIONS] NETWORK",
    "Create a network",
    execute_create,
    (
        Flag("attachable", "", "bool", "Enable manual container attachment"),
        Flag("aux-address", "", "map", "Auxiliary IPv4 or IPv6 addresses used by Network driver"),
        Flag("config-from", "", "string", "The network from which to copy the configuration"),
        Flag("config-only", "", "bool", "Create a configuration only network"),
        Flag("driver", "d", "string", "Driver to manage the Network", "bridge"),
        Flag("gateway", "", "strings", "IPv4 or IPv6 Gateway for the master subnet"),
        Flag("ingress", "", "bool", "Create swarm routing-mesh network"),
        Flag("internal", "", "bool", "Restrict external access to the network"),
        Flag("ip-range", "", "strings", "Allocate container ip from a sub-range"),
        Flag("ipam-driver", "", "string", "IP Address Management Driver", "default"),
        Flag("ipam-opt", "", "map", "Set IPAM driver specific options"),
        Flag("ipv4", "", "bool", "Enable or disable IPv4 address assignment", True),
        Flag("ipv6", "", "bool", "Enable or disable IPv6 address assignment"),
        Flag("label", "", "list", "Set metadata on a network", convert=label),
        Flag("opt", "o", "map", "Set driver specific options"),
        Flag("scope", "", "string", "Control the network's scope"),
        Flag("subnet", "", "strings", "Subnet in CIDR format that represents a network segment"),
    ),
    (1, 1),
)
rm = Command(
    "rm",
    "NETWORK [NETWORK...]",
    "Remove one or more networks",
    execute_rm,
    (Flag("force", "f", "bool", "Do not error if the network does not exist"),),
    (1, UNLIMITED),
    ("pyd network rm", "pyd network remove"),
)
connect = Command(
    "connect",
    "[OPTIONS] NETWORK CONTAINER",
    "Connect a container to a network",
    execute_connect,
    (
        Flag("alias", "", "strings", "Add network-scoped alias for the container"),
        Flag("driver-opt", "", "strings", "driver options for the network"),
        Flag("gw-priority", "", "int", "Highest gw-priority provides the default gateway"),
        Flag("ip", "", "string", 'IPv4 address (e.g., "172.30.100.104")'),
        Flag("ip6", "", "string", 'IPv6 address (e.g., "2001:db8::33")'),
        Flag("link", "", "list", "Add link to another container"),
        Flag("link-local-ip", "", "strings", "Add a link-local address for the container"),
    ),
    (2, 2),
)
disconnect = Command(
    "disconnect",
    "[OPTIONS] NETWORK CONTAINER",
    "Disconnect a container from a network",
    execute_disconnect,
    (Flag("force", "f", "bool", "Force the container to disconnect from a network"),),
    (2, 2),
)
