"""The configuration as the daemon works with it: typed, checked, and every value with where it came from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pyd_contracts.errors import InvalidArgument
from pyd_daemon.config.hosts import Host, parse_host
from pyd_daemon.config.shapes import AddressPool
from pyd_engine.composition.selection import Choice, Selection

__all__ = ["ConfigError", "Configuration", "Origin", "Value"]


class ConfigError(InvalidArgument):
    """The configuration cannot work; `faults` has one line for each thing to change."""

    def __init__(self, faults: list[str]) -> None:
        super().__init__("; ".join(faults))
        self.faults = tuple(faults)


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a value comes from: ``default``, ``file``, ``flag`` or ``env``, and which file, flag or variable."""

    source: str
    which: str = ""

    def __str__(self) -> str:
        return f"{self.source} {self.which}".strip()

    @property
    def phrase(self) -> str:
        """In words that follow a key and its value in a message."""
        if self.source == "file":
            return f"in {self.which}"
        return "(default)" if self.source == "default" else f"({self.source} {self.which})"


@dataclass(frozen=True, slots=True)
class Value:
    """One effective value: as the file would write it, and read."""

    key: str
    raw: Any
    read: Any
    origin: Origin


@dataclass(frozen=True, slots=True)
class Configuration:
    """All settings of the daemon.

    values  every key of `keys.KEYS` by name
    tables  settings of drivers: by kind, then by driver, as the file has them
    file    the configuration file that was read, None when there was none
    """

    values: Mapping[str, Value]
    tables: Mapping[str, Mapping[str, Mapping[str, Any]]] = field(default_factory=dict)
    file: Path | None = None
    insecure_tcp: bool = False

    def _read(self, key: str) -> Any:
        return self.values[key].read

    @property
    def data_root(self) -> Path:
        """What survives a reboot."""
        path: Path = self._read("data-root")
        return path

    @property
    def run_root(self) -> Path:
        """What a reboot ends."""
        path: Path = self._read("run-root")
        return path

    @property
    def hosts(self) -> tuple[Host, ...]:
        """Where to listen."""
        return tuple(parse_host(text) for text in self._read("hosts"))

    @property
    def group(self) -> str:
        """The sockets' group; empty: ``docker`` if there is one, else root."""
        return str(self._read("group"))

    @property
    def log_level(self) -> str:
        """debug, info, warning or error."""
        return str(self._read("log-level"))

    @property
    def log_format(self) -> str:
        """text or json."""
        return str(self._read("log-format"))

    @property
    def labels(self) -> tuple[str, ...]:
        """``key=value`` labels of the daemon."""
        return tuple(self._read("labels"))

    @property
    def shutdown_timeout(self) -> float:
        """Seconds."""
        return float(self._read("shutdown-timeout"))

    @property
    def default_storage(self) -> str:
        """The storage driver of containers that name none."""
        return str(self._read("storage.default"))

    @property
    def default_isolation(self) -> str:
        """The isolation backend of containers that name none."""
        return str(self._read("isolation.default"))

    @property
    def userns_remap(self) -> str:
        """Whose subordinate ids containers get; empty: none."""
        return str(self._read("userns-remap"))

    @property
    def keep_output(self) -> int:
        """Bytes of each container's output that are kept."""
        return int(self._read("logging.keep"))

    @property
    def hold_output(self) -> int:
        """Bytes of each container's output that wait for its log driver."""
        return int(self._read("logging.hold"))

    @property
    def default_logging(self) -> str:
        """The log driver of containers that name none."""
        return str(self._read("logging.default"))

    @property
    def log_options(self) -> dict[str, str]:
        """Options of containers with that driver."""
        return dict(self._read("logging.options"))

    @property
    def default_volume(self) -> str:
        """The volume driver of volumes that name none."""
        return str(self._read("volume.default"))

    @property
    def address_pools(self) -> tuple[AddressPool, ...]:
        """Ranges that subnets of new networks are cut from."""
        return tuple(self._read("network.default-address-pools"))

    @property
    def userland_proxy(self) -> bool:
        """Whether ports are led by a process where packet filters cannot."""
        return bool(self._read("network.userland-proxy"))

    @property
    def insecure_registries(self) -> tuple[str, ...]:
        """Registries that may be reached without TLS."""
        return tuple(self._read("registry.insecure"))

    @property
    def mirrors(self) -> tuple[str, ...]:
        """Mirrors of Docker Hub."""
        return tuple(self._read("registry.mirrors"))

    @property
    def default_frontend(self) -> str:
        """What reads recipes of builds."""
        return str(self._read("frontend.default"))

    @property
    def unpack_on_pull(self) -> bool:
        """Whether layers are unpacked while they arrive."""
        return bool(self._read("images.unpack-on-pull"))

    @property
    def max_concurrent_downloads(self) -> int:
        """Layers of one pull at once."""
        return int(self._read("images.max-concurrent-downloads"))

    def selection(self) -> Selection:
        """What is asked of the composition."""
        origins = {key: value.origin.phrase for key, value in self.values.items()}
        for kind, tables in self.tables.items():
            origins |= {f"{kind}.{name}": f"in {self.file}" for name in tables}

        def tables_of(kind: str) -> Mapping[str, Mapping[str, Any]]:
            return self.tables.get(kind, {})

        return Selection(
            storage=Choice(
                default=self.default_storage, disabled=self._read("storage.disabled"), tables=tables_of("storage")
            ),
            network=self._networks(tables_of("network")),
            ipam=Choice(default="default", disabled=self._read("ipam.disabled"), tables=tables_of("ipam")),
            isolation=Choice(
                default=self.default_isolation, disabled=self._read("isolation.disabled"), tables=tables_of("isolation")
            ),
            volume=Choice(
                default=self.default_volume, disabled=self._read("volume.disabled"), tables=tables_of("volume")
            ),
            logging=Choice(
                default=self.default_logging, disabled=self._read("logging.disabled"), tables=tables_of("logging")
            ),
            frontend=Choice(disabled=self._read("frontend.disabled"), tables=tables_of("frontend")),
            plugins=Choice(disabled=self._read("plugins.disabled"), tables=tables_of("plugins")),
            origins=origins,
        )

    def _networks(self, tables: Mapping[str, Mapping[str, Any]]) -> Choice:
        """What a file lists and nothing else; by default the usual ones, and of the others those that can work here."""
        names = self._read("network.drivers")
        if self.values["network.drivers"].origin.source == "default":
            return Choice(needed=names, tables=tables)
        return Choice(listed=names, tables=tables)

    def effective(self) -> list[dict[str, str]]:
        """Every key with its value (as the file would write it) and its origin, for people."""
        shown = [
            {"Key": value.key, "Value": toml(value.raw), "Origin": str(value.origin)} for value in self.values.values()
        ]
        for kind, tables in sorted(self.tables.items()):
            for name, table in sorted(tables.items()):
                shown += [
                    {"Key": f"{kind}.{name}.{key}", "Value": toml(raw), "Origin": f"file {self.file}"}
                    for key, raw in sorted(table.items())
                ]
        if self.insecure_tcp:
            shown.append({"Key": "insecure-tcp", "Value": "true", "Origin": "flag --insecure-tcp"})
        return shown


def toml(value: Any) -> str:
    """A value as TOML writes it.

    >>> toml({"base": "10.0.0.0/8", "size": 24})
    '{ base = "10.0.0.0/8", size = 24 }'
    """
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        import json

        return json.dumps(value, ensure_ascii=False)  # a JSON string is a basic string of TOML (v1.0, "String")
    if isinstance(value, list):
        return "[" + ", ".join(toml(item) for item in value) + "]"
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{key} = {toml(item)}" for key, item in value.items()) + " }"
    return str(value)
