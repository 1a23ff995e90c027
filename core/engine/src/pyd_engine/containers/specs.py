"""From records to OCI documents, with what this host adds: capabilities, processors, devices, block numbers."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from pyd_engine.containers import capabilities, cdi
from pyd_engine.containers.binds import Bind
from pyd_engine.containers.config import CreateRequest, ExecConfig
from pyd_engine.containers.container import Container
from pyd_engine.containers.defaults import Defaults, with_defaults
from pyd_engine.containers.devices import device_numbers, host_devices, resolve_devices
from pyd_engine.containers.host_config import HostConfig, LogConfig
from pyd_engine.containers.host_limits import hard_limits, lacking, least_oom_score_adj
from pyd_engine.containers.limits import HostLimits
from pyd_engine.containers.oci import HostView, Surroundings, build_exec_process, build_spec
from pyd_engine.containers.oci_mounts import Shared
from pyd_engine.containers.propagation import check_propagation
from pyd_engine.containers.remap import Remap
from pyd_engine.containers.validation import HostFacts, check_name, mounts_of, validate

__all__ = ["Specs"]

_LOG_DEFAULT = LogConfig(type="json-file")


class Specs:
    """Checks requests and builds documents for this host.

    *runtimes* are the names ``--runtime`` may have, *default_runtime* is what an empty one means; *cgroup_parent* is
    the default above the containers' groups. *log_default* is the log driver and the options of who says nothing, and
    *check_log* raises for what a log driver does not take. *remap* are the ids of containers that do not opt out;
    *propagates* tells of a runtime whether its containers' mounts can reach the host (``propagation``).
    """

    def __init__(
        self,
        *,
        runtimes: frozenset[str],
        default_runtime: str,
        cgroup_parent: str,
        log_default: LogConfig = _LOG_DEFAULT,
        check_log: Callable[[LogConfig], None] = lambda _config: None,
        remap: Remap | None = None,
        propagates: Callable[[str], bool] = lambda _runtime: False,
    ) -> None:
        self._check_log = check_log
        self._remap = remap
        self._propagates = propagates
        self._cgroup_parent = cgroup_parent
        self._host = host_view()
        bound = "CAP_SYS_RESOURCE" not in self._host.capabilities
        self._facts = HostFacts(
            capabilities=tuple(self._host.capabilities), runtimes=runtimes,
            init=_init_program() is not None,
            remapped=remap is not None,
            limits=HostLimits(
                cpus=frozenset(_cpus("/sys/devices/system/cpu/online")),
                memory_nodes=frozenset(_cpus("/sys/devices/system/node/online")),
                lacking=lacking(),
                hard=hard_limits() if bound else {},
                least_oom_score_adj=least_oom_score_adj() if bound else -1000,
            ),
        )  # fmt: skip
        self._defaults = Defaults(
            runtime=default_runtime,
            possible_cpus=tuple(self._host.possible_cpus),
            log_type=log_default.type,
            log_options=log_default.config or {},
        )
        self._documents: dict[str, Mapping[str, Any]] = {}

    @property
    def limits(self) -> HostLimits:
        """What this host can limit."""
        return self._facts.limits

    # --- requests ------------------------------------------------------------------------------------------------

    def check(self, request: CreateRequest, name: str | None) -> tuple[CreateRequest, list[str]]:
        """The request with its defaults, and warnings. Raises InvalidArgument for the first fault."""
        if name:
            check_name(name)
        warnings = validate(request, self._facts)
        reaches = self._reaches_host(request.host_config)
        warnings += check_propagation(mounts_of(request.host_config, self._facts), reaches=reaches)
        warnings += cdi.edits(cdi.asked(request.host_config.device_requests or ()))[1]
        host_config = with_defaults(request.host_config, self._defaults)
        self._check_log(host_config.log_config)
        return msgspec.structs.replace(request, host_config=host_config), warnings

    def _reaches_host(self, config: HostConfig) -> bool:
        """Whether what a container mounts below shared binds shows outside: no more of it does from a user namespace."""
        return self._propagates(config.runtime) and (self._remap is None or config.userns_mode == "host")

    def remap_of(self, container: Container) -> Remap | None:
        """The ids of a container's user namespace; None when it is the host's."""
        return None if container.host_config.userns_mode == "host" else self._remap

    # --- documents -----------------------------------------------------------------------------------------------

    def container(
        self, container: Container, *, root: Path, files: Mapping[str, Path], namespaces: Mapping[str, str | None],
        hostname: str, mounts: Sequence[Bind] = (), variables: Sequence[str] = (),
    ) -> Mapping[str, object]:  # fmt: skip
        """The document of one run. *namespaces* maps OCI kinds to "" (new), a path (join) or None (the host's); *mounts* are
        the user's, their sources paths on this host; *variables* tell of links."""
        document = self._document(container, root, files, namespaces, hostname, mounts, variables)
        cdi.inject(document, cdi.edits(cdi.asked(container.host_config.device_requests or ()))[0])
        self._documents[container.id] = document
        return document

    def _document(
        self, container: Container, root: Path, files: Mapping[str, Path], namespaces: Mapping[str, str | None],
        hostname: str, mounts: Sequence[Bind] = (), variables: Sequence[str] = (),
    ) -> dict[str, Any]:  # fmt: skip
        config, host_config = container.config, container.host_config
        document = build_spec(
            config,
            host_config,
            Surroundings(
                root=str(root),
                hostname=hostname,
                cgroups_path=f"{host_config.cgroup_parent or self._cgroup_parent}/{container.id}",
                shared=Shared(
                    files={k: str(v) for k, v in files.items()},
                    init=_init_program() if host_config.init else None,
                    read_only=host_config.readonly_rootfs,
                ),
                mounts=mounts,
                namespaces={kind: path for kind, path in namespaces.items() if path},
                devices=host_devices() if host_config.privileged else resolve_devices(host_config.devices or ()),
                block_numbers=device_numbers(_limited_devices(host_config)),
                remap=self.remap_of(container),
                variables=variables,
            ),
            self._host,
        )
        linux = document["linux"]
        if namespaces.get("network") is None:
            linux["namespaces"] = [each for each in linux["namespaces"] if each["type"] != "network"]
        return document

    def process(self, container: Container, execution: ExecConfig, variables: Sequence[str] = ()) -> Mapping[str, Any]:
        """The process object of an exec; *variables* tell of links."""
        document = self._documents.get(container.id)
        if document is None:
            # An earlier daemon started it; files, namespaces and vendors' devices do not matter for a further process.
            document = self._document(container, Path("/"), {}, _placeholder(container), "")
            self._documents[container.id] = document
        hostname = container.config.hostname or container.short
        return build_exec_process(
            execution, container.config, container.host_config, hostname, document, self._host, variables=variables
        )

    def forget(self, container: str) -> None:
        """The container has ended."""
        self._documents.pop(container, None)


def _placeholder(container: Container) -> dict[str, str | None]:
    modes = {
        "network": container.host_config.network_mode,
        "ipc": container.host_config.ipc_mode,
        "pid": container.host_config.pid_mode,
    }
    return {kind: f"/proc/1/ns/{kind}" if mode.startswith("container:") else "" for kind, mode in modes.items()}


def host_view() -> HostView:
    """This host, read once."""
    release = re.match(r"(\d+)\.(\d+)", os.uname().release)
    return HostView(
        capabilities=capabilities.from_mask(_bounding_mask()),
        possible_cpus=_cpus("/sys/devices/system/cpu/possible"),
        kernel=(int(release[1]), int(release[2])) if release else (5, 10),
        machine=os.uname().machine,
        seccomp=os.path.exists("/proc/sys/kernel/seccomp/actions_avail"),
    )


def _bounding_mask() -> int:
    with open("/proc/self/status", encoding="ascii", errors="replace") as lines:
        for line in lines:
            if line.startswith("CapBnd:"):
                return int(line.split()[1], 16)
    return 0


def _cpus(path: str) -> list[int]:
    """A list like ``0-3,8``."""
    try:
        with open(path, encoding="ascii") as file:
            text = file.read().strip()
    except OSError:
        return []
    numbers: list[int] = []
    for part in filter(None, text.split(",")):
        first, _, last = part.partition("-")
        numbers.extend(range(int(first), int(last or first) + 1))
    return numbers


def _limited_devices(host_config: HostConfig) -> list[str]:
    groups = (
        host_config.blkio_weight_device,
        host_config.blkio_device_read_bps,
        host_config.blkio_device_write_bps,
        host_config.blkio_device_read_iops,
        host_config.blkio_device_write_iops,
    )
    return [each.path for group in groups for each in group or ()]


def _init_program() -> str | None:
    """A static init for ``--init``; never Python (its interpreter must not be seen from inside)."""
    for path in (
        "/usr/bin/docker-init",
        "/usr/libexec/docker/docker-init",
        "/usr/bin/tini-static",
        "/usr/bin/catatonit",
    ):
        if os.path.exists(path):
            return path
    return None
