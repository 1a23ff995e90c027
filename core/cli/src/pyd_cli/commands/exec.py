"""`pyd exec`."""

from __future__ import annotations

from typing import Any

from pyd_cli import attaching, terminal
from pyd_cli.command import DETACH_KEYS, UNLIMITED, Command
from pyd_cli.errors import CliError
from pyd_cli.flags import Flag, Options
from pyd_cli.run_options import environment_of
from pyd_cli.run_values import environment
from pyd_cli.session import Session

FLAGS = (
    Flag("detach", "d", "bool", "Detached mode: run command in the background"),
    DETACH_KEYS,
    Flag("env", "e", "list", "Set environment variables", convert=environment),
    Flag("env-file", "", "list", "Read in a file of environment variables"),
    Flag("interactive", "i", "bool", "Keep STDIN open even if not attached"),
    Flag("privileged", "", "bool", "Give extended privileges to the command"),
    Flag("tty", "t", "bool", "Allocate a pseudo-TTY"),
    Flag("user", "u", "string", 'Username or UID (format: "<name|uid>[:<group|gid>]")'),
    Flag("workdir", "w", "string", "Working directory inside the container"),
)


def execute(session: Session, options: Options, args: list[str]) -> int:
    tty, stdin, detach = options["tty"], options["interactive"], options["detach"]
    keys_text, keys = attaching.detach_keys(session, options["detach-keys"])
    if not detach:
        attaching.require_terminal(tty, stdin)
    rows, columns = terminal.size()
    body: dict[str, Any] = {
        "Cmd": args[1:],
        "Tty": tty,
        "User": options["user"],
        "WorkingDir": options["workdir"],
        "Privileged": options["privileged"],
        "Env": environment_of(options),
        "DetachKeys": keys_text,
        "Detach": detach,
        "AttachStdin": stdin and not detach,
        "AttachStdout": not detach,
        "AttachStderr": not detach,
    }
    start: dict[str, Any] = {"Detach": detach, "Tty": tty}
    if tty and rows and columns:
        body["ConsoleSize"] = start["ConsoleSize"] = [rows, columns]
    created = session.api.post(f"/containers/{args[0]}/exec", None, body) or {}
    identity = created.get("Id")
    if not identity:
        raise CliError("exec ID empty")
    path = f"/exec/{identity}"
    if detach:
        session.api.call("POST", f"{path}/start", None, start).close()
        return 0
    attached = session.api.hijack(f"{path}/start", None, start)
    if attaching.exchange(session, attached, path, tty, stdin, keys):
        return 0
    return int(session.api.get(f"{path}/json").get("ExitCode") or 0)


exec_ = Command(
    "exec",
    "[OPTIONS] CONTAINER COMMAND [ARG...]",
    "Execute a command in a running container",
    execute,
    FLAGS,
    (2, UNLIMITED),
    ("pyd container exec", "pyd exec"),
    interspersed=False,
)
