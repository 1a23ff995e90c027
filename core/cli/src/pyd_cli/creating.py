"""Creating a container, and pulling its image first when it is not there: the common half of `run` and `create`."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Any

from pyd_cli import terminal
from pyd_cli.errors import ApiError, CliError
from pyd_cli.proxies import proxies
from pyd_cli.references import parse
from pyd_cli.run_options import create_body

if TYPE_CHECKING:
    from pyd_cli.flags import Options
    from pyd_cli.session import Session


class IdFile:
    """`--cidfile`: must not exist before; gone again when no container came of it."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.descriptor = -1
        if not path:
            return
        try:
            self.descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
        except FileExistsError:
            raise CliError(
                f"container ID file found, make sure the other container isn't running or delete {path}", 125
            ) from None
        except OSError as fault:
            raise CliError(f"failed to create the container ID file: open {path}: {fault.strerror}", 125) from fault

    def close(self, identity: str) -> None:
        """Write the id; without one, remove the file."""
        if self.descriptor < 0:
            return
        with os.fdopen(self.descriptor, "w") as file:
            file.write(identity)
        self.descriptor = -1
        if not identity:
            os.unlink(self.path)


def create(session: Session, options: Options, args: list[str]) -> tuple[str, dict[str, Any]]:
    """(id, the body that made it). Pulls the image as `--pull` says; prints the daemon's warnings on stderr."""
    image, command = args[0], args[1:]
    when = options["pull"]
    if when not in ("always", "missing", "never", ""):
        raise CliError(f'invalid pull option: \'{when}\': must be one of "always", "missing" or "never"', 125)
    body = create_body(options, image, command)
    given = {item.partition("=")[0] for item in body.get("Env", ())}
    if found := proxies(session, given):
        body["Env"] = [*body.get("Env", ()), *(f"{name}={value}" for name, value in found.items())]
    if options["tty"]:
        rows, columns = terminal.size()
        if rows and columns:
            body["HostConfig"]["ConsoleSize"] = [rows, columns]
    if not image.startswith("sha256:"):
        try:
            parse(image)
        except CliError as fault:
            raise CliError(str(fault), 125) from None
    platform = options["platform"] or os.environ.get("DOCKER_DEFAULT_PLATFORM", "")
    id_file = IdFile(options["cidfile"])
    identity = ""
    try:
        if when == "always":
            pull(session, options, image, platform)
        identity = _create(session, options, body, platform, pull_missing=when in ("missing", ""))
    finally:
        id_file.close(identity)
    return identity, body


def _create(session: Session, options: Options, body: dict[str, Any], platform: str, pull_missing: bool) -> str:
    query = {"name": options["name"], "platform": platform if session.api.at_least("1.41") else ""}
    try:
        created = session.api.post("/containers/create", query, body)
    except ApiError as fault:
        if fault.status != 404 or not pull_missing or "no such image" not in fault.detail.lower():
            raise
        if not options["quiet"]:
            reference = parse(body["Image"])
            if not reference.tag and not reference.digest:
                reference.tag = "latest"
            session.complain(f"Unable to find image '{reference}' locally")
        pull(session, options, body["Image"], platform)
        created = session.api.post("/containers/create", query, body)
    for warning in created.get("Warnings") or []:
        session.complain(f"WARNING: {warning}")
    identity: str = created["Id"]
    return identity


def pull(session: Session, options: Options, image: str, platform: str) -> None:
    """Pull with progress on stderr, which is not the container's output."""
    from pyd_cli.progress import drain, show
    from pyd_cli.pulling import messages

    stream = messages(session, image, platform)
    if options["quiet"]:
        drain(stream)
    else:
        show(stream, sys.stderr)
