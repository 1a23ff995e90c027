"""`pyd cp`: files in and out of a container, as tar archives over the API.

What comes out of a container is untrusted: members are unpacked with tarfile's "tar" filter (PEP 706), which
keeps them inside the destination, and links out of it are refused.
"""

from __future__ import annotations

import base64
import io
import json
import os
import sys
import tarfile
import tempfile
from typing import IO, Any

from pyd_cli.command import Command
from pyd_cli.errors import ApiError, CliError
from pyd_cli.flags import Flag, Options
from pyd_cli.session import Session
from pyd_cli.units import human_size

FLAGS = (
    Flag("archive", "a", "bool", "Archive mode (copy all uid/gid information)"),
    Flag("follow-link", "L", "bool", "Always follow symbol link in SRC_PATH"),
    Flag("quiet", "q", "bool", "Suppress progress output during copy"),
)
DIRECTORY = 1 << 31  # Go's os.ModeDir
SYMLINK = 1 << 27  # Go's os.ModeSymlink


def split(text: str) -> tuple[str, str]:
    """(container, path); no container for a local path: absolute, or with a dot or slash before the first colon."""
    container, colon, path = text.partition(":")
    if not colon or os.path.isabs(text) or container.startswith(".") or "/" in container:
        return "", text
    return container, path


class Chunks(io.RawIOBase):
    """An iterator of blocks, read as a file."""

    def __init__(self, blocks: Any) -> None:
        self.blocks = blocks
        self.rest = b""

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        if not self.rest:
            self.rest = next(self.blocks, b"")
        count = min(len(buffer), len(self.rest))
        buffer[:count] = self.rest[:count]
        self.rest = self.rest[count:]
        return count


def execute(session: Session, options: Options, args: list[str]) -> None:
    (source_box, source), (target_box, target) = split(args[0]), split(args[1])
    if source_box and target_box:
        raise CliError("copying between containers is not supported")
    if not source_box and not target_box:
        raise CliError("must specify at least one container source")
    if not source or not target:
        raise CliError(f"{'source' if not source else 'destination'} can not be empty")
    if source_box:
        copy_out(session, options, source_box, source, target)
    else:
        copy_in(session, options, source, target_box, target)


def stat(session: Session, container: str, path: str) -> dict[str, Any] | None:
    """What is at `path` in the container (X-Docker-Container-Path-Stat), None when nothing is."""
    api = session.api
    response = api.client.request("HEAD", api.target(f"/containers/{container}/archive", {"path": path}))
    response.close()
    if response.status == 404:
        return None
    if response.status >= 400:
        raise ApiError(response.status, f"cannot stat {path} in {container}")
    found: dict[str, Any] = json.loads(base64.b64decode(response.headers["x-docker-container-path-stat"]))
    return found


def copy_out(session: Session, options: Options, container: str, source: str, target: str) -> None:
    if options["follow-link"]:
        source = resolved(session, container, source)
    response = session.api.call("GET", f"/containers/{container}/archive", {"path": source})
    if target == "-":
        sys.stdout.flush()
        for chunk in response.chunks():
            sys.stdout.buffer.write(chunk)
        sys.stdout.buffer.flush()
        return
    name = os.path.basename(source.rstrip("/"))
    contents = source.endswith("/.") or name in ("", ".", "..")
    facts = json.loads(base64.b64decode(response.headers["x-docker-container-path-stat"]))
    is_directory = bool(facts["mode"] & DIRECTORY)
    if target.endswith("/") and not os.path.isdir(target) and not is_directory:
        raise CliError(f'no such directory: "{target.rstrip("/")}"')
    inside = os.path.isdir(target) and not contents
    if os.path.exists(target) and not os.path.isdir(target) and is_directory:
        raise CliError("cannot copy directory")
    goal = os.path.join(target, facts["name"]) if inside else target.rstrip("/") or "/"
    parent = os.path.dirname(os.path.abspath(goal))
    if not os.path.isdir(parent):
        raise CliError(f'invalid output path: directory "{parent}" does not exist')
    size = unpack(io.BufferedReader(Chunks(response.chunks())), goal, is_directory)
    response.close()
    report(session, options, size, f"{target}")


