"""The layout of `--help`: usage line, description, aliases, flags in two columns wrapped to the terminal."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pyd_cli.command import Command
    from pyd_cli.flags import Flag


def terminal_width() -> int:
    """Columns to wrap at: the terminal's, else 80."""
    try:
        return os.get_terminal_size(sys.stdout.fileno()).columns or 80
    except (OSError, ValueError):
        return 80


def wrap(text: str, width: int) -> list[str]:
    """`text` in lines of at most `width` characters; a longer word has a line of its own."""
    lines: list[str] = []
    line = ""
    for word in text.split():
        if line and len(line) + 1 + len(word) > width:
            lines.append(line)
            line = word
        else:
            line = f"{line} {word}" if line else word
    return [*lines, line]


def flag_lines(flags: Iterable[Flag], width: int | None = None) -> list[str]:
    """The flags in two columns, by name."""
    width = width or terminal_width()
    heads: list[tuple[str, str]] = []
    for flag in sorted(flags, key=lambda flag: flag.name):
        if flag.hidden:
            continue
        head = f"  -{flag.short}, --{flag.name}" if flag.short else f"      --{flag.name}"
        if flag.kind != "bool":
            head += f" {flag.kind}"
        text = flag.help
        if flag.kind == "bool" and flag.default:
            text += " (default true)"
        elif flag.kind == "string" and flag.default:
            text += f' (default "{flag.default}")'
        elif flag.kind == "int" and flag.default:
            text += f" (default {flag.default})"
        heads.append((head, text))
    column = max((len(head) for head, _ in heads), default=0) + 3
    lines: list[str] = []
    for head, text in heads:
        wrapped = wrap(text, max(width - column, 24))
        lines.append(f"{head:<{column}}{wrapped[0]}")
        lines.extend(" " * column + more for more in wrapped[1:])
    return lines


def command_help(command: Command, path: str) -> str:
    """The whole help of one command."""
    parts = [command.usage_line(path), "", command.short]
    if command.aliases:
        parts += ["", "Aliases:", "  " + ", ".join(command.aliases)]
    if any(not flag.hidden for flag in command.flags):
        parts += ["", "Options:", *flag_lines(command.flags)]
    return "\n".join(parts)


def group_help(path: str, usage: str, short: str, sections: Sequence[tuple[str, dict[str, str]]]) -> list[str]:
    """The head of a group's help: usage, description, and each section's commands with their short texts."""
    parts = [f"Usage:  {path} {usage}", "", short]
    pad = max((len(name) for _, commands in sections for name in commands), default=0)
    for title, commands in sections:
        parts += ["", f"{title}:"]
        parts += [f"  {name:<{max(pad, 11)}} {text}" for name, text in commands.items()]
    return parts
