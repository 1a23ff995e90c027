"""Mounts that a user asks for: ``-v`` specifications, ``Mounts`` objects and tmpfs options, checked and made one shape.

Constraint: the grammar and the messages are those of Docker's Linux volume parser. Nothing here touches the file
system: whether a source exists is asked by `validation`.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Collection, Iterable
from dataclasses import dataclass

from pyd_contracts.errors import InvalidArgument
from pyd_engine.containers.host_config import MountConfig

__all__ = [
    "PROPAGATIONS",
    "Bind",
    "anonymous_volumes",
    "check_tmpfs",
    "check_volume_name",
    "from_mount",
    "parse_bind",
    "parse_volumes_from",
]

PROPAGATIONS = frozenset({"private", "rprivate", "slave", "rslave", "shared", "rshared"})
_CONSISTENCY = frozenset({"consistent", "cached", "delegated", "default"})
_VOLUME_NAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]+")
_TMPFS_FLAGS = frozenset(
    "defaults ro rw suid nosuid dev nodev exec noexec sync async dirsync remount mand nomand atime noatime diratime "
    "nodiratime bind rbind unbindable runbindable private rprivate shared rshared slave rslave relatime norelatime "
    "strictatime nostrictatime".split()
)
_TMPFS_VALUES = frozenset({"mode", "uid", "gid", "nr_inodes", "nr_blocks", "mpol", "size", "swap"})


@dataclass(frozen=True, slots=True)
class Bind:
    """One mount a user asked for.

    type         ``bind`` (source is an absolute path on the host), ``volume`` (source is a volume's name, empty for an
                 anonymous one), ``tmpfs`` or ``image``
    destination  absolute, cleaned
    mode         the options as written, for inspect
    propagation  empty: rprivate for binds, none for volumes
    copy         fill an empty volume from the image
    create       make a missing source directory (``-v`` does, ``--mount`` does not)
    anonymous    the volume's name was invented: the volume goes with the container when that is asked
    hidden       inspect does not list it among the mounts (``--tmpfs``)
    driver, driver_options, labels  for a volume that has to be made
    """

    type: str
    source: str
    destination: str
    read_only: bool = False
    mode: str = ""
    propagation: str = ""
    copy: bool = True
    create: bool = False
    recursive: bool = True
    read_only_recursive: bool = True
    driver: str = ""
    driver_options: dict[str, str] | None = None
    labels: dict[str, str] | None = None
    subpath: str = ""
    anonymous: bool = False
    hidden: bool = False


def parse_bind(spec: str, volume_driver: str = "") -> Bind:
    """Read ``source:destination[:options]``, or ``destination`` alone for an anonymous volume.

    Options are ro, rw, z, Z, (r)shared, (r)slave, (r)private, nocopy, and the consistency words, each kind once.
    Raises InvalidArgument in Docker's words.
    """
    parts = spec.split(":")
    if len(parts) > 3 or not parts[0]:
        raise InvalidArgument(f"invalid volume specification: '{spec}'")
    if len(parts) == 1:
        source, destination, mode = "", parts[0], ""
    elif len(parts) == 2:
        # "/a:ro" never was a volume with options: the second part must be a path, as it is for Docker
        source, destination, mode = parts[0], parts[1], ""
        if not destination:
            raise InvalidArgument(f"invalid volume specification: '{spec}'")
    else:
        source, destination, mode = parts
        if not destination or not mode:
            raise InvalidArgument(f"invalid volume specification: '{spec}'" if not destination else "invalid mode: ")
    kind = "bind" if source.startswith("/") else "volume"
    words = _mode_words(mode)
    propagation = next((word for word in words if word in PROPAGATIONS), "")
    in_spec = f"invalid volume specification: '{spec}': invalid mount config for type \"{kind}\": "
    if kind == "volume" and propagation:
        raise InvalidArgument(in_spec + "field BindOptions must not be specified")
    if kind == "bind" and "nocopy" in words:
        raise InvalidArgument(in_spec + "field VolumeOptions must not be specified")
    target = _destination(destination, in_spec)
    if kind == "volume" and source:
        check_volume_name(source)
    return Bind(
        type=kind,
        source=posixpath.normpath(source) if kind == "bind" else source,
        destination=target,
        read_only="ro" in words,
        mode=mode or ("z" if kind == "volume" and source else ""),
        propagation=propagation or ("rprivate" if kind == "bind" else ""),
        copy="nocopy" not in words,
        create=kind == "bind",
        driver=volume_driver if kind == "volume" else "",
    )


def anonymous_volumes(paths: Iterable[str], taken: Collection[str]) -> list[Bind]:
    """Volumes without a name for ``Config.Volumes``: ``-v /data`` and the image's VOLUMEs.

    Paths come from strangers (``VOLUME /../../etc``): they are cleaned, and a relative one starts at the root. Those
    whose destination is *taken* by another mount are left out. Raises InvalidArgument for the root itself.
    """
    found = {}
    for path in paths:
        target = _destination(path if path.startswith("/") else f"/{path}", f"invalid volume specification: '{path}': ")
        if target not in taken:
            found[target] = Bind(type="volume", source="", destination=target)
    return list(found.values())


def _mode_words(mode: str) -> tuple[str, ...]:
    words = tuple(mode.split(",")) if mode else ()
    kinds = []
    for word in words:
        if word in ("ro", "rw"):
            kinds.append("access")
        elif word in ("z", "Z"):
            kinds.append("label")
        elif word in PROPAGATIONS:
            kinds.append("propagation")
        elif word == "nocopy":
            kinds.append("copy")
        elif word in _CONSISTENCY:
            kinds.append("consistency")
        else:
            raise InvalidArgument(f"invalid mode: {mode}")
    if len(set(kinds)) != len(kinds):
        raise InvalidArgument(f"invalid mode: {mode}")
    return words


def _destination(path: str, prefix: str) -> str:
    if "\0" in path:
        raise InvalidArgument(f"{prefix}invalid mount path: {path!r} holds a NUL character")
    if not path.startswith("/"):
        raise InvalidArgument(f"{prefix}invalid mount path: '{path}' mount path must be absolute")
    cleaned = "/" + posixpath.normpath(path).lstrip("/")
    if cleaned == "/":
        raise InvalidArgument(f"{prefix}invalid specification: destination can't be '/'")
    return cleaned


def check_volume_name(name: str) -> None:
    """Raise InvalidArgument unless *name* may name a volume."""
    if not _VOLUME_NAME.fullmatch(name):
        raise InvalidArgument(
            f'create {name}: "{name}" includes invalid characters for a local volume name, only '
            '"[a-zA-Z0-9][a-zA-Z0-9_.-]" are allowed. If you intended to pass a host directory, use absolute path'
        )


def from_mount(mount: MountConfig) -> Bind:
    """Check one item of ``HostConfig.Mounts`` and give it the common shape.

    Raises InvalidArgument in Docker's words.
    """
    prefix = f'invalid mount config for type "{mount.type}": '
    if mount.type not in ("bind", "volume", "tmpfs", "image"):
        raise InvalidArgument(prefix + "mount type unknown")
    if not mount.target:
        raise InvalidArgument(prefix + "field Target must not be empty")
    target = _destination(mount.target, prefix)
    for kind, name, options in (
        ("bind", "BindOptions", mount.bind_options),
        ("volume", "VolumeOptions", mount.volume_options),
        ("tmpfs", "TmpfsOptions", mount.tmpfs_options),
        ("image", "ImageOptions", mount.image_options),
    ):
        if options is not None and kind != mount.type:
            raise InvalidArgument(f"{prefix}field {name} must not be specified")
    if mount.type == "bind":
        return _from_bind(mount, target, prefix)
    if mount.type == "volume":
        if mount.source:
            check_volume_name(mount.source)
        volume = mount.volume_options
        if volume is not None and volume.subpath:
            _check_subpath(volume.subpath, prefix)
            if not mount.source:
                raise InvalidArgument(prefix + "must not set Subpath when using anonymous volumes")
        return Bind(
            type="volume",
            source=mount.source,
            destination=target,
            read_only=mount.read_only,
            mode="z",
            copy=volume is None or not volume.no_copy,
            driver=volume.driver_config.name if volume and volume.driver_config else "",
            driver_options=volume.driver_config.options if volume and volume.driver_config else None,
            labels=volume.labels if volume else None,
            subpath=volume.subpath if volume else "",
        )
    if mount.type == "tmpfs":
        if mount.source:
            raise InvalidArgument(prefix + "field Source must not be specified")
        check_tmpfs(target, tmpfs_options(mount))
        return Bind(type="tmpfs", source="", destination=target, read_only=mount.read_only, mode=tmpfs_options(mount))
    if not mount.source:
        raise InvalidArgument(prefix + "field Source must not be empty")
    subpath = mount.image_options.subpath if mount.image_options else ""
    if subpath:
        _check_subpath(subpath, prefix)
    return Bind(type="image", source=mount.source, destination=target, read_only=mount.read_only, subpath=subpath)


def _from_bind(mount: MountConfig, target: str, prefix: str) -> Bind:
    if not mount.source:
        raise InvalidArgument(prefix + "field Source must not be empty")
    if not mount.source.startswith("/"):
        raise InvalidArgument(f"{prefix}invalid mount path: '{mount.source}' mount path must be absolute")
    options = mount.bind_options
    propagation = options.propagation if options else ""
    if propagation and propagation not in PROPAGATIONS:
        raise InvalidArgument(f"{prefix}invalid propagation mode: {propagation}")
    if options is not None and options.read_only_force_recursive:
        if not mount.read_only or options.read_only_non_recursive:
            raise InvalidArgument(prefix + "ReadOnlyForceRecursive needs ReadOnly, without ReadOnlyNonRecursive")
        if propagation not in ("rprivate",):
            raise InvalidArgument(prefix + "ReadOnlyForceRecursive needs Propagation: rprivate")
    return Bind(
        type="bind",
        source=posixpath.normpath(mount.source),
        destination=target,
        read_only=mount.read_only,
        propagation=propagation or "rprivate",
        create=bool(options and options.create_mountpoint),
        recursive=not (options and options.non_recursive),
        read_only_recursive=not (options and options.read_only_non_recursive),
    )


def _check_subpath(subpath: str, prefix: str) -> None:
    """Only what stays below (CVE-2017-1002101); symbolic links inside are the business of whoever mounts."""
    if subpath.startswith("/") or ".." in subpath.split("/"):
        raise InvalidArgument(f"{prefix}subpath must be a relative path within the volume: {subpath}")


def tmpfs_options(mount: MountConfig) -> str:
    """The options of a tmpfs mount object, as ``--tmpfs`` writes them."""
    words = ["ro"] if mount.read_only else []
    options = mount.tmpfs_options
    if options is not None:
        if options.size_bytes < 0:
            raise InvalidArgument(f'invalid mount config for type "tmpfs": invalid size {options.size_bytes}')
        words += [f"mode={options.mode & 0o7777:o}"] if options.mode else []
        words += [f"size={options.size_bytes}"] if options.size_bytes else []
        words += ["=".join(pair) for pair in options.options or ()]
    return ",".join(words)


def check_tmpfs(destination: str, options: str) -> str:
    """Check a ``--tmpfs`` destination and its options and return the cleaned destination.

    Raises InvalidArgument. Options go into a mount's data as they are, so only known words may pass.
    """
    target = _destination(destination, "")
    for word in filter(None, options.split(",")):
        key, equals, value = word.partition("=")
        if (equals and key not in _TMPFS_VALUES) or (not equals and key not in _TMPFS_FLAGS):
            words = f'"{key}" "{value}"' if equals else f'"{key}"'
            raise InvalidArgument(f"invalid tmpfs option [{words}]")
    return target


def parse_volumes_from(spec: str) -> tuple[str, str]:
    """Split ``container[:mode]``; mode is ``rw`` when not given. Raises InvalidArgument."""
    container, _, mode = spec.partition(":")
    if not container:
        raise InvalidArgument("volumes-from specification cannot be an empty string")
    words = _mode_words(mode or "rw")
    if "nocopy" in words or any(word in PROPAGATIONS for word in words):
        raise InvalidArgument(f"invalid mode: {mode}")
    return container, mode or "rw"
