"""Layers into storage drivers: shared, lazy, verified, cleaned up."""

from __future__ import annotations

import asyncio
import gzip
import hashlib
import io
import json
import os
import shutil
import signal
import struct
import subprocess
import tarfile
import tempfile
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

import pytest

from pyd_contracts.errors import DriverFault, FailedPrecondition, NotFound, Unavailable
from pyd_contracts.values import Kind, LayerTarget, Mount, Snapshot, Usage, Whiteouts
from pyd_engine.layers.errors import LayerError
from pyd_engine.layers.process import Workers
from pyd_engine.layers.service import LayerDescriptor, Layers, chain_ids
from pyd_engine.layers.tar import Limits
from pyd_engine.store.content import Content
from pyd_engine.store.database import Database

pytestmark = [pytest.mark.root, pytest.mark.skipif(os.geteuid() != 0, reason="needs root: layers set owners and mount")]


class Shelf:
    """A storage driver for these tests: one directory per entry. *mode* is copy (unions), overlay (targets), rebase (targets,
    parents afterwards), or mounts."""

    def __init__(self, root: Path, mode: str) -> None:
        self.root, self.mode = root, mode
        words = {"mounts": set[str](), "rebase": {"layer-targets", "rebase"}}
        self.capabilities = frozenset(words.get(mode, {"layer-targets"}))
        self.entries: dict[str, Snapshot] = {}
        self.prepared = 0
        self.lock = threading.Lock()
        root.mkdir(exist_ok=True)

    def place(self, name: str) -> Path:
        return self.root / name.replace(":", "_")

    def below(self, name: str | None) -> list[str]:
        chain = []
        while name is not None:
            chain.append(name)
            name = self.entries[name].parent
        return chain

    def storage_prepare(self, *, key: str, parent: str | None, options: Mapping[str, str]) -> Sequence[Mount]:
        with self.lock:
            assert key not in self.entries
            assert not options
            if parent is not None and self.entries[parent].kind is not Kind.COMMITTED:
                raise FailedPrecondition(parent)
            if self.mode == "copy" and parent:
                subprocess.run(["cp", "-a", self.place(parent), self.place(key)], check=True)
            else:
                self.place(key).mkdir(mode=0o755)
            self.entries[key] = Snapshot(key, Kind.ACTIVE, parent)
            self.prepared += 1
            if self.mode == "copy" or parent is None:
                return [Mount("bind", str(self.place(key)))]
            (self.root / (key + "-work")).mkdir()
            lowers = tuple(f"lowerdir+={self.place(name)}" for name in self.below(parent))
            work = self.root / (key + "-work")
            return [Mount("overlay", "overlay", (*lowers, f"upperdir={self.place(key)}", f"workdir={work}"))]

    def storage_view(self, *, key: str, parent: str) -> Sequence[Mount]:
        with self.lock:
            assert key not in self.entries
            self.place(key).mkdir()
            self.entries[key] = Snapshot(key, Kind.VIEW, parent)
            lowers = [str(self.place(name)) for name in self.below(parent)]
            if self.mode == "copy" or len(lowers) == 1:
                return [Mount("bind", lowers[0], ("ro",))]
            return [Mount("overlay", "overlay", (*(f"lowerdir+={lower}" for lower in lowers), "ro"))]

    def storage_layer_target(self, *, key: str) -> LayerTarget:
        return LayerTarget(self.place(key), Whiteouts.PLAIN if self.mode == "copy" else Whiteouts.OVERLAY)

    def storage_rebase(self, *, key: str, parent: str) -> None:
        with self.lock:
            assert self.entries[key] == Snapshot(key, Kind.ACTIVE, None)
            if parent not in self.entries:
                raise NotFound(parent)
            assert self.entries[parent].kind is Kind.COMMITTED
            above = self.place(parent).stat()
            os.chown(self.place(key), above.st_uid, above.st_gid)
            os.chmod(self.place(key), above.st_mode & 0o7777)
            os.utime(self.place(key), ns=(above.st_atime_ns, above.st_mtime_ns))
            self.entries[key] = Snapshot(key, Kind.ACTIVE, parent)

    def storage_commit(self, *, name: str, key: str) -> Snapshot:
        with self.lock:
            entry = self.entries.pop(key)
            self.place(key).rename(self.place(name))
            self.entries[name] = Snapshot(name, Kind.COMMITTED, entry.parent)
            shutil.rmtree(self.root / (key + "-work"), ignore_errors=True)
            return self.entries[name]

    def storage_remove(self, *, name: str) -> None:
        with self.lock:
            if name not in self.entries:
                raise NotFound(name)
            if any(entry.parent == name for entry in self.entries.values()):
                raise FailedPrecondition(name)
            del self.entries[name]
            shutil.rmtree(self.place(name))
            shutil.rmtree(self.root / (name + "-work"), ignore_errors=True)

    def storage_stat(self, *, name: str) -> Snapshot:
        try:
            return self.entries[name]
        except KeyError:
            raise NotFound(name) from None

    def storage_walk(self) -> Iterable[Snapshot]:
        return list(self.entries.values())

    def storage_usage(self, *, name: str) -> Usage:
        return Usage(sum(path.lstat().st_size for path in self.place(name).rglob("*")), 1)

    def look(self, chain: str, tmp: Path, form: str) -> list[str]:
        """The union as find(1) prints it to somebody who mounts it."""
        point = tmp / "point"
        point.mkdir()
        lowers = [str(self.place(name)) for name in self.below(chain)]
        if self.mode == "copy" or len(lowers) == 1:
            script = f"mount --bind {lowers[0]} {point}"
        else:
            script = f"mount -t overlay overlay -o ro,lowerdir={':'.join(lowers)} {point}"
        script += f" && cd {point} && find . -printf '{form}\\n' | sort"
        out = subprocess.run(["unshare", "-m", "sh", "-c", script], check=True, capture_output=True, text=True).stdout
        point.rmdir()
        return out.splitlines()

    def tree(self, chain: str, tmp: Path) -> dict[str, str]:
        """The union as somebody would see who mounts it."""
        if self.mode == "copy":
            return _tree(self.place(chain))
        lowers = self.below(chain)
        if len(lowers) == 1:
            return _tree(self.place(chain))
        point = tmp / "point"
        point.mkdir()
        # short names: mount(8) takes all lower directories in one page
        script = f"mount -t overlay overlay -o ro,lowerdir={':'.join(str(self.place(name)) for name in lowers)} {point}"
        listing = f"{script} && cd {point} && find . -mindepth 1 -printf '%P %y\\n'"
        out = subprocess.run(["unshare", "-m", "sh", "-c", listing], check=True, capture_output=True, text=True).stdout
        point.rmdir()
        return dict(line.rsplit(" ", 1) for line in out.splitlines())


