"""The example file: every key with its default, commented out. ``python -m pyd_daemon.config.example`` prints it."""

from __future__ import annotations

import textwrap

from pyd_daemon.config.configuration import toml
from pyd_daemon.config.keys import KEYS, Key

__all__ = ["example"]

_HEAD = """\
Configuration of pydd, the daemon of pyd: /etc/pyd/pyd.toml.
Every key is here with its default. "pydd --validate" checks a file, "pyd info" shows what is in effect and where it
comes from. Flags and PYD_ environment variables win over this file.
"""
_TABLES = {
    "storage": "A driver's own settings are in a table of its name, for example [storage.overlay].",
    "network": "Settings of the bridge driver are in [network.bridge].",
    "ipam": "",
    "isolation": "",
    "volume": "",
    "logging": "A log driver's own settings are in a table of its name, for example [logging.json-file].",
    "frontend": "What builds are described in.",
    "plugins": "A plugin's settings are in a table of its name.",
    "registry": "",
    "images": "",
}


def example() -> str:
    """The file's text. Lines with ``# `` are for people; removing the ``#`` of the others gives the defaults."""
    lines = [f"# {line}" for line in _HEAD.splitlines()]
    table = ""
    for key in KEYS.values():
        of, dot, _ = key.name.rpartition(".")
        if dot and of != table:
            table = of
            lines += ["", f"[{table}]"]
            lines += [f"# {line}" for line in textwrap.wrap(_TABLES[table], 116)]
        lines += ["", *_entry(key)]
    return "\n".join(lines) + "\n"


def _entry(key: Key) -> list[str]:
    ways = " ".join(filter(None, (key.flag, key.env)))
    words = f"{key.help} ({ways})" if ways else key.help
    name = key.name.rpartition(".")[2]
    comment = [f"# {line}" for line in textwrap.wrap(words, 116)]
    if isinstance(key.default, list) and len(toml(key.default)) > 100:
        items = [f"#    {toml(item)}," for item in key.default]
        return [*comment, f"#{name} = [", *items, "#]"]
    return [*comment, f"#{name} = {toml(key.default)}"]


if __name__ == "__main__":
    print(example(), end="")
