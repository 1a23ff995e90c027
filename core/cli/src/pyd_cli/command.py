"""A command: its flags, its usage line, and the function that runs it.

click keeps contexts, groups and shell completion; parsing (`flags`) and the layout of help are docker's, so that
what people know and what scripts match on stays true.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import click

from pyd_cli.errors import CliError, UsageError
from pyd_cli.flags import Flag, HelpRequested, Options, parse
from pyd_cli.session import Session

FORMAT_HELP = "Format output using a custom template: 'table', 'table TEMPLATE', 'json' or 'TEMPLATE' (a Go template)"
FORMAT = Flag("format", "", "string", FORMAT_HELP)
FORMAT_F = Flag("format", "f", "string", "Format output using a custom template: 'json' or 'TEMPLATE' (a Go template)")


def filter_value(text: str) -> str:
    if "=" not in text:
        raise ValueError("bad format of filter (expected name=value)")
    return text


FILTER = Flag("filter", "f", "filter", "Filter output based on conditions provided", convert=filter_value)
FORCE = Flag("force", "f", "bool", "Do not prompt for confirmation")
DETACH_KEYS = Flag("detach-keys", "", "string", "Override the key sequence for detaching a container")
PLATFORM = Flag("platform", "", "string", "Set platform if server is multi-platform capable")

UNLIMITED = -1
Action = Callable[[Session, Options, list[str]], "int | None"]


class Command(click.Command):
    """One command.

    `usage` is what follows the command's path in the usage line; `count` the least and the greatest number of
    arguments. `run` gets the session, the flags' values and the arguments, and returns the exit status (None is 0).
    """

    def __init__(
        self,
        name: str,
        usage: str,
        short: str,
        run: Action,
        flags: Sequence[Flag] = (),
        count: tuple[int, int] = (0, 0),
        aliases: Sequence[str] = (),
        interspersed: bool = True,
    ) -> None:
        super().__init__(name, add_help_option=False, short_help=short)
        self.usage_tail = usage
        self.short = short
        self.action = run
        self.flags = flags
        self.count = count
        self.aliases = aliases
        self.interspersed = interspersed

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        path = ctx.command_path
        if ctx.resilient_parsing:  # shell completion: half a line is no usage error
            return args
        try:
            options, rest = parse(self.flags, args, self.interspersed)
        except HelpRequested as asked:
            if asked.short:
                print("Flag shorthand -h has been deprecated, use --help")
            print(self.get_help(ctx))
            ctx.exit(0)
        except UsageError as fault:
            raise CliError(
                f"{fault}\n\n{self.usage_line(path)}\n\nRun '{path} --help' for more information", 125
            ) from None
        self._check_count(path, len(rest))
        ctx.meta["pyd.options"] = options
        ctx.args = rest
        return rest

    def _check_count(self, path: str, given: int) -> None:
        least, most = self.count
        if given >= least and (most == UNLIMITED or given <= most):
            return
        if most == 0:
            need = "accepts no arguments"
        elif least == most:
            need = f"requires {least} argument{'s' if least > 1 else ''}"
        elif given < least:
            need = f"requires at least {least} argument{'s' if least > 1 else ''}"
        else:
            need = f"requires at most {most} argument{'s' if most > 1 else ''}"
        hint = "See" if most == UNLIMITED else "Run"
        raise CliError(
            f"pyd: '{path}' {need}\n\n{self.usage_line(path)}\n\n{hint} '{path} --help' for more information", 1
        )

    def invoke(self, ctx: click.Context) -> int | None:
        return self.action(ctx.obj, ctx.meta["pyd.options"], ctx.args)

    def usage_line(self, path: str) -> str:
        return f"Usage:  {path} {self.usage_tail}".rstrip()

    def get_help(self, ctx: click.Context) -> str:
        from pyd_cli.helptext import command_help

        return command_help(self, ctx.command_path)

    def get_params(self, ctx: click.Context) -> list[click.Parameter]:
        """The flags as click knows them: what its shell completion offers."""
        options: list[click.Parameter] = []
        for flag in self.flags:
            names = [f"--{flag.name}"] + ([f"-{flag.short}"] if flag.short else [])
            options.append(click.Option(names, is_flag=flag.kind == "bool", multiple=flag.many, help=flag.help))
        return options
