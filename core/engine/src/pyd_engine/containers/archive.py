"""Files of containers, whatever state these are in: copy out and in, export, diff, and the layer of a commit."""

from __future__ import annotations

import asyncio
import contextlib
import os
import tempfile
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

from pyd_contracts.errors import InvalidArgument, NotFound
from pyd_contracts.values import Mount
from pyd_engine.containers.container import Container, Phase
from pyd_engine.containers.joining import remapped
from pyd_engine.containers.runner import Runner
from pyd_engine.containers.store import ContainerStore
from pyd_engine.files.client import Work, work

__all__ = ["Archive", "Files"]


class Archive:
    """Bytes of an archive; closing ends its worker and takes back what was mounted for it."""

    def __init__(self, running: Work, held: AsyncExitStack) -> None:
        self._running = running
        self._held = held
        self.stat: dict[str, Any] = running.answer.get("stat", {})

    def __aiter__(self) -> AsyncIterator[bytes]:
        return aiter(self._running)

    async def aclose(self) -> None:
        """Twice is once."""
        await self._held.aclose()


class Files:
    """The operations. *run* is for mount points; *lock* keeps a stopped container from starting while its files are mounted
    here."""

    def __init__(
        self,
        store: ContainerStore,
        runner: Runner,
        lock: Callable[[str], asyncio.Lock],
        run: Path,
        tell: Callable[[str, Container], None],
    ) -> None:
        self._store = store
        self._runner = runner
        self._lock = lock
        self._run = run
        self._tell = tell

    # --- copy ----------------------------------------------------------------------------------------------------

    async def stat(self, ref: str, path: str) -> dict[str, Any]:
        """Docker's ContainerPathStat. NotFound in dockerd's words."""
        archive = await self._inside(ref, {"op": "stat", "path": path}, f"look at {ref}:{path}")
        await archive.aclose()
        return archive.stat

    async def get(self, ref: str, path: str) -> Archive:
        """A file or a tree as a tar archive, and its stat."""
        archive = await self._inside(ref, {"op": "get", "path": path}, f"copy from {ref}:{path}")
        self._tell("archive-path", self._store.get(ref))
        return archive

    async def put(
        self, ref: str, path: str, content: AsyncIterator[bytes], *, keep_kinds: bool, own_user: bool
    ) -> None:
        """Extract a tar archive, compressed or not, into a directory."""
        container = self._store.get(ref)
        owner = _owner(container) if own_user else None
        self._writable(container, path)
        request = {"op": "put", "path": path, "keep_kinds": keep_kinds, "owner": owner}
        archive = await self._inside(ref, request, f"copy to {ref}:{path}", content)
        await archive.aclose()
        self._tell("extract-to-dir", container)

    @staticmethod
    def _writable(container: Container, path: str) -> None:
        """Where the container itself could not write, nothing is written for it (as dockerd has it)."""
        whole = "/" + path.strip("/")
        points = [
            each for each in container.mounts if whole == each.destination or whole.startswith(f"{each.destination}/")
        ]
        deepest = max(points, key=lambda each: len(each.destination), default=None)
        if deepest is not None and deepest.read_only:
            raise InvalidArgument("mounted volume is marked read-only")
        if deepest is None and container.host_config.readonly_rootfs:
            raise InvalidArgument("container rootfs is marked read-only")

    # --- whole file systems --------------------------------------------------------------------------------------

    async def export(self, ref: str) -> Archive:
        """The container's root file system as a tar archive."""
        container = self._store.get(ref)
        if container.state.phase in (Phase.REMOVING, Phase.DEAD):
            raise NotFound(f"You cannot export container {container.id} which is {container.state.phase.value}")
        archive = await self._on_root(container, {"op": "export"}, f"export {ref}")
        self._tell("export", container)
        return archive

    async def changes(self, ref: str) -> list[dict[str, Any]] | None:
        """Docker's list of changes against the image."""
        container = self._store.get(ref)
        what = f"compare {ref} with its image"
        found = await self._known(container)
        if found is None:
            archive = await self._compared(container, "changes", what)
            await archive.aclose()
            found = archive.changes
        return [{"Path": path, "Kind": kind} for kind, path in sorted(found, key=lambda each: each[1])] or None

    async def layer(self, container: Container) -> Archive:
        """The changes against the image as a layer."""
        what = f"make a layer of {container.name}"
        known = await self._known(container)
        if known is None:
            return await self._compared(container, "layer", what)
        # What changes from here on is in the layer or not, as it is with every copy of something in use.
        return await self._on_root(container, {"op": "layer", "known": known}, what)

    async def _known(self, container: Container) -> list[tuple[int, str]] | None:
        """What the storage driver says has changed, as (kind, absolute path); None when it does not know."""
        found = await asyncio.to_thread(self._runner.changes, container)
        if found is None:
            return None
        return [(each.kind.value, "/" + os.fsdecode(each.path)) for each in found if each.path]

    # --- workers -------------------------------------------------------------------------------------------------

    async def _inside(
        self, ref: str, request: dict[str, Any], what: str, content: AsyncIterator[bytes] | None = None
    ) -> _Changes:
        """With everything the container sees: in its mount namespace, or with its volumes mounted when it has none."""
        container = self._store.get(ref)
        request = {"container": ref, **_NOTHING, **request}
        async with AsyncExitStack() as held:
            if container.state.phase.alive and (pidfd := _pidfd(container)) >= 0:
                held.callback(os.close, pidfd)
                current = self._store.get(container.id)
                if current.state.pid == container.state.pid and current.state.phase.alive:
                    enter = {"pidfd": pidfd, "users": remapped(current.state.pid)}
                    return await self._start({**request, **enter}, what, held, (pidfd,), content)
            await held.enter_async_context(self._lock(container.id))
            container = self._store.get(container.id)
            mounted = await asyncio.to_thread(self._runner.mounts.mount, container, announce=False)
            held.push_async_callback(asyncio.to_thread, self._runner.mounts.unmount, container)
            held.callback(mounted.close)
            binds = [
                [each.source, each.destination, each.read_only, each.type == "bind"]
                for each in mounted.binds
                if each.type != "tmpfs"
            ]
            if (remap := self._runner.remap_of(container)) is not None:
                request["ids"] = [remap.users, remap.groups]
            mounts = await self._mounts(container, held)
            request |= {"mounts": _plain(mounts), "binds": binds, "target": self._target(held)}
            return await self._start(request, what, held, (), content)

    async def _on_root(self, container: Container, request: dict[str, Any], what: str) -> _Changes:
        """With the root file system alone: volumes are not part of an export."""
        async with AsyncExitStack() as held:
            root, fds = await self._bare(container, held)
            return await self._start({"container": container.name, **_NOTHING, **request, **root}, what, held, fds)
        raise AssertionError

    async def _bare(self, container: Container, held: AsyncExitStack) -> tuple[dict[str, Any], tuple[int, ...]]:
        """The root file system without what is mounted into it: taken out of a running container's mount namespace, for an
        overlay's upper directory must not be mounted twice; else mounted."""
        pidfd = _pidfd(container) if container.state.phase.alive else -1
        if pidfd >= 0:
            held.callback(os.close, pidfd)
            return {"pidfd": pidfd, "bare": True, "users": remapped(container.state.pid)}, (pidfd,)
        await held.enter_async_context(self._lock(container.id))
        mounts = await self._mounts(container, held)
        return {"mounts": _plain(mounts), "target": self._target(held)}, ()

    async def _mounts(self, container: Container, held: AsyncExitStack) -> Sequence[Mount]:
        """How to mount the root file system of a container that does not run; let go of it afterwards."""
        held.push_async_callback(asyncio.to_thread, self._runner.release, container)
        return await asyncio.to_thread(self._runner.root, container)

    async def _compared(self, container: Container, op: str, what: str) -> _Changes:
        async with AsyncExitStack() as held:
            parent = await asyncio.to_thread(self._runner.view, container)
            held.push_async_callback(asyncio.to_thread, self._runner.drop_view, container)
            request = {"container": container.name, **_NOTHING, "op": op, "parent": _plain(parent)}
            request["target"] = self._target(held)
            if container.state.phase.alive and remapped(container.state.pid):
                # Seen from inside, its files could not be compared with the image's: these have the ids on the disk.
                mounts = await asyncio.to_thread(self._runner.root, container)
                return await self._start({**request, "mounts": _plain(mounts)}, what, held)
            root, fds = await self._bare(container, held)
            return await self._start({**request, **root, "target": request["target"]}, what, held, fds)
        raise AssertionError

    def _target(self, held: AsyncExitStack) -> str:
        """An empty directory to mount on; the mounts end with the worker."""
        return held.enter_context(tempfile.TemporaryDirectory(dir=self._run, prefix="files-"))

    @staticmethod
    async def _start(
        request: dict[str, Any], what: str, held: AsyncExitStack, fds: Sequence[int] = (),
        content: AsyncIterator[bytes] | None = None,
    ) -> _Changes:  # fmt: skip
        running = await work(request, what, fds=fds, archive=content)
        held.push_async_callback(running.close)
        return _Changes(running, held.pop_all())


class _Changes(Archive):
    """What a worker gave."""

    def __init__(self, running: Work, held: AsyncExitStack) -> None:
        super().__init__(running, held)
        self.changes: list[tuple[int, str]] = running.answer.get("changes", [])


_NOTHING: dict[str, Any] = {
    "pidfd": -1, "mounts": [], "binds": [], "target": "", "known": None, "parent": [], "path": "/", "owner": None,
    "keep_kinds": False, "bare": False, "users": False, "ids": None,
}  # fmt: skip


def _plain(mounts: Sequence[Mount]) -> list[list[Any]]:
    return [[each.type, each.source, list(each.options)] for each in mounts]


def _pidfd(container: Container) -> int:
    try:
        return os.pidfd_open(container.state.pid)
    except OSError:
        return -1


def _owner(container: Container) -> tuple[int, int] | None:
    """The container's user, where it is said in numbers; names are the container's own business."""
    user, _, group = container.config.user.partition(":")
    with contextlib.suppress(ValueError):
        uid = int(user or 0)
        return uid, int(group) if group else uid if user else 0
    return None
