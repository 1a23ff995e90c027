"""Manifests, indexes and image configurations: bounded, typed, and read the same way whoever serves them.

OCI image-spec (manifest.md, image-index.md, config.md) and Docker's schema 2 differ in media types only. What a document
*is* follows from its own content, never from a Content-Type header, and a document that could be read in two ways is refused
(CVE-2021-41190). Unknown fields are ignored here and kept in the stored bytes. Values of a configuration are strings of
strangers: they are checked for type, not obeyed.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NoReturn

from pyd_contracts.errors import InvalidArgument, Unsupported
from pyd_engine.images.platform import Platform
from pyd_engine.store.content import hexadecimal

__all__ = [
    "ACCEPT",
    "MAX_CONFIG",
    "MAX_LAYERS",
    "MAX_MANIFEST",
    "Descriptor",
    "History",
    "ImageConfig",
    "Index",
    "Manifest",
    "parse_config",
    "parse_document",
    "parse_json",
]

MAX_MANIFEST = 4 << 20
MAX_CONFIG = 8 << 20
MAX_LAYERS = 500
"""overlayfs takes no more lower directories (OVL_MAX_STACK)."""

_INDEXES = frozenset({
    "application/vnd.oci.image.index.v1+json", "application/vnd.docker.distribution.manifest.list.v2+json",
})  # fmt: skip
_MANIFESTS = frozenset({
    "application/vnd.oci.image.manifest.v1+json", "application/vnd.docker.distribution.manifest.v2+json",
})  # fmt: skip
ACCEPT = ", ".join(sorted(_MANIFESTS | _INDEXES))
_CONFIGS = frozenset({
    "application/vnd.oci.image.config.v1+json", "application/vnd.docker.container.image.v1+json",
    "application/octet-stream", "text/html", "",
})  # fmt: skip


@dataclass(frozen=True, slots=True)
class Descriptor:
    """What a document says of another blob (OCI image-spec, descriptor.md). *size* is in bytes."""

    media_type: str
    digest: str
    size: int
    platform: Platform | None = None
    annotations: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Manifest:
    """One image: its configuration and its layers, lowest first."""

    media_type: str
    config: Descriptor
    layers: tuple[Descriptor, ...]


@dataclass(frozen=True, slots=True)
class Index:
    """Several images for several platforms."""

    media_type: str
    manifests: tuple[Descriptor, ...]


@dataclass(frozen=True, slots=True)
class History:
    """One line of an image's history; *created* is RFC 3339 text."""

    created: str
    created_by: str
    author: str
    comment: str
    empty_layer: bool


@dataclass(frozen=True, slots=True)
class ImageConfig:
    """An image configuration. Lists that may be absent (entrypoint, cmd, shell) are None then; *document* is all of it."""

    architecture: str
    os: str
    variant: str
    os_version: str
    created: str
    author: str
    diff_ids: tuple[str, ...]
    history: tuple[History, ...]
    user: str
    env: tuple[str, ...]
    entrypoint: tuple[str, ...] | None
    cmd: tuple[str, ...] | None
    shell: tuple[str, ...] | None
    working_dir: str
    exposed_ports: tuple[str, ...]
    volumes: tuple[str, ...]
    labels: Mapping[str, str]
    stop_signal: str
    healthcheck: Mapping[str, Any] | None
    on_build: tuple[str, ...]
    document: Mapping[str, Any]

    @property
    def platform(self) -> Platform:
        """What it was built for."""
        return Platform(self.os or "linux", self.architecture, self.variant)


def parse_json(raw: bytes, what: str) -> dict[str, Any]:
    """A JSON object out of untrusted bytes. InvalidArgument for everything Python accepts and others do not."""

    def constant(word: str) -> NoReturn:
        raise ValueError(f"{word} is no JSON")

    try:
        value = json.loads(raw, parse_constant=constant)
    except RecursionError:
        raise InvalidArgument(f"{what}: nested too deeply") from None
    except ValueError as error:
        raise InvalidArgument(f"{what}: no valid JSON: {error}") from error
    if not isinstance(value, dict):
        raise InvalidArgument(f"{what}: a JSON object is expected")
    return value


def parse_document(raw: bytes, what: str) -> Manifest | Index:
    """Read a manifest or an index. *what* names it in messages."""
    if len(raw) > MAX_MANIFEST:
        raise InvalidArgument(f"{what}: {len(raw)} bytes are over the limit of {MAX_MANIFEST}")
    value = parse_json(raw, what)
    version = value.get("schemaVersion")
    if version is not True and (version == 1 or "fsLayers" in value):
        raise Unsupported(
            f"{what}: Docker image manifest schema 1 is not supported; push the image again with a newer client"
        )
    if version != 2 or isinstance(version, bool):
        raise InvalidArgument(f"{what}: schemaVersion is {version!r}, not 2")
    media_type = _text(value, "mediaType", what)
    as_index, as_manifest = "manifests" in value, "config" in value or "layers" in value
    if as_index == as_manifest:
        both = "both an index and a manifest" if as_index else "neither an index nor a manifest"
        raise InvalidArgument(f"{what}: the document is {both}")
    if media_type and media_type not in (_INDEXES if as_index else _MANIFESTS):
        raise InvalidArgument(f"{what}: mediaType {media_type[:100]!r} does not fit the document's fields")
    if as_index:
        found = tuple(
            _descriptor(item, f"{what}: manifests[{i}]") for i, item in enumerate(_array(value, "manifests", what))
        )
        return Index(media_type or "application/vnd.oci.image.index.v1+json", found)
    layers = tuple(_descriptor(item, f"{what}: layers[{i}]") for i, item in enumerate(_array(value, "layers", what)))
    if len(layers) > MAX_LAYERS:
        raise InvalidArgument(f"{what}: {len(layers)} layers are over the limit of {MAX_LAYERS}")
    config = _descriptor(value.get("config"), f"{what}: config")
    if config.media_type not in _CONFIGS:
        raise InvalidArgument(
            f"{what}: {config.media_type[:100]!r} is no image configuration; this is no container image"
        )
    if config.size > MAX_CONFIG:
        raise InvalidArgument(f"{what}: a configuration of {config.size} bytes is over the limit of {MAX_CONFIG}")
    return Manifest(media_type or "application/vnd.oci.image.manifest.v1+json", config, layers)