def _tree(root: Path) -> dict[str, str]:
    kinds = {True: "d", False: "f"}
    return {str(p.relative_to(root)): "l" if p.is_symlink() else kinds[p.is_dir()] for p in root.rglob("*")}


def tar(*names: str, data: Mapping[str, bytes] | None = None, links: Mapping[str, str] | None = None) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        for name in names:
            info = tarfile.TarInfo(name.rstrip("/"))
            content = (data or {}).get(name, name.encode())
            if name.endswith("/"):
                info.type, info.mode = tarfile.DIRTYPE, 0o755
                archive.addfile(info)
            elif name in (links or {}):
                info.type, info.linkname = tarfile.LNKTYPE, (links or {})[name]
                archive.addfile(info)
            else:
                info.size = len(content)
                archive.addfile(info, io.BytesIO(content))
    return out.getvalue()


class Rig:
    def __init__(self, tmp: Path, mode: str) -> None:
        self.tmp = tmp
        self.content = Content(tmp / "content")
        self.shelf = Shelf(tmp / "shelf", mode)
        self.database = Database(Path(":memory:"))

    def layers(self, **options: object) -> Layers:
        return Layers(self.database, self.content, {"s": self.shelf}, self.tmp / "run", **options)  # type: ignore[arg-type]

    def layer(self, data: bytes, *, packed: bool = True, diff: bytes | None = None) -> LayerDescriptor:
        digest = self.content.add(gzip.compress(data, 1) if packed else data)
        diff_id = "sha256:" + hashlib.sha256(data if diff is None else diff).hexdigest()
        return LayerDescriptor(digest, diff_id, "", self.content.size(digest))


