"""What `docs/configuration.md` is made of: the daemon's table of keys, and what every installed driver says it reads."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path

from pyd_contracts.context import Setting
from pyd_contracts.markers import settings_of
from pyd_daemon.config.configuration import toml
from pyd_daemon.config.keys import KEYS

__all__ = ["DOCUMENT", "drivers", "render"]

ROOT = Path(__file__).resolve().parents[2]
DOCUMENT = ROOT / "docs" / "configuration.md"
_HEAD = Path(__file__).with_name("head.md")
_KINDS = {  # group of entry points: table of the configuration
    "pyd.storage.v1": "storage",
    "pyd.network.v1": "network",
    "pyd.ipam.v1": "ipam",
    "pyd.isolation.v1": "isolation",
    "pyd.volume.v1": "volume",
    "pyd.log.v1": "logging",
    "pyd.frontend.v1": "frontend",
    "pyd.plugin.v1": "plugins",
}
_WORDS = {bool: "boolean", int: "number", str: "string", list: "strings", dict: "table"}


def drivers() -> Iterator[tuple[str, EntryPoint]]:
    """The drivers and plugins of this repository, each with its table of the configuration file."""
    ours = {path.parent.name for path in ROOT.glob("drivers/*/*/pyproject.toml")}
    ours |= {
        path.parent.name.removeprefix("log-").removeprefix("frontend-")
        for path in ROOT.glob("plugins/*/pyproject.toml")
    }
    for group, table in _KINDS.items():
        for entry in sorted(entry_points(group=group), key=lambda entry: entry.name):
            if entry.name in ours:
                yield f"{table}.{entry.name}", entry


def render() -> str:
    """The whole document: what is written by hand, then the two lists."""
    out = [_HEAD.read_text().rstrip(), "", "## Keys", "", "| key | default | what for |", "|---|---|---|"]
    for key in KEYS.values():
        ways = ", ".join(f"`{way}`" for way in (key.flag, key.env) if way)
        out.append(_row(f"`{key.name}`", f"`{toml(key.default)}`", key.help + (f" ({ways})" if ways else "")))
    out += [
        "",
        "## Settings of drivers and plugins",
        "",
        "| table | key | | default | what for |",
        "|---|---|---|---|---|",
    ]
    for table, entry in drivers():
        for setting in settings_of(entry.load()):
            out.append(_row(f"`[{table}]`", f"`{setting.name}`", _WORDS[setting.type], _default(setting), setting.help))
    return "\n".join(out) + "\n"


def _default(setting: Setting) -> str:
    return f"`{toml(setting.default)}`" if setting.default not in ("", [], {}) else ""


def _row(*cells: str) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


if __name__ == "__main__":
    DOCUMENT.write_text(render())
