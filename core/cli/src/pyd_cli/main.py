"""The entry point: `pyd`, its global flags, and a group that imports a command's module when the command is used."""

from __future__ import annotations

import gc
import os
import sys
from typing import TYPE_CHECKING, NoReturn

from pyd_cli.lazy import defer

gc.set_threshold(50_000)  # importing makes no garbage, and looking for it takes a tenth of the start
defer("inspect")

import click  # noqa: E402  (after the modules it would load for nothing are deferred)

from pyd_cli.catalog import GROUPS, SECTIONS, Entry  # noqa: E402
from pyd_cli.errors import CliError, UsageError  # noqa: E402
from pyd_cli.flags import Flag, HelpRequested, Options, parse  # noqa: E402

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

COMPLETION = "_PYD_COMPLETE"  # click's shell scripts set it when they ask for completions

GLOBAL_FLAGS = (
    Flag("config", "", "string", 'Location of client config files (default "~/.docker")'),
    Flag("debug", "D", "bool", "Enable debug mode"),
    Flag("host", "H", "list", "Daemon socket to connect to"),
    Flag("log-level", "l", "string", 'Set the logging level ("debug", "info", "warn", "error", "fatal")', "info"),
    Flag("tls", "", "bool", "Use TLS; implied by --tlsverify"),
    Flag("tlscacert", "", "string", "Trust certs signed only by this CA"),
    Flag("tlscert", "", "string", "Path to TLS certificate file"),
    Flag("tlskey", "", "string", "Path to TLS key file"),
    Flag("tlsverify", "", "bool", "Use TLS and verify the remote"),
    Flag("version", "v", "bool", "Print version information and quit"),
)


class LazyGroup(click.Group):
    """A group of commands that are known by name and imported on use."""

    def __init__(self, name: str, entries: dict[str, Entry], short: str = "") -> None:
        super().__init__(name, add_help_option=False, invoke_without_command=True, short_help=short)
        self.entries = entries
        self.short = short

    def list_commands(self, ctx: click.Context) -> list[str]:
        return [name for name, entry in self.entries.items() if not entry.hidden]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name in self.entries:
            entry = self.entries[cmd_name]
            if entry.group:
                return LazyGroup(cmd_name, GROUPS[entry.group], entry.short)
            return entry.load()
        return None

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """The commands, from the catalog: importing each for its short help would take too long at a Tab."""
        from click.shell_completion import CompletionItem

        names = [name for name in self.list_commands(ctx) if name.startswith(incomplete)]
        return [CompletionItem(name, help=self.entries[name].short) for name in sorted(names)]

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        ctx.args = args
        if ctx.resilient_parsing:  # shell completion only asks which command this would be
            return args
        if not args or args[0] in ("--help", "-h"):
            print(self.get_help(ctx), file=sys.stdout if args else sys.stderr)
            ctx.exit(0)
        if args[0].startswith("-"):
            flag = f"flag: {args[0]}" if args[0].startswith("--") else f"shorthand flag: {args[0][1:2]!r} in {args[0]}"
            path = ctx.command_path
            raise CliError(f"unknown {flag}\n\nUsage:  {path} COMMAND\n\nRun '{path} --help' for more information", 125)
        return args

    def invoke(self, ctx: click.Context) -> int | None:
        name, rest = ctx.args[0], ctx.args[1:]
        command = self.get_command(ctx, name)
        path = ctx.command_path
        if command is None:
            usage = "" if ctx.parent is None else f"Usage:  {path}\n\n"
            raise CliError(f"pyd: unknown command: {path} {name}\n\n{usage}Run '{path} --help' for more information", 1)
        with command.make_context(name, rest, parent=ctx) as inner:
            status: int | None = command.invoke(inner)
            return status

    def get_help(self, ctx: click.Context) -> str:
        from pyd_cli.helptext import group_help

        path = ctx.command_path
        shorts = {name: entry.short for name, entry in sorted(self.entries.items()) if not entry.hidden}
        lines = group_help(path, "COMMAND", self.short, [("Commands", shorts)])
        return "\n".join([*lines, "", f"Run '{path} COMMAND --help' for more information on a command."])


