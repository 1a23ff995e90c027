"""What is shown of a container in listings, computed from an element of `GET /containers/json`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pyd_cli import units
from pyd_cli.listing import ellipsis, label_head, label_of, label_text, short_id

COLUMNS = ("ID", "Image", "Command", "RunningFor", "Status", "Ports", "Names")
HEADERS = {
    "ID": "CONTAINER ID",
    "Image": "IMAGE",
    "Command": "COMMAND",
    "CreatedAt": "CREATED AT",
    "RunningFor": "CREATED",
    "Status": "STATUS",
    "State": "STATE",
    "Ports": "PORTS",
    "Names": "NAMES",
    "Size": "SIZE",
    "Labels": "LABELS",
    "Mounts": "MOUNTS",
    "LocalVolumes": "LOCAL VOLUMES",
    "Networks": "NETWORKS",
    "Platform": "PLATFORM",
}
TYPE = "*formatter.ContainerContext"


def go_quoted(text: str) -> str:
    """`text` as Go's strconv.Quote writes it."""
    out = ['"']
    for char in text:
        if char in '"\\':
            out.append("\\" + char)
        elif char.isprintable():
            out.append(char)
        elif char in "\a\b\f\n\r\t\v":
            out.append(
                {"\a": "\\a", "\b": "\\b", "\f": "\\f", "\n": "\\n", "\r": "\\r", "\t": "\\t", "\v": "\\v"}[char]
            )
        else:
            code = ord(char)
            out.append(f"\\x{code:02x}" if code < 0x80 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}")
    return "".join(out) + '"'


def row(item: Mapping[str, Any], trunc: bool = True, templates: bool = False) -> dict[str, Any]:
    """The fields of one container. With `templates` also those that take arguments."""
    labels = item.get("Labels") or {}
    mounts = item.get("Mounts") or []
    command = item.get("Command") or ""
    identity = item.get("Id", "")
    fields: dict[str, Any] = {
        "ID": short_id(identity) if trunc else identity,
        "Image": image_name(item, trunc),
        "Command": go_quoted(ellipsis(command, 20) if trunc else command),
        "CreatedAt": units.local_stamp(item.get("Created", 0)),
        "RunningFor": units.since(item.get("Created", 0)),
        "Status": item.get("Status", ""),
        "State": item.get("State", ""),
        "Ports": ports(item.get("Ports") or []),
        "Names": names(item.get("Names") or [], trunc),
        "Size": size(item),
        "Labels": label_text(labels),
        "Mounts": ",".join(mount_names(mounts, trunc)),
        "LocalVolumes": str(sum(1 for mount in mounts if mount.get("Driver") == "local")),
        "Networks": ",".join((item.get("NetworkSettings") or {}).get("Networks") or {}),
        "Platform": (item.get("ImageManifestDescriptor") or {}).get("platform"),
    }
    if templates:
        fields["Label"] = label_of(item)
    return fields


def headers(templates: bool = False) -> dict[str, Any]:
    """The columns' heads; with `templates` also those of fields that take arguments."""
    if not templates:
        return HEADERS
    from pyd_cli.template_values import Method

    return {**HEADERS, "Label": Method(label_head)}


def names(all_names: list[str], trunc: bool) -> str:
    """The names without their slash; truncated, without those that are links of other containers."""
    bare = [name.removeprefix("/") for name in all_names]
    if trunc:
        bare = [name for name in bare if "/" not in name]
    return ",".join(bare)


def image_name(item: Mapping[str, Any], trunc: bool) -> str:
    image: str = item.get("Image") or ""
    if not image:
        return "<no image>"
    if trunc:
        identity = short_id(item.get("ImageID") or "")
        if identity and identity == short_id(image):
            return identity
        name, at, _ = image.partition("@")
        if at:
            return name
    return image


def mount_names(mounts: list[Mapping[str, Any]], trunc: bool) -> list[str]:
    shown = []
    for mount in mounts:
        name = mount.get("Name") or mount.get("Source") or ""
        shown.append(ellipsis(name, 15) if trunc else name)
    return shown


def size(item: Mapping[str, Any]) -> str:
    own = units.human_size(item.get("SizeRw") or 0, 3)
    whole = item.get("SizeRootFs") or 0
    return f"{own} (virtual {units.human_size(whole, 3)})" if whole > 0 else own


def ports(items: list[Mapping[str, Any]]) -> str:
    """Published and exposed ports, neighbours joined to ranges: `0.0.0.0:80-81->80-81/tcp, 90/udp`."""
    ranges: dict[tuple[str, str], list[int]] = {}
    done: list[str] = []
    mapped: list[str] = []

    def key(port: Mapping[str, Any]) -> tuple[int, str, int, str]:
        return port["PrivatePort"], port.get("IP") or "", port.get("PublicPort") or 0, port.get("Type") or ""

    for private, address, public, kind in sorted(map(key, items)):
        if address and public != private:
            mapped.append(f"{_with_port(address, str(public))}->{private}/{kind}")
            continue
        current = ranges.get((address, kind))
        if current is None:
            ranges[address, kind] = [private, private]
        elif private == current[1] + 1:
            current[1] = private
        elif private != current[1]:
            done.append(_range((address, kind), current))
            ranges[address, kind] = [private, private]
    done += [_range(group, current) for group, current in ranges.items()]
    return ", ".join([*done, *mapped])


def _with_port(address: str, port: str) -> str:
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"


def _range(group: tuple[str, str], bounds: list[int]) -> str:
    (address, kind), (first, last) = group, bounds
    span = str(first) if first == last else f"{first}-{last}"
    return f"{_with_port(address, span)}->{span}/{kind}" if address else f"{span}/{kind}"
