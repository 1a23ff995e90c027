"""Every key of the configuration file: its shape, its default, what it is for, its flag and variable if it has them.

The example file is made from this table, the messages for unknown keys too.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pyd_daemon.config.shapes import (
    BOOLEAN,
    HOSTS,
    LABELS,
    MIRRORS,
    NAMES,
    OPTIONS,
    PATH,
    POOLS,
    TEXT,
    Shape,
    integer,
    one_of,
    size,
)

__all__ = ["DRIVER_TABLES", "KEYS", "LOG_FORMATS", "LOG_LEVELS", "TABLES", "Key"]

LOG_LEVELS = ("debug", "info", "warning", "error")
LOG_FORMATS = ("text", "json")


@dataclass(frozen=True, slots=True)
class Key:
    """One key. *name* has the table before a dot; *default* is as the file would write it.

    flag, env  the command line option and the environment variable that set it, if any
    many       the flag may be given several times
    """

    name: str
    shape: Shape
    default: Any
    help: str
    flag: str = ""
    env: str = ""
    many: bool = False


# moby's ranges for local networks (daemon/libnetwork/ipamutils), so that hosts that move keep their addressing plan.
_POOLS = [
    {"base": "172.17.0.0/16", "size": 16},
    {"base": "172.18.0.0/16", "size": 16},
    {"base": "172.19.0.0/16", "size": 16},
    {"base": "172.20.0.0/14", "size": 16},
    {"base": "172.24.0.0/14", "size": 16},
    {"base": "172.28.0.0/14", "size": 16},
    {"base": "192.168.0.0/16", "size": 20},
]

_ALL = (
    Key(
        "data-root",
        PATH,
        "/var/lib/pyd",
        "Images, containers and metadata: what survives a reboot.",
        "--data-root",
        "PYD_DATA_ROOT",
    ),
    Key(
        "run-root",
        PATH,
        "/run/pyd",
        "Sockets, mount points, the state of what runs: what a reboot ends.",
        "--run-root",
        "PYD_RUN_ROOT",
    ),
    Key(
        "hosts",
        HOSTS,
        ["unix:///run/pyd/pyd.sock"],
        "Where to listen: unix:///path, fd:// (systemd socket activation), tcp://127.0.0.1:PORT (with --insecure-tcp).",
        "--host",
        "PYD_HOST",
        many=True,
    ),
    Key(
        "group",
        TEXT,
        "",
        'Group that may use the unix sockets; that is as good as being root. Empty: "docker" if it exists, else root.',
        "--group",
        "PYD_GROUP",
    ),
    Key(
        "userns-remap",
        TEXT,
        "",
        'Whose ranges of /etc/subuid and /etc/subgid users in containers are outside: "default" (dockremap), "user", '
        '"user:group" or "uid:gid". Empty: containers have the ids of the host. One opts out with --userns=host.',
        "--userns-remap",
        "PYD_USERNS_REMAP",
    ),
    Key("log-level", one_of(*LOG_LEVELS), "info", "debug, info, warning or error.", "--log-level", "PYD_LOG_LEVEL"),
    Key(
        "log-format",
        one_of(*LOG_FORMATS),
        "text",
        "text, or json: one object a line.",
        "--log-format",
        "PYD_LOG_FORMAT",
    ),
    Key("labels", LABELS, [], 'Labels of this daemon, "key=value"; info shows them.'),
    Key(
        "shutdown-timeout",
        integer(1, 3600),
        15,
        "Seconds to end requests and let go of drivers when stopping. Containers run on.",
    ),
    Key(
        "storage.default",
        TEXT,
        "overlay",
        "Driver of containers that name none. The other installed ones stay available per container.",
        "--storage-driver",
        "PYD_STORAGE_DRIVER",
    ),
    Key("storage.disabled", NAMES, [], "Installed drivers that are not loaded."),
    Key(
        "network.drivers",
        NAMES,
        ["bridge", "host", "none"],
        "Drivers to load; each of them must work. Without this line, others that are installed are loaded where they can.",
    ),
    Key("network.default-address-pools", POOLS, _POOLS, "Ranges that subnets of new networks are cut from."),
    Key(
        "network.userland-proxy",
        BOOLEAN,
        True,
        "Lead published ports by a process where packet filters cannot: from [::1], and from IPv6 addresses of this host to "
        "containers that have none.",
    ),
    Key("ipam.disabled", NAMES, [], "Installed managers of addresses that are not loaded."),
    Key(
        "isolation.default",
        TEXT,
        "namespaces",
        "Backend of containers that name none.",
        "--isolation",
        "PYD_ISOLATION",
    ),
    Key("isolation.disabled", NAMES, [], "Installed backends that are not loaded."),
    Key(
        "logging.default",
        TEXT,
        "json-file",
        "Log driver of containers that name none.",
        "--log-driver",
        "PYD_LOG_DRIVER",
    ),
    Key(
        "logging.options",
        OPTIONS,
        {},
        'Options of containers that have that driver, where they do not say otherwise: { "max-size" = "10m" }.',
        "--log-opt",
        "PYD_LOG_OPT",
        many=True,
    ),
    Key("logging.disabled", NAMES, [], "Installed log drivers that are not loaded."),
    Key(
        "logging.keep",
        size(1 << 16),
        "512m",
        "How much output of each container is kept when its log options (max-size, max-file) do not say.",
    ),
    Key(
        "logging.hold",
        size(1 << 16),
        "512m",
        "How much output of each container waits for a log driver that is slow or cannot be reached; then the oldest is "
        "dropped (counted, and told by a warning), or with mode=blocking the container waits.",
    ),
    Key("volume.default", TEXT, "local", "Driver of volumes that name none."),
    Key("volume.disabled", NAMES, [], "Installed volume drivers that are not loaded."),
    Key(
        "frontend.default",
        TEXT,
        "dockerfile",
        "What reads the recipes of builds that name no frontend. The daemon starts without it, too.",
    ),
    Key("frontend.disabled", NAMES, [], "Installed frontends of builds that are not loaded."),
    Key("plugins.disabled", NAMES, [], "Installed plugins that are not loaded."),
    Key("registry.insecure", NAMES, [], "Registries (host, host:port or CIDR) that may be reached without TLS."),
    Key("registry.mirrors", MIRRORS, [], "Mirrors of Docker Hub, tried in this order before it."),
    Key(
        "images.unpack-on-pull",
        BOOLEAN,
        True,
        "Unpack layers for the default storage driver while they arrive, instead of at the first use.",
    ),
    Key("images.max-concurrent-downloads", integer(1, 64), 3, "Layers of one pull that are downloaded at once."),
)

KEYS: Mapping[str, Key] = {key.name: key for key in _ALL}

TABLES: Mapping[str, tuple[str, ...]] = {
    table: tuple(name.partition(".")[2] for name in KEYS if name.partition(".")[0] == table and "." in name)
    for table in dict.fromkeys(name.partition(".")[0] for name in KEYS if "." in name)
}
"""The keys of each table."""

DRIVER_TABLES = ("storage", "network", "ipam", "isolation", "volume", "logging", "frontend", "plugins")
"""Tables in which further tables, named by drivers, hold the settings of those."""
