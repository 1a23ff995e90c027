"""`pyd logs`."""

from __future__ import annotations

from pyd_cli import terminal
from pyd_cli.command import Command
from pyd_cli.errors import CliError
from pyd_cli.flags import Flag, Options
from pyd_cli.session import Session
from pyd_cli.units import timestamp

FLAGS = (
    Flag("details", "", "bool", "Show extra details provided to logs"),
    Flag("follow", "f", "bool", "Follow log output"),
    Flag(
        "since",
        "",
        "string",
        'Show logs since timestamp (e.g. "2013-01-02T13:23:37Z") or relative (e.g. "42m" for 42 minutes)',
    ),
    Flag("tail", "n", "string", "Number of lines to show from the end of the logs", "all"),
    Flag("timestamps", "t", "bool", "Show timestamps"),
    Flag(
        "until",
        "",
        "string",
        'Show logs before a timestamp (e.g. "2013-01-02T13:23:37Z") or relative (e.g. "42m" for 42 minutes)',
    ),
)


def moment(options: Options, name: str) -> str:
    """The value of --since or --until as the API takes it; "" when it was not given."""
    if not options[name]:
        return ""
    try:
        return timestamp(options[name])
    except ValueError as fault:
        raise CliError(f'invalid value for "{name}": {fault}') from None


def execute(session: Session, options: Options, args: list[str]) -> None:
    query = {
        "stdout": True,
        "stderr": True,
        "since": moment(options, "since"),
        "until": moment(options, "until"),
        "timestamps": options["timestamps"],
        "follow": options["follow"],
        "tail": options["tail"],
        "details": options["details"],
    }
    container = session.api.get(f"/containers/{args[0]}/json")
    response = session.api.call("GET", f"/containers/{container['Id']}/logs", query)
    from pyd_cli.hijack import copy_output

    terminal.flush()
    try:
        copy_output(response.chunks(), framed=not container["Config"].get("Tty"))
    finally:
        response.close()


logs = Command(
    "logs",
    "[OPTIONS] CONTAINER",
    "Fetch the logs of a container",
    execute,
    FLAGS,
    (1, 1),
    ("pyd container logs", "pyd logs"),
)
