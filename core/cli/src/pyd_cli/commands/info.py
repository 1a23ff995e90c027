"""`pyd info`: what docker's shows, then the drivers the daemon is composed of; `--config` shows its settings."""

from __future__ import annotations

from typing import Any

from pyd_cli import __version__
from pyd_cli.command import FORMAT_F, Command
from pyd_cli.errors import CliError
from pyd_cli.flags import Flag, Options
from pyd_cli.session import Session
from pyd_cli.tables import aligned, escaped, table
from pyd_cli.units import binary_size

FLAGS = (
    FORMAT_F,
    Flag("config", "", "bool", "Show the daemon's effective configuration, and where each value is from"),
)


def execute(session: Session, options: Options, _args: list[str]) -> int:
    if options["config"]:
        session.write(settings(session.api.get("/info")))
        return 0
    client = {
        "Debug": session.debug, "Version": __version__, "Context": "default", "Plugins": [], "Warnings": None,
    }  # fmt: skip
    fault: CliError | None = None
    server: dict[str, Any] = {}
    if options["format"]:
        try:
            server = session.api.get("/info")
        except CliError as error:
            fault = error
        session.write(templated(options["format"], {**server, "ClientInfo": client}))
    else:
        lines = ["Client:", f" Version:    {__version__}", " Context:    default"]
        lines += [f" Debug Mode: {shown(session.debug)}", "", "Server:"]
        try:
            server = session.api.get("/info")
            lines += [f" {line}" for line in server_lines(server)]
            lines += [*drivers(server), ""]
        except CliError as error:
            fault = error
        session.write("\n".join(lines) + "\n")
        for warning in server.get("Warnings") or []:
            session.complain(warning)
    if fault is not None:
        session.complain(fault)
        return 1
    return 0


def templated(form: str, facts: dict[str, Any]) -> str:
    from pyd_cli.template_exec import Template, TemplateError

    try:
        template = Template("{{json .}}" if form == "json" else form, type_name="system.dockerInfo")
    except TemplateError as fault:
        raise CliError(f"template parsing error: {fault}", 64) from None
    try:
        return template.execute(facts) + "\n"
    except TemplateError as fault:
        print()  # docker ends its empty output before it complains
        raise CliError(str(fault)) from None


def settings(server: dict[str, Any]) -> str:
    """The table of the effective configuration."""
    found = server.get("Config")
    if not isinstance(found, list):
        raise CliError("this daemon does not report its configuration (only pydd does)")
    return table(("KEY", "VALUE", "ORIGIN"), ((item["Key"], str(item["Value"]), item["Origin"]) for item in found))


def drivers(server: dict[str, Any]) -> list[str]:
    """The block that says which drivers are installed, and what became of each."""
    found = server.get("Drivers")
    if not isinstance(found, list):
        return []
    rows = [["KIND", "NAME", "DISTRIBUTION", "VERSION", "STATE", "REASON"]]
    for item in found:
        name = item.get("Name", "") + (" *" if item.get("Default") else "")
        cells = [item.get("Kind", ""), name, item.get("Distribution", ""), item.get("Version", "")]
        rows.append([escaped(str(cell)) for cell in (*cells, item.get("State", ""), item.get("Reason") or "")])
    return [" Drivers:", *(f"  {line}".rstrip() for line in aligned(rows, min_width=0))]


def shown(value: Any) -> str:
    return "true" if value is True else "false" if value is False else str(value)


