"""`pyd login`, `pyd logout`: credentials go where docker's command line keeps them, so that both know them."""

from __future__ import annotations

import base64
import sys
from typing import Any

from pyd_cli.command import Command
from pyd_cli.credentials import hostname
from pyd_cli.errors import CliError
from pyd_cli.flags import Flag, Options
from pyd_cli.references import HUB_KEY
from pyd_cli.session import Session
from pyd_cli.userconfig import save

FLAGS = (
    Flag("password", "p", "string", "Password or Personal Access Token (PAT)"),
    Flag("password-stdin", "", "bool", "Take the Password or Personal Access Token (PAT) from stdin"),
    Flag("username", "u", "string", "Username"),
)


def key_of(args: list[str]) -> str:
    """The key of a registry's credentials in config.json."""
    server = args[0] if args else ""
    if server in ("", "docker.io", "index.docker.io", "registry-1.docker.io", HUB_KEY):
        return HUB_KEY
    return hostname(server)


def secret(options: Options) -> tuple[str, str]:
    """(user name, password), asking for what was not given."""
    name, password = options["username"], options["password"]
    if password and options["password-stdin"]:
        raise CliError("--password and --password-stdin are mutually exclusive")
    if options["password-stdin"]:
        if not name:
            raise CliError("Must provide --username with --password-stdin")
        password = sys.stdin.read().rstrip("\r\n")
    if password and not options["password-stdin"]:
        print("WARNING! Using --password via the CLI is insecure. Use --password-stdin.", file=sys.stderr)
    if not (name and password):
        if not sys.stdin.isatty():
            raise CliError("Error: Cannot perform an interactive login from a non TTY device")
        name = name or input("Username: ").strip()
        import getpass

        password = password or getpass.getpass("Password: ")
    if not name or not password:
        raise CliError(f"Error: {'Username' if not name else 'Password'} Required")
    return name, password


def execute_login(session: Session, options: Options, args: list[str]) -> None:
    if session.config.get("credsStore"):
        raise CliError(
            f"config.json keeps credentials in docker-credential-{session.config['credsStore']}, "
            "which pyd reads but does not write: remove credsStore, or log in with that helper's own program"
        )
    key = key_of(args)
    name, password = secret(options)
    asked = {"username": name, "password": password, "serveraddress": key}
    answer = session.api.post("/auth", None, asked) or {}
    config = session.config
    entry: dict[str, Any] = {"auth": base64.b64encode(f"{name}:{password}".encode()).decode()}
    if answer.get("IdentityToken"):
        entry = {"auth": base64.b64encode(f"{name}:".encode()).decode(), "identitytoken": answer["IdentityToken"]}
    config.setdefault("auths", {})[key] = entry
    save(session.config_dir, config)
    session.complain(
        f"\nWARNING! Your credentials are stored unencrypted in '{session.config_dir}/config.json'.\n"
        "Configure a credential helper to remove this warning.\n"
    )
    session.say(answer.get("Status") or "Login Succeeded")


def execute_logout(session: Session, _options: Options, args: list[str]) -> None:
    key = key_of(args)
    session.say(f"Removing login credentials for {key}")
    auths = session.config.get("auths") or {}
    doomed = [name for name in auths if name == key or hostname(name) == hostname(key)]
    for name in doomed:
        del auths[name]
    if doomed:
        save(session.config_dir, session.config)


login = Command(
    "login",
    "[OPTIONS] [SERVER]",
    "Authenticate to a registry.\nDefaults to Docker Hub if no server is specified.",
    execute_login,
    FLAGS,
    (0, 1),
)
logout = Command(
    "logout",
    "[SERVER]",
    "Log out from a registry.\nIf no server is specified, the default is Docker Hub.",
    execute_logout,
    count=(0, 1),
)
