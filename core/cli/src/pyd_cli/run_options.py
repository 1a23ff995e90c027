"""The flags of `run` and `create` as the body of `POST /containers/create`.

Fields that say nothing are left out: the daemon's defaults are the daemon's. What docker's command line sends for
the same flags was the pattern; a table of recorded bodies is in the tests.
"""

from __future__ import annotations

from typing import Any

from pyd_cli import run_values as values
from pyd_cli.errors import CliError
from pyd_cli.flags import Options
from pyd_cli.run_mounts import volumes
from pyd_cli.run_ports import bindings

SIMPLE_HOST = {
    "blkio-weight": "BlkioWeight",
    "blkio-weight-device": "BlkioWeightDevice",
    "cgroup-parent": "CgroupParent",
    "cgroupns": "CgroupnsMode",
    "cidfile": "ContainerIDFile",
    "cpu-count": "CpuCount",
    "cpu-percent": "CpuPercent",
    "cpu-period": "CpuPeriod",
    "cpu-quota": "CpuQuota",
    "cpu-rt-period": "CpuRealtimePeriod",
    "cpu-rt-runtime": "CpuRealtimeRuntime",
    "cpu-shares": "CpuShares",
    "cpus": "NanoCpus",
    "cpuset-cpus": "CpusetCpus",
    "cpuset-mems": "CpusetMems",
    "device": "Devices",
    "device-cgroup-rule": "DeviceCgroupRules",
    "device-read-bps": "BlkioDeviceReadBps",
    "device-read-iops": "BlkioDeviceReadIOps",
    "device-write-bps": "BlkioDeviceWriteBps",
    "device-write-iops": "BlkioDeviceWriteIOps",
    "dns": "Dns",
    "dns-search": "DnsSearch",
    "add-host": "ExtraHosts",
    "gpus": "DeviceRequests",
    "group-add": "GroupAdd",
    "io-maxbandwidth": "IOMaximumBandwidth",
    "io-maxiops": "IOMaximumIOps",
    "ipc": "IpcMode",
    "isolation": "Isolation",
    "kernel-memory": "KernelMemory",
    "memory": "Memory",
    "memory-reservation": "MemoryReservation",
    "memory-swap": "MemorySwap",
    "mount": "Mounts",
    "oom-kill-disable": "OomKillDisable",
    "oom-score-adj": "OomScoreAdj",
    "pid": "PidMode",
    "pids-limit": "PidsLimit",
    "privileged": "Privileged",
    "publish-all": "PublishAllPorts",
    "read-only": "ReadonlyRootfs",
    "rm": "AutoRemove",
    "runtime": "Runtime",
    "shm-size": "ShmSize",
    "userns": "UsernsMode",
    "uts": "UTSMode",
    "volume-driver": "VolumeDriver",
    "volumes-from": "VolumesFrom",
}
SIMPLE_CONFIG = {
    "hostname": "Hostname",
    "domainname": "Domainname",
    "user": "User",
    "workdir": "WorkingDir",
    "tty": "Tty",
    "interactive": "OpenStdin",
    "stop-signal": "StopSignal",
}
MAPS = {"annotation": "Annotations", "storage-opt": "StorageOpt", "sysctl": "Sysctls"}


def create_body(options: Options, image: str, command: list[str]) -> dict[str, Any]:
    """The body. CliError (code 125) for flags that make no sense, alone or together."""
    _check(options)
    binds, anonymous = volumes(options["volume"])
    exposed, bound = bindings(options["publish"], options["expose"])
    attached = options["attach"] or (["stdout", "stderr"] + (["stdin"] if options["interactive"] else []))
    config: dict[str, Any] = {
        "Image": image,
        "AttachStdin": "stdin" in attached,
        "AttachStdout": "stdout" in attached,
        "AttachStderr": "stderr" in attached,
        **{field: options[flag] for flag, field in SIMPLE_CONFIG.items() if options[flag]},
    }
    if options["interactive"] and "stdin" in attached:
        config["StdinOnce"] = True
    if command:
        config["Cmd"] = command
    if options.was_given("entrypoint"):
        config["Entrypoint"] = [options["entrypoint"]]
    if environment := environment_of(options):
        config["Env"] = environment
    labels = [line for path in options["label-file"] for line in values.read_env_file(path)] + options["label"]
    if labels:
        config["Labels"] = values.as_map(labels)
    if exposed:
        config["ExposedPorts"] = exposed
    if anonymous:
        config["Volumes"] = anonymous
    if options.was_given("stop-timeout"):
        config["StopTimeout"] = options["stop-timeout"]
    if health := healthcheck(options):
        config["Healthcheck"] = health
    mode, endpoints = networks(options)
    host = host_config(options)
    host["NetworkMode"] = mode
    if binds:
        host["Binds"] = binds
    if bound:
        host["PortBindings"] = bound
    config["HostConfig"] = host
    if endpoints:
        config["NetworkingConfig"] = {"EndpointsConfig": endpoints}
    return config


