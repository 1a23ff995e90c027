"""`pyd port`."""

from __future__ import annotations

from pyd_cli.command import Command
from pyd_cli.errors import CliError
from pyd_cli.flags import Options
from pyd_cli.session import Session


def execute(session: Session, _options: Options, args: list[str]) -> None:
    container = session.api.get(f"/containers/{args[0]}/json")
    bound = (container.get("NetworkSettings") or {}).get("Ports") or {}
    if len(args) > 1:
        number, slash, protocol = args[1].partition("/")
        if not number.isdigit():
            raise CliError(f"Error: invalid port ({number}): invalid syntax")
        port = f"{number}/{protocol if slash else 'tcp'}"
        if not bound.get(port):
            raise CliError(f"Error: No public port '{args[1]}' published for {args[0]}")
        lines = [address(one) for one in bound[port]]
    else:
        lines = [f"{port} -> {address(one)}" for port, places in bound.items() for one in places or []]
    session.write("".join(line + "\n" for line in sorted(lines, key=natural)))


def address(place: dict[str, str]) -> str:
    host = place.get("HostIp", "")
    return f"[{host}]:{place['HostPort']}" if ":" in host else f"{host}:{place['HostPort']}"


def natural(line: str) -> list[tuple[int, str]]:
    """A key by which 80 comes before 443."""
    import re

    return [(int(part) if part.isdigit() else -1, part) for part in re.split(r"(\d+)", line)]


port = Command(
    "port",
    "CONTAINER [PRIVATE_PORT[/PROTO]]",
    "List port mappings or a specific mapping for the container",
    execute,
    count=(1, 2),
    aliases=("pyd container port", "pyd port"),
)