LEVELS = ("trace", "debug", "info", "warn", "warning", "error", "fatal", "panic")


class Root(LazyGroup):
    """`pyd` itself: the global flags, and the session made of them."""

    def __init__(self) -> None:
        super().__init__("pyd", GROUPS[""], "A container engine made of drivers")

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if ctx.resilient_parsing:
            ctx.args = completable(args)
            return ctx.args
        try:
            options, rest = parse(GLOBAL_FLAGS, args, interspersed=False)
        except HelpRequested:
            print(self.get_help(ctx))
            ctx.exit(0)
        except UsageError as fault:
            raise CliError(
                f"{fault}\n\nUsage:  pyd [OPTIONS] COMMAND [ARG...]\n\nRun 'pyd --help' for more information", 125
            ) from None
        if options["log-level"] not in LEVELS:
            raise CliError(f"Unable to parse logging level: {options['log-level']}", 1)
        if options["version"]:
            from pyd_cli import __version__

            print(f"pyd version {__version__}")
            ctx.exit(0)
        if not rest or rest == ["help"]:
            print(self.get_help(ctx))
            ctx.exit(0)
        if rest[0] == "help":
            rest = [*rest[1:], "--help"]
        ctx.obj = session_of(options)
        ctx.args = rest
        return rest

    def get_help(self, ctx: click.Context) -> str:
        from pyd_cli.helptext import flag_lines, group_help

        sections = [(title, {name: self.entries[name].short for name in names}) for title, names in SECTIONS]
        lines = group_help("pyd", "[OPTIONS] COMMAND", self.short, sections)
        lines += ["", "Global Options:", *flag_lines(GLOBAL_FLAGS)]
        return "\n".join([*lines, "", "Run 'pyd COMMAND --help' for more information on a command."])


def completable(args: list[str]) -> list[str]:
    """`args` from the command's name on, as far as they can be understood."""
    try:
        return parse(GLOBAL_FLAGS, args, interspersed=False)[1]
    except (HelpRequested, UsageError):
        return []


def session_of(options: Options) -> object:
    """The session the global flags ask for."""
    from pyd_cli.endpoint import Tls, chosen
    from pyd_cli.session import Session, default_config_dir

    directory = options["config"] or default_config_dir()
    verify = options["tlsverify"] or bool(os.environ.get("DOCKER_TLS_VERIFY"))
    tls = None
    if verify or options["tls"] or os.environ.get("DOCKER_TLS"):
        certs = os.environ.get("DOCKER_CERT_PATH") or directory
        tls = Tls(
            options["tlscacert"] or os.path.join(certs, "ca.pem"),
            options["tlscert"] or os.path.join(certs, "cert.pem"),
            options["tlskey"] or os.path.join(certs, "key.pem"),
            verify,
        )
    return Session(chosen(options["host"], tls), directory, options["debug"])


def invoke(argv: list[str]) -> int:
    """The exit status of the command. click's own `main` would print a line feed at Ctrl-C, which no shell expects."""
    root = Root()
    try:
        with root.make_context("pyd", argv) as ctx:
            return root.invoke(ctx) or 0
    except click.exceptions.Exit as done:
        return done.exit_code


def run(argv: list[str]) -> int:
    """The exit status of `pyd argv…`; messages are on stderr."""
    try:
        if os.environ.get(COMPLETION):
            Root().main(argv, prog_name="pyd", complete_var=COMPLETION)
        status = invoke(argv)
        sys.stdout.flush()
        return status
    except CliError as fault:
        sys.stdout.flush()
        if text := str(fault):
            print(text, file=sys.stderr)
        return fault.code
    except click.ClickException as fault:
        print(fault.format_message(), file=sys.stderr)
        return fault.exit_code
    except (KeyboardInterrupt, click.Abort):
        return 130
    except BrokenPipeError:
        # Whoever read our output has gone (`pyd ps | head -1`). Python would complain again when it flushes at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141


def main() -> NoReturn:
    """The console script."""
    sys.exit(run(sys.argv[1:]))