def _check(options: Options) -> None:
    if options["memory-swappiness"] != -1 and not 0 <= options["memory-swappiness"] <= 100:
        raise CliError(f"invalid value: {options['memory-swappiness']}. Valid memory swappiness range is 0-100", 125)
    for flag, mode in (("pid", "PID"), ("uts", "UTS"), ("userns", "USER"), ("cgroupns", "CGROUP")):
        text = options[flag]
        allowed = {
            "pid": ("", "host"),
            "uts": ("", "host"),
            "userns": ("", "host"),
            "cgroupns": ("", "host", "private"),
        }
        if text not in allowed[flag] and not (flag == "pid" and text.startswith("container:") and text[10:]):
            raise CliError(f"--{flag}: invalid {mode} mode", 125)
    if options["rm"] and options["restart"] not in ("no", ""):
        raise CliError("conflicting options: cannot specify both --restart and --rm", 125)


def environment_of(options: Options) -> list[str]:
    """The variables of `--env-file` and `-e`, files first."""
    from_files = [line for path in options["env-file"] for line in values.read_env_file(path)]
    return from_files + [values.filled(item) for item in options["env"]]


def host_config(options: Options) -> dict[str, Any]:
    host: dict[str, Any] = {field: options[flag] for flag, field in SIMPLE_HOST.items() if options[flag]}
    host.update({field: values.as_map(options[flag]) for flag, field in MAPS.items() if options[flag]})
    if options.was_given("init"):
        host["Init"] = options["init"]
    if options["memory-swappiness"] != -1:
        host["MemorySwappiness"] = options["memory-swappiness"]
    for flag, field in (("cap-add", "CapAdd"), ("cap-drop", "CapDrop")):
        if options[flag]:
            host[field] = list(dict.fromkeys(map(capability, options[flag])))
    if options["tmpfs"]:
        host["Tmpfs"] = {path: rest for path, _, rest in (item.partition(":") for item in options["tmpfs"])}
    if resolver := options["dns-opt"] + options["dns-option"]:
        host["DnsOptions"] = resolver
    if options["ulimit"]:
        latest = {limit["Name"]: limit for limit in options["ulimit"]}
        host["Ulimits"] = [latest[name] for name in sorted(latest)]
    requests = [each for each in options["device"] if "DeviceIDs" in each]
    if requests:
        host["Devices"] = [each for each in options["device"] if each not in requests]
        host["DeviceRequests"] = [*(options["gpus"] or ()), *requests]
    if options["link"]:
        host["Links"] = _links(options)
    if options["log-driver"] or options["log-opt"]:
        if options["log-driver"] == "none" and options["log-opt"]:
            raise CliError("invalid logging opts for driver none", 125)
        host["LogConfig"] = {"Type": options["log-driver"], "Config": values.as_map(options["log-opt"])}
    host["RestartPolicy"] = values.restart_policy(options["restart"])
    host.update(security(options["security-opt"]))
    return host


def _links(options: Options) -> list[str]:
    return [item if ":" in item else f"{item}:{item}" for item in options["link"]]


def capability(name: str) -> str:
    name = name.upper()
    return name if name == "ALL" or name.startswith("CAP_") else f"CAP_{name}"


def security(given: list[str]) -> dict[str, Any]:
    """SecurityOpt, with a seccomp profile read in; `systempaths=unconfined` becomes empty path lists."""
    host: dict[str, Any] = {}
    kept: list[str] = []
    for item in given:
        name, separator, value = item.partition("=") if "=" in item else item.partition(":")
        if not separator and item != "no-new-privileges":
            raise CliError(f'Invalid --security-opt: "{item}"', 125)
        if name == "systempaths" and value == "unconfined":
            host["MaskedPaths"] = host["ReadonlyPaths"] = []
            continue
        if name == "seccomp" and value not in ("unconfined", "builtin"):
            item = f"seccomp={_profile(value)}"
        kept.append(item)
    if kept:
        host["SecurityOpt"] = kept
    return host


