"""`pyd inspect`, and `inspect` of containers, images, networks and volumes.

Without a template the daemon's JSON is shown as it came. What cannot be found is reported at the end, after all
that could.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from pyd_cli.command import FORMAT_F, UNLIMITED, Command
from pyd_cli.errors import ApiError, CliError
from pyd_cli.flags import Flag, Options
from pyd_cli.jsonform import indented
from pyd_cli.session import Session
from pyd_cli.template_values import NIL

SIZE = Flag("size", "s", "bool", "Display total file sizes")
KINDS = ("config", "container", "image", "network", "node", "plugin", "secret", "service", "task", "volume")
PATHS = {
    "container": "/containers/{}/json",
    "image": "/images/{}/json",
    "network": "/networks/{}",
    "volume": "/volumes/{}",
}
# Fields a daemon leaves out when they are empty, or gives as null, and that templates ask for all the same.
LISTS = (
    "Args BlkioDeviceReadBps BlkioDeviceReadIOps BlkioDeviceWriteBps BlkioDeviceWriteIOps BlkioWeightDevice Binds "
    "CapAdd CapDrop Cmd DeviceCgroupRules DeviceRequests Devices Dns DnsOptions DnsSearch Entrypoint Env ExecIDs "
    "ExtraHosts GroupAdd Links MaskedPaths Mounts OnBuild ReadonlyPaths RepoDigests RepoTags SecurityOpt Shell Ulimits "
    "VolumesFrom"
)
MAPS = "Annotations ExposedPorts Labels Options PortBindings StorageOpt Sysctls Tmpfs Volumes"
POINTERS = (
    "GraphDriver Health Healthcheck Init MemorySwappiness OomKillDisable PidsLimit SizeRootFs SizeRw StopTimeout "
    "UsageData"
)
TEXTS = "HostnamePath MacAddress Platform Runtime StopSignal Variant"
OPTIONAL: dict[str, Any] = {
    **{name: [] for name in LISTS.split()},
    **{name: {} for name in MAPS.split()},
    **dict.fromkeys(POINTERS.split(), NIL),
    **dict.fromkeys(TEXTS.split(), ""),
    "AutoRemove": False,
    "NetworkDisabled": False,
}

Getter = Callable[[str], bytes]


def one(session: Session, kind: str, name: str, query: dict[str, Any] | None = None) -> bytes:
    """The raw JSON of one object."""
    return session.api.call("GET", PATHS[kind].format(name), query).read()


def anything(session: Session, size: bool) -> Getter:
    """Objects of any kind: the first kind that has one of that name."""

    def get(name: str) -> bytes:
        for kind in PATHS:
            try:
                return one(session, kind, name, {"size": size} if kind == "container" else None)
            except ApiError as fault:
                # a name that cannot be an image's, or anything's, is not an error while it may still be another's
                if fault.status not in (400, 404) or (fault.status == 400 and "invalid" not in fault.detail.lower()):
                    raise
        raise CliError(f"Error: No such object: {name}")

    return get


def show(session: Session, get: Getter, names: list[str], form: str) -> int:
    template = None
    if form and form != "json":
        from pyd_cli.template_exec import Template, TemplateError

        try:
            template = Template(form, optional=OPTIONAL)
        except TemplateError as fault:
            raise CliError(f"template parsing error: {fault}", 64) from None
    texts: list[str] = []
    faults: list[str] = []
    for name in names:
        try:
            text = get(name).decode("utf-8", "replace").strip()
            texts.append(template.execute(json.loads(text)) if template else text)
        except ApiError as fault:
            faults.append(str(fault))
        except CliError as fault:
            faults.append(f"template parsing error: {fault}" if str(fault).startswith("template:") else str(fault))
    if template:
        session.write("".join(text + "\n" for text in texts) or "\n")
    elif form == "json":
        session.say("[" + ",".join(texts) + "]")
    else:
        session.say(indented("[" + ",".join(texts) + "]"))
    if faults:
        session.complain("\n".join(faults))
        return 1
    return 0


def execute(session: Session, options: Options, args: list[str]) -> int:
    kind = options["type"]
    if options.was_given("type") and kind not in KINDS:
        if not kind:
            raise CliError(
                'type is empty: must be one of "config", "container", "image", "network", "node", "plugin", '
                '"secret", "service", "task", "volume"'
            )
        known = ", ".join(f'"{name}"' for name in KINDS)
        raise CliError(f'unknown type: "{kind}": must be one of {known}')
    if kind and kind not in PATHS:
        raise CliError(f"pyd has no objects of type {kind!r}: it inspects {', '.join(PATHS)}")
    if kind:
        query = {"size": options["size"]} if kind == "container" else None
        return show(session, lambda name: one(session, kind, name, query), args, options["format"])
    return show(session, anything(session, options["size"]), args, options["format"])


def of_kind(kind: str, usage: str, short: str, flags: tuple[Flag, ...] = ()) -> Command:
    def execute_kind(session: Session, options: Options, args: list[str]) -> int:
        query = {name: options[name] for name in ("size", "verbose") if name in options}
        return show(session, lambda name: one(session, kind, name, query), args, options["format"])

    return Command("inspect", usage, short, execute_kind, (FORMAT_F, *flags), (1, UNLIMITED))


inspect = Command(
    "inspect",
    "[OPTIONS] NAME|ID [NAME|ID...]",
    "Return low-level information on Docker objects",
    execute,
    (
        FORMAT_F,
        Flag("size", "s", "bool", "Display total file sizes if the type is container"),
        Flag("type", "", "string", "Only inspect objects of the given type"),
    ),
    (1, UNLIMITED),
)
container = of_kind(
    "container", "[OPTIONS] CONTAINER [CONTAINER...]", "Display detailed information on one or more containers", (SIZE,)
)
image = of_kind("image", "[OPTIONS] IMAGE [IMAGE...]", "Display detailed information on one or more images")
network = of_kind(
    "network",
    "[OPTIONS] NETWORK [NETWORK...]",
    "Display detailed information on one or more networks",
    (Flag("verbose", "v", "bool", "Verbose output for diagnostics"),),
)
volume = of_kind("volume", "[OPTIONS] VOLUME [VOLUME...]", "Display detailed information on one or more volumes")
