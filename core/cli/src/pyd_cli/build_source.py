"""Where a build's context and recipe come from: a directory, stdin, or an address that the daemon fetches itself.

What can be said to be wrong is said before anything is sent, in docker's words.
"""

from __future__ import annotations

import errno
import os
import secrets
import sys
from collections.abc import Iterator
from typing import IO

from pyd_cli import build_context as contexts
from pyd_cli.dockerignore import for_build
from pyd_cli.errors import CliError

RECIPE = "Dockerfile"
_REMOTE = ("http://", "https://", "git://", "github.com/", "git@")


class Source:
    """`body` is the archive (None: the daemon fetches `remote`), `recipe` the recipe's name in it."""

    __slots__ = ("body", "recipe", "remote")

    def __init__(self, body: Iterator[bytes] | None, recipe: str, remote: str = "") -> None:
        self.body = body
        self.recipe = recipe
        self.remote = remote


def prepared(context: str, file: str) -> Source:
    """The source of `pyd build -f FILE CONTEXT`. CliError when there is none."""
    if context == "-":
        if file == "-":
            raise CliError("invalid argument: can't use stdin for both build context and dockerfile")
        return _from_stdin(sys.stdin.buffer, file)
    if os.path.exists(context):
        return _from_directory(context, file)
    if context.startswith(_REMOTE):
        if file == "-":
            raise CliError("invalid argument: a recipe from stdin needs a context that is a directory")
        return Source(None, file, context)
    raise CliError(f'unable to prepare context: path "{context}" not found')


def _from_stdin(stdin: IO[bytes], file: str) -> Source:
    start = b""
    while len(start) < contexts.BLOCK and (data := stdin.read(contexts.BLOCK - len(start))):
        start += data
    if contexts.is_archive(start):
        return Source(_rest(start, stdin), file)
    return Source(iter((contexts.single(RECIPE, start + stdin.read()), contexts.END)), RECIPE)


def _rest(start: bytes, stdin: IO[bytes]) -> Iterator[bytes]:
    yield start
    while data := stdin.read(contexts.PIECE):
        yield data


def _from_directory(context: str, file: str) -> Source:
    try:
        root = os.path.realpath(context, strict=True)
        if not os.path.isdir(root):
            raise CliError(f"unable to prepare context: context must be a directory: {root}")
    except OSError as fault:
        raise CliError(
            f"unable to prepare context: unable to evaluate symlinks in context path: {told(fault)}"
        ) from fault
    if file == "-":
        return _with_foreign(root, sys.stdin.buffer.read())
    path = _recipe(root, file)
    relative = os.path.relpath(path, root)
    if relative.startswith("../"):
        try:
            with open(path, "rb") as opened:
                content = opened.read()
        except OSError as fault:
            raise CliError(f"unable to open Dockerfile: {told(fault, 'open')}") from fault
        return _with_foreign(root, content)
    return Source(contexts.Walk(root, for_build(root, relative)).archive(), relative)


def _with_foreign(root: str, recipe: bytes) -> Source:
    name = f".dockerfile.{secrets.token_hex(10)}"
    return Source(contexts.with_recipe(root, for_build(root, ""), name, recipe).archive(), name)


def _recipe(root: str, file: str) -> str:
    """Where the recipe stands, its links followed."""
    path = os.path.abspath(file) if file else os.path.join(root, RECIPE)
    if not file and not os.path.lexists(path) and os.path.lexists(lower := os.path.join(root, RECIPE.lower())):
        path = lower
    try:
        return os.path.realpath(path, strict=True)
    except OSError as fault:
        raise CliError(
            f"unable to prepare context: unable to evaluate symlinks in Dockerfile path: {told(fault)}"
        ) from fault


def told(fault: OSError, call: str = "lstat") -> str:
    """The fault as Go words it: `lstat /a/b: no such file or directory`."""
    if fault.errno == errno.ELOOP and call == "lstat":
        return "EvalSymlinks: too many links"
    return f"{call} {fault.filename}: {(fault.strerror or str(fault)).lower()}"
