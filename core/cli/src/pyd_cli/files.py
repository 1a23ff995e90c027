"""Files and streams that are sent to the daemon, or that its answers are written to."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable
from contextlib import nullcontext
from typing import IO, Any

from pyd_cli.errors import CliError


def opened(path: str) -> Any:
    """A context with the file open for reading; `-` is stdin, which stays open. CliError in docker's words."""
    if path == "-":
        return nullcontext(sys.stdin.buffer)
    try:
        return open(path, "rb")
    except OSError as fault:
        raise CliError(f"open {path}: {(fault.strerror or str(fault)).lower()}") from fault


def save(path: str, chunks: Iterable[bytes], what: str) -> None:
    """Write `chunks` to `path`, whole or not at all; or to stdout, unless that is a terminal."""
    if not path:
        if sys.stdout.isatty():
            raise CliError(f"cowardly refusing to save to a terminal. Use the -o flag or redirect ({what})")
        sys.stdout.flush()
        for chunk in chunks:
            sys.stdout.buffer.write(chunk)
        sys.stdout.buffer.flush()
        return
    if os.path.exists(path) and not os.path.isfile(path):
        with _created(path, "wb") as file:  # a device or a pipe: there is nothing to put in its place
            for chunk in chunks:
                file.write(chunk)
        return
    draft = f"{path}.{os.getpid()}.part"
    try:
        with _created(draft, "xb") as file:
            for chunk in chunks:
                file.write(chunk)
        os.rename(draft, path)
    except BaseException:
        if os.path.exists(draft):
            os.unlink(draft)
        raise


def _created(path: str, mode: str) -> IO[bytes]:
    try:
        return open(path, mode)
    except OSError as fault:
        raise CliError(f"failed to save: open {path}: {(fault.strerror or str(fault)).lower()}") from fault