def server_lines(info: dict[str, Any]) -> list[str]:
    """The daemon's half in docker's layout, without the indent of one blank that every line gets."""
    lines = [
        f"Containers: {info.get('Containers', 0)}",
        f" Running: {info.get('ContainersRunning', 0)}",
        f" Paused: {info.get('ContainersPaused', 0)}",
        f" Stopped: {info.get('ContainersStopped', 0)}",
        f"Images: {info.get('Images', 0)}",
    ]
    lines += some("Server Version", info.get("ServerVersion"))
    lines += some("Storage Driver", info.get("Driver"))
    lines += [f" {pair[0]}: {pair[1]}" for pair in info.get("DriverStatus") or []]
    lines += [f"{pair[0]}: {pair[1]}" for pair in info.get("SystemStatus") or []]
    lines += some("Logging Driver", info.get("LoggingDriver"))
    lines += some("Cgroup Driver", info.get("CgroupDriver"))
    lines += some("Cgroup Version", info.get("CgroupVersion"))
    plugins = info.get("Plugins") or {}
    lines += ["Plugins:", *(f" {kind}: {' '.join(plugins.get(kind) or [])}" for kind in ("Volume", "Network"))]
    lines += [f" {kind}: {' '.join(plugins[kind])}" for kind in ("Authorization", "Log") if plugins.get(kind)]
    if devices := info.get("CDISpecDirs"):
        lines += ["CDI spec directories:", *(f" {path}" for path in devices)]
    lines.append(f"Swarm: {(info.get('Swarm') or {}).get('LocalNodeState') or 'inactive'}")
    lines += runtimes(info)
    lines += security(info)
    lines += [
        *some("Kernel Version", info.get("KernelVersion")),
        *some("Operating System", info.get("OperatingSystem")),
    ]
    lines += [*some("OSType", info.get("OSType")), *some("Architecture", info.get("Architecture"))]
    lines += [f"CPUs: {info.get('NCPU', 0)}", f"Total Memory: {binary_size(info.get('MemTotal') or 0)}"]
    lines += [*some("Name", info.get("Name")), *some("ID", info.get("ID"))]
    lines += [f"Docker Root Dir: {info.get('DockerRootDir', '')}", f"Debug Mode: {shown(bool(info.get('Debug')))}"]
    if info.get("Debug"):
        lines += [f" File Descriptors: {info.get('NFd', 0)}", f" Goroutines: {info.get('NGoroutines', 0)}"]
        lines += [f" System Time: {info.get('SystemTime', '')}", f" EventsListeners: {info.get('NEventsListener', 0)}"]
    for name, key in (("HTTP Proxy", "HttpProxy"), ("HTTPS Proxy", "HttpsProxy"), ("No Proxy", "NoProxy")):
        lines += some(name, info.get(key))
    if info.get("Labels"):
        lines += ["Labels:", *(f" {label}" for label in info["Labels"])]
    lines.append(f"Experimental: {shown(bool(info.get('ExperimentalBuild')))}")
    lines += registries(info)
    lines += [f"Live Restore Enabled: {shown(bool(info.get('LiveRestoreEnabled')))}"]
    lines += some("Product License", info.get("ProductLicense"))
    if pools := info.get("DefaultAddressPools"):
        lines += ["Default Address Pools:", *(f"  Base: {pool['Base']}, Size: {pool['Size']}" for pool in pools)]
    if firewall := info.get("FirewallBackend"):
        lines.append(f"Firewall Backend: {firewall.get('Driver', '')}")
    return [escaped(line) for line in lines]


def some(name: str, value: Any) -> list[str]:
    return [f"{name}: {value}"] if value else []


def runtimes(info: dict[str, Any]) -> list[str]:
    lines = []
    if info.get("OSType") == "linux":
        lines.append(f"Runtimes: {' '.join(sorted(info.get('Runtimes') or {}))}")
        lines.append(f"Default Runtime: {info.get('DefaultRuntime', '')}")
        lines.append(f"Init Binary: {info.get('InitBinary', '')}")
        for name, key in (("containerd", "ContainerdCommit"), ("runc", "RuncCommit"), ("init", "InitCommit")):
            lines.append(f"{name} version: {(info.get(key) or {}).get('ID', '')}")
    return lines


def security(info: dict[str, Any]) -> list[str]:
    """`name=seccomp,profile=default` as a name with its settings below it."""
    if not info.get("SecurityOptions"):
        return []
    lines = ["Security Options:"]
    for option in info["SecurityOptions"]:
        pairs = [field.partition("=") for field in option.split(",")]
        name = next((value for key, _, value in pairs if key == "name"), option)
        lines.append(f" {name}")
        lines += [f"  {key[:1].upper()}{key[1:]}: {value}" for key, _, value in pairs if key != "name" and value]
    return lines


def registries(info: dict[str, Any]) -> list[str]:
    config = info.get("RegistryConfig") or {}
    lines = []
    insecure = [
        name for name, entry in (config.get("IndexConfigs") or {}).items() if not entry.get("Secure", True)
    ] + list(config.get("InsecureRegistryCIDRs") or [])
    if insecure:
        lines += ["Insecure Registries:", *(f" {name}" for name in insecure)]
    if config.get("Mirrors"):
        lines += ["Registry Mirrors:", *(f" {mirror}" for mirror in config["Mirrors"])]
    return lines


info = Command(
    "info", "[OPTIONS]", "Display system-wide information", execute, FLAGS, aliases=("pyd system info", "pyd info")
)
