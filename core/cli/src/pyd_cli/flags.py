"""Flags: how they are declared, and how argv becomes values.

The grammar is the one docker's users (and scripts) rely on, which is Go's pflag and not getopt's: `--rm=false`,
`-it`, `-eA=1`, `-e=A=1`, `--name x`, `--name=x`, and for `run` and `exec` no flag after the first argument.
click's own parser knows neither switches with a value nor `-e=A`, so the commands parse here and use click for
the rest (contexts, lazy groups, shell completion).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from pyd_cli.errors import UsageError

TRUE = ("1", "t", "T", "TRUE", "true", "True")
FALSE = ("0", "f", "F", "FALSE", "false", "False")


def parse_bool(text: str) -> bool:
    """A boolean as Go's strconv.ParseBool reads it."""
    if text in TRUE:
        return True
    if text in FALSE:
        return False
    raise ValueError(f'strconv.ParseBool: parsing "{text}": invalid syntax')


def parse_int(text: str) -> int:
    """A whole number as Go's strconv.ParseInt(text, 0, 64) reads it: 0x, 0o and 0b prefixes count."""
    try:
        number = int(text, 0) if text.lstrip("+-")[:1] == "0" and len(text.lstrip("+-")) > 1 else int(text)
    except ValueError:
        raise ValueError(f'strconv.ParseInt: parsing "{text}": invalid syntax') from None
    if not -(1 << 63) <= number < 1 << 63:
        raise ValueError(f'strconv.ParseInt: parsing "{text}": value out of range')
    return number


class Flag:
    """One flag. `kind` is what help shows as its value's type; `bool` takes none.

    list and filter kinds may be given several times and collect; the others keep the last value.
    `convert` turns the text into the value and raises ValueError with the reason it cannot.
    """

    __slots__ = ("convert", "default", "help", "hidden", "kind", "many", "name", "short")

    def __init__(
        self,
        name: str,
        short: str,
        kind: str,
        text: str,
        default: Any = None,
        convert: Callable[[str], Any] | None = None,
        many: bool | None = None,
        hidden: bool = False,
    ) -> None:
        self.name = name
        self.short = short
        self.kind = kind
        self.help = text
        self.many = kind in ("list", "filter", "map", "strings") if many is None else many
        if default is None:
            default = False if kind == "bool" else 0 if kind in ("int", "uint16") else "" if kind == "string" else None
        self.default = default
        self.hidden = hidden
        if convert is None:
            convert = parse_bool if kind == "bool" else parse_int if kind in ("int", "uint16") else None
        self.convert = convert

    @property
    def spelling(self) -> str:
        """How error texts name the flag: `-m, --memory` or `--cpus`."""
        return f"-{self.short}, --{self.name}" if self.short else f"--{self.name}"

    def read(self, text: str) -> Any:
        """The value of `text`. UsageError says which flag and why."""
        if self.convert is None:
            return text
        try:
            return self.convert(text)
        except ValueError as fault:
            raise UsageError(f'invalid argument "{text}" for "{self.spelling}" flag: {fault}') from None


class Options:
    """The values of a command's flags, by flag name; `given` holds the names that stood on the command line."""

    __slots__ = ("given", "values")

    def __init__(self, flags: Iterable[Flag]) -> None:
        self.values: dict[str, Any] = {flag.name: [] if flag.many else flag.default for flag in flags}
        self.given: set[str] = set()

    def __getitem__(self, name: str) -> Any:
        return self.values[name]

    def __contains__(self, name: str) -> bool:
        return name in self.values

    def was_given(self, name: str) -> bool:
        return name in self.given


class HelpRequested(Exception):
    """`--help` stood on the command line, or (with `short`) the `-h` of old."""

    def __init__(self, short: bool = False) -> None:
        super().__init__()
        self.short = short


def parse(flags: Iterable[Flag], argv: list[str], interspersed: bool = True) -> tuple[Options, list[str]]:
    """The flags' values and the remaining arguments. Raises UsageError, or HelpRequested at `--help`."""
    flags = list(flags)
    long = {flag.name: flag for flag in flags}
    short = {flag.short: flag for flag in flags if flag.short}
    options = Options(flags)
    rest: list[str] = []
    queue = list(reversed(argv))
    while queue:
        word = queue.pop()
        if word == "--":
            rest.extend(reversed(queue))
            break
        if word.startswith("--"):
            _long(word, long, queue, options)
        elif word.startswith("-") and word != "-":
            _short(word, short, queue, options)
        else:
            rest.append(word)
            if not interspersed:
                rest.extend(reversed(queue))
                break
    return options, rest


def _store(options: Options, flag: Flag, text: str) -> None:
    value = flag.read(text)
    if not flag.many:
        options.values[flag.name] = value
    elif flag.kind == "strings":
        options.values[flag.name].extend(value.split(","))
    else:
        options.values[flag.name].append(value)
    options.given.add(flag.name)


def _long(word: str, flags: dict[str, Flag], queue: list[str], options: Options) -> None:
    name, equals, text = word[2:].partition("=")
    flag = flags.get(name)
    if flag is None:
        if name == "help":
            raise HelpRequested
        raise UsageError(f"unknown flag: --{name}" if name else f"bad flag syntax: {word}")
    if not equals:
        if flag.kind == "bool":
            text = "true"
        elif queue:
            text = queue.pop()
        else:
            raise UsageError(f"flag needs an argument: --{name}")
    _store(options, flag, text)


def _short(word: str, flags: dict[str, Flag], queue: list[str], options: Options) -> None:
    letters = word[1:]
    while letters:
        letter, letters = letters[0], letters[1:]
        flag = flags.get(letter)
        if flag is None:
            if letter == "h":
                raise HelpRequested(short=True)
            raise UsageError(f"unknown shorthand flag: '{letter}' in {word}")
        if letters.startswith("="):
            text, letters = letters[1:], ""
        elif flag.kind == "bool":
            text = "true"
        elif letters:
            text, letters = letters, ""
        elif queue:
            text = queue.pop()
        else:
            raise UsageError(f"flag needs an argument: '{letter}' in {word}")
        _store(options, flag, text)
