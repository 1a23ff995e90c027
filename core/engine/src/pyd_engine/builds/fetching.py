"""What builds take from elsewhere: downloads by ``ADD``, contexts by address, and working trees by git."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import shutil
from collections.abc import AsyncIterator
from email.utils import parsedate_to_datetime
from pathlib import Path
from urllib.parse import unquote, urlsplit

import aiohttp
from yarl import URL

from pyd_contracts.errors import InvalidArgument, Unavailable, from_oserror
from pyd_engine.builds.output import Output
from pyd_engine.ending import end
from pyd_engine.files.client import work
from pyd_engine.images.progress import Reporter
from pyd_engine.images.transport import RegistryConfig, new_session, reason

__all__ = ["Fetching", "is_git", "is_url"]

_MOST_REDIRECTS = 10
_PIECE = 1 << 20
_WORKER = "pyd_engine.builds.worker"
_GIT = re.compile(r"(?:git://|github\.com/|git@|ssh://).*|https?://.+\.git(?:#.*)?", re.DOTALL)
_PROTOCOLS = "http:https:git:ssh"


def is_git(remote: str) -> bool:
    """Whether an address is one of a repository, as dockerd tells it."""
    return _GIT.fullmatch(remote) is not None


def is_url(remote: str) -> bool:
    """Whether it is one of a file."""
    return remote.startswith(("http://", "https://"))


class Fetching:
    """Fetches. *config* says which hosts may be reached without proof."""

    def __init__(self, config: RegistryConfig) -> None:
        self._config = config

    async def file(self, url: str, path: Path, output: Output) -> str:
        """A download into *path*, which is only root's to read; the name that it has there, empty when it has none."""
        async with self._opened(url) as response:
            total = response.content_length or 0
            reporter = Reporter(output.record)
            done = 0
            with path.open("xb") as file:
                os.fchmod(file.fileno(), 0o600)
                async for piece in response.content.iter_chunked(_PIECE):
                    try:
                        await asyncio.to_thread(file.write, piece)
                    except OSError as error:
                        raise from_oserror(error, f"write {path}") from error
                    done += len(piece)
                    reporter.bytes("", "Downloading", done, total or done)
            with contextlib.suppress(ValueError, TypeError, IndexError):
                moment = parsedate_to_datetime(response.headers.get("Last-Modified", "")).timestamp()
                os.utime(path, (moment, moment))
        return unquote(urlsplit(url).path).rpartition("/")[2]

    async def context(self, url: str, directory: Path) -> bytes | None:
        """A recipe, which is returned, or an archive, which is unpacked into *directory*."""
        what = f"error downloading remote context {url}"
        try:
            async with self._opened(url) as response:
                pieces = response.content.iter_chunked(_PIECE)
                first = b""
                while len(first) < 512 and (piece := await anext(pieces, b"")):
                    first += piece
                if _is_text(first):
                    text = first
                    async for piece in pieces:
                        text += piece
                        if len(text) > 4 << 20:
                            raise InvalidArgument(f"{what}: a recipe of more than {4 << 20} bytes")
                    return text

                async def all_() -> AsyncIterator[bytes]:
                    yield first
                    async for piece in pieces:
                        yield piece

                request = {"op": "unpack", "directory": str(directory), "recipe": "", "archive": True}
                running = await work(request, what, archive=all_(), module=_WORKER)
                await running.close()
                return None
        except Unavailable as error:
            raise Unavailable(f"{what}: {error}") from error

    @contextlib.asynccontextmanager
    async def _opened(self, url: str) -> AsyncIterator[aiohttp.ClientResponse]:
        async with new_session(self._config) as session:
            at = URL(url)
            for _ in range(_MOST_REDIRECTS):
                verify = not self._config.is_insecure(f"{at.host_subcomponent}:{at.port}")
                try:
                    async with session.get(at, allow_redirects=False, ssl=verify) as response:
                        if response.status in (301, 302, 303, 307, 308):
                            target = at.join(URL(response.headers.get("Location", "")))
                            if target.scheme not in ("http", "https") or (at.scheme, target.scheme) == (
                                "https",
                                "http",
                            ):
                                raise InvalidArgument(f"{url}: redirects to {str(target)[:200]!r}")
                            at = target
                            continue
                        if response.status >= 400:
                            raise InvalidArgument(
                                f"failed to GET {url} with status {response.status} {response.reason or ''}".rstrip()
                            )
                        yield response
                        return
                except (aiohttp.ClientError, OSError, TimeoutError, ValueError) as error:
                    raise Unavailable(f'Get "{url}": {reason(error, at)}') from error
            raise Unavailable(f'Get "{url}": stopped after {_MOST_REDIRECTS} redirects')

    async def repository(self, remote: str, directory: Path) -> Path:
        """A working tree below *directory*: ``ADDRESS#REF:FOLDER``; the folder."""
        if shutil.which("git") is None:
            raise InvalidArgument(
                "unable to find 'git': exec: \"git\": executable file not found in $PATH; install git"
            )
        address, _, fragment = remote.partition("#")
        ref, _, folder = fragment.partition(":")
        if ref.startswith("-"):
            raise InvalidArgument(f"invalid refspec: {ref}")
        if address.startswith("github.com/"):
            address = f"https://{address}"
        tree = directory / "tree"
        await _git("init", "--quiet", str(tree))
        await _git("-C", str(tree), "remote", "add", "origin", "--", address)
        try:
            await _git("-C", str(tree), "fetch", "--quiet", "--depth", "1", "--", "origin", ref or "HEAD")
            await _git("-C", str(tree), "checkout", "--quiet", "FETCH_HEAD")
        except Unavailable:  # a server that gives no single commits: all of it, then the one
            await _git(
                "-C", str(tree), "fetch", "--quiet", "--tags", "--", "origin", "+refs/heads/*:refs/remotes/origin/*"
            )
            await _git("-C", str(tree), "remote", "set-head", "origin", "--auto")
            try:
                await _git("-C", str(tree), "checkout", "--quiet", f"origin/{ref or 'HEAD'}", "--")
            except Unavailable:  # no branch: a tag or a commit
                await _git("-C", str(tree), "checkout", "--quiet", ref or "origin/HEAD", "--")
        await _git("-C", str(tree), "submodule", "update", "--quiet", "--init", "--recursive", "--depth=1")
        real = (tree / folder.lstrip("/")).resolve()
        if not real.is_relative_to(tree.resolve()) or not real.is_dir():
            raise InvalidArgument(f"error setting git checkout root, not a directory in the repository: {folder}")
        return real


async def _git(*words: str) -> None:
    """Run git; it asks nobody and goes nowhere but to servers."""
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith("GIT_")},
        "GIT_TERMINAL_PROMPT": "0", "GIT_ALLOW_PROTOCOL": _PROTOCOLS, "GIT_CONFIG_NOSYSTEM": "1", "LC_ALL": "C.UTF-8",
    }  # fmt: skip
    process = await asyncio.create_subprocess_exec(
        "git", *words, stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.PIPE,
        env=environment, cwd="/", start_new_session=True, umask=0o022,
    )  # fmt: skip
    try:
        _, said = await process.communicate()
    finally:
        await end(process)
    if process.returncode:
        text = said[-1000:].decode(errors="replace").strip()
        raise Unavailable(f"failed to read the repository: git {words[0] if words[0] != '-C' else words[2]}: {text}")


def _is_text(data: bytes) -> bool:
    """As Go's http.DetectContentType has it: no control characters that text does not have."""
    return not re.search(rb"[\x00-\x08\x0b\x0e-\x1a\x1c-\x1f]", data[:512])