@pytest.fixture(params=["copy", "overlay", "rebase", "mounts"])
def rig(request: pytest.FixtureRequest) -> Iterator[Rig]:
    # overlay's upper must not itself be overlay: tmpfs is always fit
    root = Path(tempfile.mkdtemp(prefix="pyd-layers-", dir="/dev/shm"))
    yield Rig(root, request.param)
    shutil.rmtree(root)


def test_chain_ids() -> None:
    first, second = "sha256:" + "1" * 64, "sha256:" + "2" * 64
    expected = "sha256:" + hashlib.sha256(f"{first} {second}".encode()).hexdigest()
    assert chain_ids([first, second]) == (first, expected)


async def _ensure(rig: Rig, layers: Layers) -> None:
    base = rig.layer(tar("etc/", "etc/passwd", "bin/", "bin/sh", "gone", "dir/", "dir/old"))
    # no entry for etc/, a hard link to a file of the layer below: both need the union
    second = rig.layer(
        tar("etc/group", ".wh.gone", "bin/bash", "dir/.wh..wh..opq", "dir/new", links={"bin/bash": "bin/sh"})
    )
    third = rig.layer(tar("dir/", "dir/.wh.new", "top"), packed=False)
    seen: list[tuple[str, str]] = []
    stack = [base, second, third]
    top = await layers.ensure("s", stack, lambda layer, state, done, total: seen.append((layer.digest, state)))
    assert top == chain_ids([layer.diff_id for layer in stack])[-1]
    expected = {
        "etc": "d",
        "etc/passwd": "f",
        "etc/group": "f",
        "bin": "d",
        "bin/sh": "f",
        "bin/bash": "f",
        "dir": "d",
        "top": "f",
    }
    assert rig.shelf.tree(top, rig.tmp) == expected
    assert [item for item in seen if item[1] == "complete"] == [(layer.digest, "complete") for layer in stack]
    assert all(entry.kind is Kind.COMMITTED for entry in rig.shelf.entries.values())
    assert len(rig.shelf.entries) == 3
    prepared = rig.shelf.prepared
    assert await layers.ensure("s", stack) == top
    assert rig.shelf.prepared == prepared
    assert layers.size(third.diff_id) == len(b"dir/.wh.newtop") - len("dir/.wh.new")
    assert (await layers.usage("s", top)).inodes
    assert list((rig.tmp / "run").iterdir() if (rig.tmp / "run").exists() else []) == []
    assert subprocess.run(["findmnt", "-rno", "TARGET"], capture_output=True, text=True).stdout.count(str(rig.tmp)) == 0


def test_ensure(rig: Rig) -> None:
    asyncio.run(_ensure(rig, rig.layers()))