def _profile(path: str) -> str:
    import json

    try:
        with open(path, encoding="utf-8") as file:
            return json.dumps(json.load(file), separators=(",", ":"), ensure_ascii=False)
    except OSError as fault:
        reason = (fault.strerror or str(fault)).lower()
        raise CliError(f"opening seccomp profile ({path}) failed: open {path}: {reason}", 125) from fault
    except ValueError as fault:
        raise CliError(f"compacting json for seccomp profile ({path}) failed: {fault}", 125) from fault


def healthcheck(options: Options) -> dict[str, Any] | None:
    given = {
        "Interval": options["health-interval"],
        "Timeout": options["health-timeout"],
        "StartPeriod": options["health-start-period"],
        "StartInterval": options["health-start-interval"],
        "Retries": options["health-retries"],
    }
    if options["no-healthcheck"]:
        if options["health-cmd"] or any(given.values()):
            raise CliError("--no-healthcheck conflicts with --health-* options", 125)
        return {"Test": ["NONE"]}
    for name, value in given.items():
        if value < 0:
            flag = {"StartPeriod": "start-period", "StartInterval": "start-interval"}.get(name, name.lower())
            raise CliError(f"--health-{flag} cannot be negative", 125)
    set_values = {name: value for name, value in given.items() if value}
    if options["health-cmd"]:
        return {"Test": ["CMD-SHELL", options["health-cmd"]], **set_values}
    return set_values or None


def networks(options: Options) -> tuple[str, dict[str, Any]]:
    """(NetworkMode, EndpointsConfig). The flags for an endpoint belong to the first network."""
    wanted = [network(text) for text in options["net"] + options["network"]]
    endpoint: dict[str, Any] = {}
    if aliases := options["net-alias"] + options["network-alias"]:
        endpoint["Aliases"] = aliases
    addresses = {
        "IPv4Address": options["ip"],
        "IPv6Address": options["ip6"],
        "LinkLocalIPs": options["link-local-ip"],
    }
    if addresses := {name: value for name, value in addresses.items() if value}:
        endpoint["IPAMConfig"] = addresses
    if options["mac-address"]:
        endpoint["MacAddress"] = options["mac-address"]
    if options["link"] and wanted and user_defined(wanted[0][0]):
        endpoint["Links"] = _links(options)  # there they are aliases
    if not wanted:
        return "default", {"default": endpoint} if endpoint else {}
    endpoints: dict[str, Any] = {}
    for at, (name, config) in enumerate(wanted):
        if name in endpoints:
            raise CliError(f"network {name!r} is specified multiple times".replace("'", '"'), 125)
        if len(wanted) > 1 and (name in ("host", "none") or name.startswith("container:")):
            raise CliError(
                "conflicting options: cannot attach both user-defined and non-user-defined network-modes", 125
            )
        if not at:
            if clash := set(config) & set(endpoint):
                raise CliError(
                    f"conflicting options: cannot specify {sorted(clash)[0]} both in --network and as a flag", 125
                )
            config.update(endpoint)
        if config or len(wanted) > 1 or user_defined(name):
            endpoints[name] = config
    return wanted[0][0], endpoints


def user_defined(name: str) -> bool:
    return name not in ("default", "bridge", "host", "none") and not name.startswith("container:")


def network(text: str) -> tuple[str, dict[str, Any]]:
    """A `--network` value, a name or `name=n,alias=a,ip=…`, as (name, endpoint settings)."""
    if "=" not in text:
        return text or "default", {}
    name = ""
    endpoint: dict[str, Any] = {}
    for field in values.csv_fields(text):
        key, equals, value = field.partition("=")
        key = key.strip().lower()
        if not equals or not value:
            raise CliError(f"invalid field {field}", 125)
        if key == "name":
            name = value
        elif key == "alias":
            endpoint.setdefault("Aliases", []).append(value)
        elif key == "driver-opt":
            option, separator, content = value.partition("=")
            if not separator:
                raise CliError(f"invalid key value pair in driver-opt: {value}", 125)
            endpoint.setdefault("DriverOpts", {})[option] = content
        elif key in ("ip", "ip6"):
            endpoint.setdefault("IPAMConfig", {})["IPv4Address" if key == "ip" else "IPv6Address"] = value
        elif key == "link-local-ip":
            endpoint.setdefault("IPAMConfig", {}).setdefault("LinkLocalIPs", []).append(value)
        elif key == "mac-address":
            endpoint["MacAddress"] = value
        elif key == "gw-priority":
            try:
                endpoint["GwPriority"] = int(value)
            except ValueError:
                raise CliError(f"invalid gw-priority ({value}): must be a number", 125) from None
        else:
            raise CliError(f"invalid field key {key}", 125)
    if not name:
        raise CliError(f"no name in --network {text}", 125)
    return name, endpoint
