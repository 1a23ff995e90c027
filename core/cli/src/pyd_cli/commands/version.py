"""`pyd version`: ours, and the daemon's. One request: `/version` itself says which API version the daemon speaks."""

from __future__ import annotations

import os
import sys
from typing import Any

from pyd_cli import __version__
from pyd_cli.api import NEWEST, as_json, checked
from pyd_cli.command import FORMAT_F, Command
from pyd_cli.errors import CliError
from pyd_cli.flags import Options
from pyd_cli.session import Session

MACHINES = {"x86_64": "amd64", "aarch64": "arm64", "armv7l": "arm", "i686": "386"}


def client_facts(agreed: str) -> dict[str, Any]:
    """What there is to say of this program."""
    system = os.uname()
    return {
        "Platform": {"Name": ""},
        "Version": __version__,
        "ApiVersion": agreed,
        "DefaultAPIVersion": NEWEST,
        "PythonVersion": "{}.{}.{}".format(*sys.version_info[:3]),
        "Os": sys.platform,
        "Arch": MACHINES.get(system.machine, system.machine),
        "Context": "default",
    }


def show(session: Session, options: Options, _args: list[str]) -> int:
    server: dict[str, Any] | None = None
    fault: CliError | None = None
    try:
        server = as_json(checked(session.api.client.request("GET", "/version")))
    except CliError as error:
        fault = error
    if server:
        session.api.agree(str(server.get("ApiVersion", "")))
    client = client_facts(session.api.version if server else NEWEST)
    if options["format"]:
        session.write(templated(options["format"], {"Client": client, "Server": server}))
    else:
        session.write(text(client, server))
    if fault is not None:
        session.complain(fault)
        return 1
    return 0


def templated(form: str, facts: dict[str, Any]) -> str:
    from pyd_cli.template_exec import Template, TemplateError

    try:
        template = Template("{{json .}}" if form == "json" else form, name="version", type_name="system.versionInfo")
    except TemplateError as fault:
        raise CliError(f"template parsing error: {fault}", 64) from None
    try:
        return template.execute(facts) + "\n"
    except TemplateError as fault:
        print()  # docker ends its empty output before it complains
        raise CliError(str(fault)) from None


def text(client: dict[str, Any], server: dict[str, Any] | None) -> str:
    """Both halves in docker's layout."""
    agreed = client["ApiVersion"]
    if agreed != NEWEST:
        agreed += f" (downgraded from {NEWEST})"
    lines = ["Client:"]
    pairs = [
        ("Version", client["Version"]),
        ("API version", agreed),
        ("Python version", client["PythonVersion"]),
        ("OS/Arch", f"{client['Os']}/{client['Arch']}"),
        ("Context", client["Context"]),
    ]
    lines += [f" {name + ':':<18} {value}" for name, value in pairs]
    if server is None:
        return "\n".join(lines) + "\n"
    platform = (server.get("Platform") or {}).get("Name", "")
    lines += ["", f"Server: {platform}".rstrip()]
    components = server.get("Components") or [engine_of(server)]
    for component in components:
        lines += component_lines(component)
    return "\n".join(lines) + "\n"


def engine_of(server: dict[str, Any]) -> dict[str, Any]:
    """The engine's component, for daemons too old to list components (API < 1.35)."""
    names = ("ApiVersion", "MinAPIVersion", "GoVersion", "GitCommit", "BuildTime", "Os", "Arch", "Experimental")
    details = {
        name: str(server.get(name, "")).lower() if name == "Experimental" else server.get(name, "") for name in names
    }
    return {"Name": "Engine", "Version": server.get("Version", ""), "Details": details}


def component_lines(component: dict[str, Any]) -> list[str]:
    details: dict[str, str] = component.get("Details") or {}
    lines = [f" {component.get('Name', '')}:", f"  {'Version:':<17} {component.get('Version', '')}"]
    if component.get("Name") != "Engine":
        return lines + [f"  {name + ':':<17} {value}" for name, value in sorted(details.items())]
    version = details.get("ApiVersion", "")
    if minimum := details.get("MinAPIVersion"):
        version += f" (minimum version {minimum})"
    language = [(name, details[name + "Version"]) for name in ("Go", "Python") if details.get(name + "Version")]
    pairs = [("API version", version), *((f"{name} version", value) for name, value in language)]
    pairs += [
        ("Git commit", details.get("GitCommit", "")),
        ("Built", built(details.get("BuildTime", ""))),
        ("OS/Arch", f"{details.get('Os', '')}/{details.get('Arch', '')}"),
        ("Experimental", details.get("Experimental", "")),
    ]
    return lines + [f"  {name + ':':<17} {value}" for name, value in pairs if value]


def built(text: str) -> str:
    """A build time as `Thu May  7 21:09:36 2026`; what is no RFC 3339 time stays as it is."""
    if "T" not in text:
        return text
    import time

    from pyd_cli.units import rfc3339

    try:
        return time.asctime(time.gmtime(rfc3339(text)))
    except ValueError:
        return text


version = Command("version", "[OPTIONS]", "Show the pyd version information", show, (FORMAT_F,))