def parse_config(raw: bytes, what: str) -> ImageConfig:
    """Read an image configuration; InvalidArgument names the field that has the wrong type."""
    if len(raw) > MAX_CONFIG:
        raise InvalidArgument(f"{what}: {len(raw)} bytes are over the limit of {MAX_CONFIG}")
    value = parse_json(raw, what)
    rootfs = _object(value, "rootfs", what)
    if rootfs.get("type") not in ("layers", None):
        raise InvalidArgument(f"{what}: rootfs.type is {rootfs.get('type')!r}, not 'layers'")
    diff_ids = _texts(rootfs, "diff_ids", f"{what}: rootfs") or ()
    if len(diff_ids) > MAX_LAYERS:
        raise InvalidArgument(f"{what}: {len(diff_ids)} layers are over the limit of {MAX_LAYERS}")
    for diff_id in diff_ids:
        hexadecimal(diff_id)
    inner = _object(value, "config", what)
    where = f"{what}: config"
    health = inner.get("Healthcheck")
    if health is not None and not isinstance(health, dict):
        raise InvalidArgument(f"{where}.Healthcheck: an object is expected")
    return ImageConfig(
        architecture=_text(value, "architecture", what),
        os=_text(value, "os", what),
        variant=_text(value, "variant", what),
        os_version=_text(value, "os.version", what),
        created=_text(value, "created", what),
        author=_text(value, "author", what),
        diff_ids=diff_ids,
        history=tuple(_history(item, f"{what}: history[{i}]") for i, item in enumerate(_array(value, "history", what))),
        user=_text(inner, "User", where),
        env=_texts(inner, "Env", where) or (),
        entrypoint=_texts(inner, "Entrypoint", where),
        cmd=_texts(inner, "Cmd", where),
        shell=_texts(inner, "Shell", where),
        working_dir=_text(inner, "WorkingDir", where),
        exposed_ports=tuple(_object(inner, "ExposedPorts", where)),
        volumes=tuple(_object(inner, "Volumes", where)),
        labels=_labels(inner, "Labels", where),
        stop_signal=_text(inner, "StopSignal", where),
        healthcheck=health,
        on_build=_texts(inner, "OnBuild", where) or (),
        document=value,
    )


# --- fields ------------------------------------------------------------------------------------------------------


def _text(value: Mapping[str, Any], key: str, what: str) -> str:
    found = value.get(key)
    if found is None:
        return ""
    if not isinstance(found, str):
        raise InvalidArgument(f"{what}: {key}: a string is expected")
    return found


def _texts(value: Mapping[str, Any], key: str, what: str) -> tuple[str, ...] | None:
    found = value.get(key)
    if found is None:
        return None
    if not isinstance(found, list) or not all(isinstance(item, str) for item in found):
        raise InvalidArgument(f"{what}: {key}: a list of strings is expected")
    return tuple(found)


def _array(value: Mapping[str, Any], key: str, what: str) -> list[Any]:
    found = value.get(key)
    if found is None:
        return []
    if not isinstance(found, list):
        raise InvalidArgument(f"{what}: {key}: a list is expected")
    return found


def _object(value: Mapping[str, Any], key: str, what: str) -> dict[str, Any]:
    found = value.get(key)
    if found is None:
        return {}
    if not isinstance(found, dict):
        raise InvalidArgument(f"{what}: {key}: an object is expected")
    return found


def _labels(value: Mapping[str, Any], key: str, what: str) -> dict[str, str]:
    found = _object(value, key, what)
    if not all(isinstance(item, str) for item in found.values()):
        raise InvalidArgument(f"{what}: {key}: strings are expected")
    return found


def _history(value: object, what: str) -> History:
    if not isinstance(value, dict):
        raise InvalidArgument(f"{what}: an object is expected")
    empty = value.get("empty_layer", False)
    if not isinstance(empty, bool):
        raise InvalidArgument(f"{what}: empty_layer: true or false is expected")
    created, by, author, comment = (_text(value, key, what) for key in ("created", "created_by", "author", "comment"))
    return History(created, by, author, comment, empty)


def _descriptor(value: object, what: str) -> Descriptor:
    if not isinstance(value, dict):
        raise InvalidArgument(f"{what}: a descriptor is expected")
    digest = value.get("digest")
    if not isinstance(digest, str):
        raise InvalidArgument(f"{what}: digest: a string is expected")
    try:
        hexadecimal(digest)
    except InvalidArgument as error:
        raise InvalidArgument(f"{what}: {error}") from error
    size = value.get("size")
    if not isinstance(size, int) or isinstance(size, bool) or not 0 <= size < 1 << 62:
        raise InvalidArgument(f"{what}: size: a number of bytes is expected")
    platform = None
    if value.get("platform") is not None:
        where = _object(value, "platform", what)
        platform = Platform(_text(where, "os", what), _text(where, "architecture", what), _text(where, "variant", what))
    return Descriptor(_text(value, "mediaType", what), digest, size, platform, _labels(value, "annotations", what))