def raw(*entries: tuple[str, dict[str, object], bytes]) -> bytes:
    """Entries with attributes of `tarfile.TarInfo`, and their content."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for name, attributes, content in entries:
            info = tarfile.TarInfo(name.rstrip("/"))
            info.type, info.size = (tarfile.DIRTYPE, 0) if name.endswith("/") else (tarfile.REGTYPE, len(content))
            for key, value in attributes.items():
                setattr(info, key, value)
            archive.addfile(info, io.BytesIO(content))
    return out.getvalue()


ACL = struct.pack("<I", 2) + b"".join(
    struct.pack("<HHI", tag, permissions, 0xFFFFFFFF) for tag, permissions in ((1, 7), (4, 5), (32, 0))
)
BASE = raw(
    ("own/", {"mode": 0o1750, "uid": 5, "gid": 6, "mtime": 1000}, b""),
    ("own/deep/", {"mode": 0o2711, "uid": 7, "mtime": 2000, "pax_headers": {"SCHILY.xattr.trusted.x": "y"}}, b""),
    ("own/deep/old", {"mode": 0o600}, b"old"),
    (
        "acl/",
        {
            "mode": 0o700,
            "pax_headers": {"SCHILY.xattr.system.posix_acl_default": ACL.decode("utf-8", "surrogateescape")},
        },
        b"",
    ),
    ("hidden/", {"mode": 0o711}, b""),
    ("hidden/sub/", {"mode": 0o711, "uid": 9}, b""),
    ("hidden/sub/gone", {}, b""),
    ("usr/", {"mode": 0o755}, b""),
    ("usr/lib/", {"mode": 0o755}, b""),
    ("lib", {"type": tarfile.SYMTYPE, "linkname": "usr/lib", "size": 0}, b""),
)
PARENTS = raw(
    ("own/deep/new/file", {"mode": 0o640, "uid": 3}, b"new"),
    ("acl/file", {"mode": 0o666}, b""),
    ("nowhere/at/all", {}, b""),
    ("hidden/.wh..wh..opq", {}, b""),
    ("hidden/sub/file", {}, b""),
)


def test_parents_without_an_entry_are_as_they_are_below(rig: Rig, caplog: pytest.LogCaptureFixture) -> None:
    """However the layer gets there; without going through the union where a directory of its own is asked for."""
    caplog.set_level("INFO")
    layers = rig.layers()
    top = asyncio.run(layers.ensure("s", [rig.layer(BASE), rig.layer(PARENTS)]))
    assert top
    assert "applied to the union" not in caplog.text
    assert rig.shelf.look(top, rig.tmp, "%P %y %m %U %G") == sorted([
        " d 755 0 0", "own d 1750 5 6", "own/deep d 2711 7 0", "own/deep/old f 600 0 0", "own/deep/new d 2755 0 0",
        "own/deep/new/file f 640 3 0", "acl d 700 0 0", "acl/file f 666 0 0", "nowhere d 755 0 0", "nowhere/at d 755 0 0",
        "nowhere/at/all f 644 0 0", "hidden d 711 0 0", "hidden/sub d 755 0 0", "hidden/sub/file f 644 0 0",
        "usr d 755 0 0", "usr/lib d 755 0 0", "lib l 777 0 0",
    ])  # fmt: skip
    assert set(rig.shelf.entries) == set(chain_ids([rig.layer(data).diff_id for data in (BASE, PARENTS)]))
    place = rig.shelf.place(top)
    assert os.getxattr(place / "own" / "deep", "trusted.x") == b"y"
    assert os.getxattr(place / "acl", "system.posix_acl_default") == ACL
    if rig.shelf.mode in {"overlay", "rebase"}:
        assert [(place / name).stat().st_mtime for name in ("own", "own/deep")] == [1000, 2000]


def test_parents_behind_a_link_need_the_union(rig: Rig, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    top = asyncio.run(rig.layers().ensure("s", [rig.layer(BASE), rig.layer(raw(("lib/new", {}, b"")))]))
    assert top
    assert ("applied to the union" in caplog.text) is (rig.shelf.mode in {"overlay", "rebase"})
    assert {"usr/lib/new f", "lib l"} <= set(rig.shelf.look(top, rig.tmp, "%P %y"))


def test_workers_go_with_the_last_that_keeps_them(tmp_path: Path) -> None:
    rig = Rig(tmp_path, "copy")

    def children() -> int:
        return len(Path(f"/proc/self/task/{os.getpid()}/children").read_text().split())

    async def run() -> None:
        layers, before = rig.layers(), children()
        async with layers.workers():
            await layers.ensure("s", [rig.layer(tar("a")), rig.layer(tar("b"))])
            await layers.ensure("s", [rig.layer(tar("c"))])
            assert children() == before + 1
        assert children() == before
        await layers.ensure("s", [rig.layer(tar("d"))])
        async with layers.workers():
            pass
        assert children() == before

    asyncio.run(run())


def test_a_process_that_is_killed_is_told_of_and_the_next_works(tmp_path: Path) -> None:
    rig = Rig(tmp_path, "copy")
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)

    async def run() -> None:
        workers = Workers()
        family = Path(f"/proc/self/task/{os.getpid()}/children")
        others = family.read_text().split()  # daemons of other tests

        def own() -> list[str]:
            return [each for each in family.read_text().split() if each not in others]

        async with workers.kept():
            blob = os.open(fifo, os.O_RDWR)  # nobody writes: the work never ends
            request = {"digest": "sha256:" + "0" * 64, "diff_id": "", "target": str(tmp_path), "mounts": [], "lower": False,
                       "overlay": False, "limits": asdict(Limits())}  # fmt: skip
            work = asyncio.create_task(workers.ask(request, lambda _: None, "unpack", (blob,)))
            while not (mine := own()):
                await asyncio.sleep(0.01)
            forked = Path(f"/proc/{mine[0]}/task/{mine[0]}/children")
            while not forked.read_text().split():
                await asyncio.sleep(0.01)
            os.kill(int(forked.read_text()), signal.SIGKILL)
            with pytest.raises(Unavailable, match="unpack: its worker was killed by signal 9; memory may have run out"):
                await work
            os.close(blob)
            assert own() == mine
            assert not forked.read_text().split()
            assert (await workers.ask({"skeleton": True, "target": str(tmp_path), "mounts": []}, lambda _: None, ""))[
                "done"
            ]

    asyncio.run(run())
    assert (tmp_path / "etc" / "hosts").exists()
    assert not rig.shelf.entries


def test_no_layers(tmp_path: Path) -> None:
    rig = Rig(tmp_path, "copy")
    assert asyncio.run(rig.layers().ensure("s", [])) is None
    with pytest.raises(NotFound, match="'x' is not loaded; loaded: s"):
        asyncio.run(rig.layers().ensure("x", [rig.layer(tar("a"))]))


def test_callers_share_one_unpacking(tmp_path: Path) -> None:
    rig = Rig(tmp_path, "copy")
    stack = [rig.layer(tar("a", "b/")), rig.layer(tar("c"))]

    async def run() -> None:
        layers = rig.layers()
        tops = await asyncio.gather(*[layers.ensure("s", stack) for _ in range(8)])
        assert len(set(tops)) == 1

    asyncio.run(run())
    assert rig.shelf.prepared == 2


BIG = {"big": bytes(64 << 20)}


def test_cancel_leaves_nothing_and_others_go_on(tmp_path: Path) -> None:
    rig = Rig(tmp_path, "copy")
    stack = [rig.layer(tar("big", data=BIG))]

    async def run() -> None:
        layers = rig.layers()
        first = asyncio.create_task(layers.ensure("s", stack))
        second = asyncio.create_task(layers.ensure("s", stack))
        while layers.waiting("s", stack) < 2:
            await asyncio.sleep(0.001)
        first.cancel()
        with pytest.raises(asyncio.CancelledError):
            await first
        assert await second
        assert rig.shelf.prepared == 1
        other = [rig.layer(tar("big", data={"big": bytes(65 << 20)}))]
        alone = asyncio.create_task(layers.ensure("s", other))
        while len(rig.shelf.entries) < 2:
            await asyncio.sleep(0.001)
        alone.cancel()
        with pytest.raises(asyncio.CancelledError):
            await alone
        assert len(rig.shelf.entries) == 1
        assert await layers.ensure("s", other)

    asyncio.run(run())
    assert len(rig.shelf.entries) == 2


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda rig: rig.layer(tar("../x")), LayerError, r'entry "../x": \'\.\.\' in the name'),
        (lambda rig: rig.layer(tar("a"), diff=b"other"), LayerError, "but the image's configuration says"),
        (lambda rig: rig.layer(tar("a")[:300]), LayerError, "truncated|ends"),
        (lambda rig: rig.layer(b"no tar at all" * 100), LayerError, "checksum"),
        (lambda rig: rig.layer(tar("big", data=BIG)), LayerError, "limit of 33554432 bytes"),
        (lambda rig: LayerDescriptor("sha256:" + "1" * 64, "sha256:" + "2" * 64), NotFound, "blob"),
    ],
    ids=["traversal", "diff id", "truncated", "no tar", "bomb", "no blob"],
)
def test_failures_leave_nothing(tmp_path: Path, make: object, error: type[Exception], message: str) -> None:
    rig = Rig(tmp_path, "copy")
    layers = rig.layers(limits=Limits(total=32 << 20))
    with pytest.raises(error, match=message):
        asyncio.run(layers.ensure("s", [make(rig)]))  # type: ignore[operator]
    assert rig.shelf.entries == {}
    assert rig.database.rows("SELECT * FROM layer_sizes") == []


def test_damaged_blob_is_removed(tmp_path: Path) -> None:
    rig = Rig(tmp_path, "copy")
    layer = rig.layer(tar("a", "b"))
    path = rig.content.path(layer.digest)
    data = bytearray(path.read_bytes())
    data[-6] ^= 1
    path.write_bytes(data)
    with pytest.raises(DriverFault, match="bytes on disk have the digest .* pull the image again"):
        asyncio.run(rig.layers().ensure("s", [layer]))
    assert not rig.content.has(layer.digest)
    assert rig.shelf.entries == {}


def test_leftovers_are_swept(tmp_path: Path) -> None:
    rig = Rig(tmp_path, "copy")
    layer = rig.layer(tar("a"))
    chain = chain_ids([layer.diff_id])[0].removeprefix("sha256:")
    rig.shelf.storage_prepare(key=f"unpack-{chain}-dead", parent=None, options={})
    rig.shelf.storage_prepare(key=f"unpack-{'0' * 64}-dead", parent=None, options={})
    rig.shelf.storage_prepare(key="container", parent=None, options={})

    async def run() -> None:
        layers = rig.layers()
        await layers.ensure("s", [layer])
        assert set(rig.shelf.entries) == {"sha256:" + chain, f"unpack-{'0' * 64}-dead", "container"}
        await layers.sweep()
        assert set(rig.shelf.entries) == {"sha256:" + chain, "container"}

    asyncio.run(run())


def test_remove_unused(tmp_path: Path) -> None:
    rig = Rig(tmp_path, "copy")
    base, one, two, three = (rig.layer(tar(name)) for name in "abcd")

    async def run() -> None:
        layers = rig.layers()
        kept = await layers.ensure("s", [base, one])
        await layers.ensure("s", [base, two, three])
        used = await layers.ensure("s", [three])
        assert kept
        rig.shelf.storage_prepare(key="container", parent=used, options={})
        assert await layers.remove_unused({kept}) == 2
        assert set(rig.shelf.entries) == {*chain_ids([base.diff_id, one.diff_id]), used, "container"}

    asyncio.run(run())


def test_equals_umoci(tmp_path: Path) -> None:
    """The same layers, unpacked by the OCI project's own tool."""
    if shutil.which("umoci") is None:
        pytest.skip("umoci is not installed")
    rig = Rig(tmp_path, "copy")
    stack = [
        rig.layer(tar("etc/", "etc/passwd", "bin/", "bin/sh", "gone", "dir/", "dir/old", "dir/sub/", "dir/sub/x", "kind/",
                      "kind/a")),
        rig.layer(tar("etc/", "etc/group", ".wh.gone", "bin/bash", "dir/", "dir/.wh..wh..opq", "dir/new",
                      links={"bin/bash": "bin/sh"})),
        rig.layer(tar("dir/", "dir/.wh.new", "kind", "top", "bin/", "bin/.wh.missing")),
    ]  # fmt: skip
    top = asyncio.run(rig.layers().ensure("s", stack))
    assert top
    image = tmp_path / "image"
    (image / "blobs" / "sha256").mkdir(parents=True)

    def blob(data: bytes) -> dict[str, object]:
        digest = hashlib.sha256(data).hexdigest()
        (image / "blobs" / "sha256" / digest).write_bytes(data)
        return {"digest": "sha256:" + digest, "size": len(data)}

    kind = "application/vnd.oci.image."
    rootfs = {"type": "layers", "diff_ids": [layer.diff_id for layer in stack]}
    config = blob(json.dumps({"architecture": "amd64", "os": "linux", "rootfs": rootfs}).encode())
    layers = [blob(rig.content.path(layer.digest).read_bytes()) for layer in stack]
    manifest = {
        "schemaVersion": 2,
        "config": {"mediaType": kind + "config.v1+json", **config},
        "layers": [{"mediaType": kind + "layer.v1.tar+gzip", **layer} for layer in layers],
    }
    entry = {"mediaType": kind + "manifest.v1+json", **blob(json.dumps(manifest).encode())}
    entry["annotations"] = {"org.opencontainers.image.ref.name": "tag"}
    (image / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": [entry]}))
    (image / "oci-layout").write_text('{"imageLayoutVersion":"1.0.0"}')
    subprocess.run(["umoci", "raw", "unpack", "--image", f"{image}:tag", tmp_path / "theirs"], check=True)
    ours, theirs = rig.shelf.place(top), tmp_path / "theirs"
    assert _tree(ours) == _tree(theirs)
    assert len(_tree(ours)) == 9
    for name, kind in _tree(ours).items():
        assert (ours / name).lstat().st_mode == (theirs / name).lstat().st_mode
        assert kind == "d" or (ours / name).read_bytes() == (theirs / name).read_bytes()


# --- beside one another -------------------------------------------------------------------------------------------------


def test_layers_are_written_before_those_below_them_are_here(tmp_path: Path) -> None:
    rig = Rig(tmp_path, "rebase")
    stack = [rig.layer(tar("a/", "a/one")), rig.layer(tar("a/two")), rig.layer(tar("b", "a/.wh.one"))]
    seen: list[tuple[str, str]] = []

    async def run() -> str | None:
        layers, here = rig.layers(workers=2), asyncio.Event()

        async def arrival(layer: LayerDescriptor) -> None:
            if layer is stack[0]:
                await here.wait()

        told = lambda layer, state, done, total: seen.append((layer.digest, state))  # noqa: E731
        work = asyncio.create_task(layers.ensure("s", stack, told, arrival))
        while len([path for path in rig.shelf.root.rglob("*") if path.name in {"two", ".wh.one", "b"}]) < 2:
            await asyncio.sleep(0.01)
        assert not any(entry.kind is Kind.COMMITTED for entry in rig.shelf.entries.values())
        here.set()
        return await work

    top = asyncio.run(run())
    assert top
    assert rig.shelf.look(top, tmp_path, "%P") == ["", "a", "a/two", "b"]
    assert [digest for digest, state in seen if state == "complete"] == [layer.digest for layer in stack]
    assert rig.shelf.prepared == 3
    assert {entry.kind for entry in rig.shelf.entries.values()} == {Kind.COMMITTED}


@pytest.mark.parametrize("broken", [0, 1, 2])
def test_a_layer_that_is_at_fault_ends_the_others(tmp_path: Path, broken: int) -> None:
    rig = Rig(tmp_path, "rebase")
    parts = [tar("a"), tar("b"), tar("big", data=BIG)]
    parts[broken] = tar("../x")
    stack = [rig.layer(part) for part in parts]
    with pytest.raises(LayerError, match=r"'\.\.' in the name"):
        asyncio.run(rig.layers(workers=2).ensure("s", stack))
    assert {entry.kind for entry in rig.shelf.entries.values()} <= {Kind.COMMITTED}
    assert len(rig.shelf.entries) <= broken


def test_a_caller_that_goes_leaves_the_work_to_the_other(tmp_path: Path) -> None:
    rig = Rig(tmp_path, "rebase")
    stack = [rig.layer(tar("a")), rig.layer(tar("b")), rig.layer(tar("c"))]

    async def run() -> None:
        layers = rig.layers(workers=2)

        async def arrival(layer: LayerDescriptor) -> None:
            if layer is stack[0]:
                await asyncio.Event().wait()  # never

        first = asyncio.create_task(layers.ensure("s", stack, None, arrival))
        while len(rig.shelf.entries) < 2:
            await asyncio.sleep(0.001)
        second = asyncio.create_task(layers.ensure("s", stack))
        while layers.waiting("s", stack) < 2:
            await asyncio.sleep(0.001)
        first.cancel()
        with pytest.raises(asyncio.CancelledError):
            await first
        assert await second == chain_ids([layer.diff_id for layer in stack])[-1]

    asyncio.run(run())
    assert rig.shelf.prepared == 3
    assert len(rig.shelf.entries) == 3


@pytest.mark.parametrize("mode", ["copy", "rebase"])
def test_the_root_directory_is_what_the_last_that_names_it_says(tmp_path: Path, mode: str) -> None:
    rig = Rig(tmp_path, mode)
    top = raw(
        ("./", {"mode": 0o1711, "uid": 5, "mtime": 7, "pax_headers": {"SCHILY.xattr.user.x": "y"}}, b""), ("b", {}, b"")
    )
    stack = [rig.layer(tar("a")), rig.layer(top), rig.layer(tar("c"))]
    last = asyncio.run(rig.layers().ensure("s", stack))
    assert last
    middle = rig.shelf.place(chain_ids([layer.diff_id for layer in stack])[1])
    assert os.getxattr(middle, "user.x") == b"y"
    assert middle.stat().st_mtime == 7
    assert rig.shelf.look(last, tmp_path, "%P %m %U") == [" 1711 5", "a 644 0", "b 644 0", "c 644 0"]


def test_one_process_of_several_is_ended_alone(tmp_path: Path) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    family = Path(f"/proc/self/task/{os.getpid()}/children")

    async def run() -> None:
        workers = Workers()
        async with workers.kept():
            blob = os.open(fifo, os.O_RDWR)  # nobody writes: the work never ends
            request = {"digest": "sha256:" + "0" * 64, "diff_id": "", "target": str(tmp_path), "mounts": [], "lower": False,
                       "overlay": False, "limits": asdict(Limits())}  # fmt: skip
            works = [asyncio.create_task(workers.ask(request, lambda _: None, "unpack", (blob,))) for _ in range(3)]
            while not (mine := family.read_text().split()):
                await asyncio.sleep(0.01)
            forked = Path(f"/proc/{mine[0]}/task/{mine[0]}/children")
            while len(forked.read_text().split()) < 3:
                await asyncio.sleep(0.01)
            works[1].cancel()
            with pytest.raises(asyncio.CancelledError):
                await works[1]
            assert len(forked.read_text().split()) == 2
            assert not works[0].done()
            assert not works[2].done()
            os.kill(int(mine[0]), signal.SIGKILL)  # and all of it
            for each in (works[0], works[2]):
                with pytest.raises(Unavailable, match="killed by signal 9"):
                    await each
            os.close(blob)
            request = {"skeleton": True, "target": str(tmp_path), "mounts": []}
            assert "done" in await workers.ask(request, lambda _: None, "")
        assert not family.read_text().split()

    asyncio.run(run())