def unpack(stream: IO[bytes], goal: str, is_directory: bool) -> int:
    """The archive at `goal`, its first name replaced by goal's. Returns the bytes of its files."""
    size = 0
    if is_directory:
        os.makedirs(goal, exist_ok=True)
    parent, base = (goal, "") if is_directory else os.path.split(os.path.abspath(goal))
    with tarfile.open(fileobj=stream, mode="r|") as archive:
        archive.extraction_filter = lambda member, _path: member  # ours is `keep_inside`: older Pythons have none
        for member in archive:
            _, _, rest = member.name.strip("/").partition("/")
            if is_directory and not rest:
                continue
            member.name = rest if is_directory else base
            if member.islnk():
                member.linkname = member.linkname.strip("/").partition("/")[2]
            size += member.size
            kept = keep_inside(member, parent)
            if kept is not None:
                archive.extract(kept, parent, set_attrs=True, numeric_owner=True)
    return size


def keep_inside(member: tarfile.TarInfo, path: str) -> tarfile.TarInfo | None:
    """What PEP 706's tar filter promises, on every Python: nothing is written outside of *path*, not through links either.

    Files are ours; devices are left out, as for any user who is not root. CliError for an archive that tries to leave.
    """
    if member.isdev():
        return None
    for name in (member.name, *([member.linkname] if member.islnk() else [])):
        place = os.path.join(path, name.lstrip("/"))
        above = os.path.realpath(os.path.dirname(place))
        top = os.path.realpath(path)
        if ".." in name.split("/") or os.path.commonpath([above, top]) != top:
            raise CliError(f"{name!r} in the archive would be written outside of {path}")
    place = os.path.join(path, member.name)
    if os.path.islink(place):
        os.unlink(place)  # or its target would be written
    return replaced(member)


def replaced(member: tarfile.TarInfo) -> tarfile.TarInfo:
    """The same entry, ours."""
    member.uid, member.gid, member.uname, member.gname = os.getuid(), os.getgid(), "", ""
    return member


def resolved(session: Session, container: str, path: str) -> str:
    found = stat(session, container, path)
    if found and found["mode"] & SYMLINK and found.get("linkTarget"):
        link: str = found["linkTarget"]
        return link if os.path.isabs(link) else os.path.join(os.path.dirname(path), link)
    return path


def copy_in(session: Session, options: Options, source: str, container: str, target: str) -> None:
    query: dict[str, Any] = {"noOverwriteDirNonDir": "true", "copyUIDGID": "true" if options["archive"] else ""}
    if source == "-":
        session.api.call("PUT", f"/containers/{container}/archive", {**query, "path": target}, sys.stdin.buffer).close()
        return
    contents = source.endswith("/.")
    if not os.path.lexists(source.rstrip("/") or "/"):
        raise CliError(f"lstat {source}: no such file or directory")
    if options["follow-link"]:
        source = os.path.realpath(source)
    found = stat(session, container, resolved(session, container, target))
    is_directory = os.path.isdir(source)
    if found is None:
        if target.endswith("/") and not is_directory:
            raise CliError(f'no such directory: "{container}:{target}" must already exist')
        directory, name = os.path.split(target.rstrip("/"))
    elif found["mode"] & DIRECTORY or found["mode"] & SYMLINK:
        directory, name = target, "" if contents and is_directory else os.path.basename(os.path.abspath(source))
    else:
        if is_directory:
            raise CliError(f"cannot overwrite non-directory {target!r} with directory {source!r}".replace("'", '"'))
        directory, name = os.path.split(target)
    with tempfile.TemporaryFile() as file:
        with tarfile.open(fileobj=file, mode="w") as archive:
            archive.add(source.rstrip("/") or "/", name or ".", filter=None if options["archive"] else as_root)
        size = file.tell()
        file.seek(0)
        path = f"/containers/{container}/archive"
        session.api.call("PUT", path, {**query, "path": directory or "/"}, file).close()
    report(session, options, size, f"{container}:{target}")


def as_root(member: tarfile.TarInfo) -> tarfile.TarInfo:
    member.uid = member.gid = 0
    member.uname = member.gname = ""
    return member


def report(session: Session, options: Options, size: int, target: str) -> None:
    if not options["quiet"] and sys.stderr.isatty():
        session.complain(f"Successfully copied {human_size(size, 3)} to {target}")


cp = Command(
    "cp",
    "[OPTIONS] CONTAINER:SRC_PATH DEST_PATH|-\n\tpyd cp [OPTIONS] SRC_PATH|- CONTAINER:DEST_PATH",
    "Copy files/folders between a container and the local filesystem",
    execute,
    FLAGS,
    (2, 2),
    ("pyd container cp", "pyd cp"),
)
