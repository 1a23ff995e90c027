"""Images as clients see them: names, inspect, load, import, save, tag and remove with Docker's words."""

from __future__ import annotations

import asyncio
import bz2
import gzip
import hashlib
import io
import json
import lzma
import os
import shutil
import subprocess
import tarfile
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from pyd_contracts.errors import Conflict, FailedPrecondition, InvalidArgument, NotFound
from pyd_contracts.values import Kind, LayerTarget, Mount, Snapshot, Usage, Whiteouts
from pyd_engine.images.changes import apply_changes
from pyd_engine.images.feed import Feed, in_thread
from pyd_engine.images.progress import bar, human_size
from pyd_engine.images.reference import parse
from pyd_engine.images.registry import Registries
from pyd_engine.images.saving import save
from pyd_engine.images.service import Images, Use
from pyd_engine.images.views import seconds
from pyd_engine.layers.service import LayerDescriptor, Layers, chain_ids
from pyd_engine.store.content import Content
from pyd_engine.store.database import Database

pytestmark = [pytest.mark.root, pytest.mark.skipif(os.geteuid() != 0, reason="needs root: layers set owners")]


class Copies:
    """A storage driver of full copies."""

    capabilities = frozenset({"layer-targets"})

    def __init__(self, root: Path) -> None:
        self.root = root
        self.entries: dict[str, Snapshot] = {}
        root.mkdir(parents=True)

    def storage_prepare(self, *, key: str, parent: str | None, options: Mapping[str, str]) -> Sequence[Mount]:
        if parent:
            shutil.copytree(self.root / parent, self.root / key, symlinks=True)
        else:
            (self.root / key).mkdir(mode=0o755)
        self.entries[key] = Snapshot(key, Kind.ACTIVE, parent)
        return [Mount("bind", str(self.root / key))]

    def storage_layer_target(self, *, key: str) -> LayerTarget:
        return LayerTarget(self.root / key, Whiteouts.PLAIN)

    def storage_commit(self, *, name: str, key: str) -> Snapshot:
        (self.root / key).rename(self.root / name)
        self.entries[name] = Snapshot(name, Kind.COMMITTED, self.entries.pop(key).parent)
        return self.entries[name]

    def storage_remove(self, *, name: str) -> None:
        if name not in self.entries:
            raise NotFound(name)
        if any(entry.parent == name for entry in self.entries.values()):
            raise FailedPrecondition(name)
        del self.entries[name]
        shutil.rmtree(self.root / name)

    def storage_stat(self, *, name: str) -> Snapshot:
        if name not in self.entries:
            raise NotFound(name)
        return self.entries[name]

    def storage_walk(self) -> Iterable[Snapshot]:
        return list(self.entries.values())

    def storage_usage(self, *, name: str) -> Usage:
        return Usage(1, 1)


class Engine:
    def __init__(self, root: Path) -> None:
        self.storage = Copies(root / "storage")
        self.content = Content(root / "content")
        database = Database(Path(":memory:"))
        self.layers = Layers(database, self.content, {"copies": self.storage}, root / "run")
        self.images = Images(database, self.content, self.layers, Registries(), driver="copies")
        self.said: list[dict[str, object]] = []

    def load(self, data: bytes) -> list[str]:
        return [record.id for record in asyncio.run(self.images.archives.load(chunks(data), progress=self.said.append))]

    def remove(self, text: str, uses: Sequence[Use] = (), **more: bool) -> list[dict[str, str]]:
        return asyncio.run(self.images.remove(text, in_use=lambda _: uses, **more))

    def streams(self) -> list[object]:
        return [record["stream"] for record in self.said if "stream" in record]


@pytest.fixture
def engine(tmp_path: Path) -> Engine:
    return Engine(tmp_path)


async def chunks(data: bytes, step: int = 50_000) -> AsyncIterator[bytes]:
    for start in range(0, len(data), step):
        yield data[start : start + step]


def sha(data: bytes) -> str:
    return "sha256:" + hashlib.sha256(data).hexdigest()


Members = Mapping[str, "bytes | tuple[bytes, str]"]


def archive_of(members: Members) -> bytes:
    """A tar archive; a value of (type, link) makes a link."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        for name, value in members.items():
            info = tarfile.TarInfo(name)
            if isinstance(value, tuple):
                info.type, info.linkname = value
                archive.addfile(info)
            else:
                info.size = len(value)
                archive.addfile(info, io.BytesIO(value))
    return out.getvalue()


LAYERS = [archive_of({"bin/sh": b"#!" * 500, "etc/motd": b"hi"}), archive_of({"etc/.wh.motd": b"", "new": b"x" * 10})]


def config_of(layers: Sequence[bytes], **more: Any) -> bytes:
    return json.dumps({
        "architecture": "amd64", "os": "linux", "created": "2024-01-02T03:04:05.678Z", "author": "a person",
        "config": {"Cmd": ["sh"], "Env": ["A=b"], "Labels": {"l": "1"}, "ExposedPorts": {"80/tcp": {}}},
        "rootfs": {"type": "layers", "diff_ids": [sha(layer) for layer in layers]},
        "history": [{"created_by": "first", "created": "2024-01-01T00:00:00Z"}, {"created_by": "env", "empty_layer": True},
                    {"created_by": "second", "comment": "c"}], **more,
    }).encode()  # fmt: skip


def docker_save(
    tags: Sequence[str] | None = ("x:1",), layers: Sequence[bytes] = LAYERS, **changes: Any
) -> dict[str, Any]:
    names = [f"{i}/layer.tar" for i in range(len(layers))]
    manifest = [{"Config": "config.json", "RepoTags": tags, "Layers": names, **changes}]
    raw = json.dumps(manifest).encode()
    return {"config.json": config_of(layers), **dict(zip(names, layers, strict=True)), "manifest.json": raw}


def layout(annotations: Mapping[str, str]) -> dict[str, bytes]:
    packed = [gzip.compress(layer) for layer in LAYERS]
    config = config_of(LAYERS)
    manifest = json.dumps({
        "schemaVersion": 2,
        "config": {"mediaType": "application/vnd.oci.image.config.v1+json", "digest": sha(config), "size": len(config)},
        "layers": [{"mediaType": "application/vnd.oci.image.layer.v1.tar+gzip", "digest": sha(data), "size": len(data)}
                   for data in packed],
    }).encode()  # fmt: skip
    index = json.dumps({"schemaVersion": 2, "manifests": [{
        "mediaType": "application/vnd.oci.image.manifest.v1+json", "digest": sha(manifest), "size": len(manifest),
        "annotations": annotations}]}).encode()  # fmt: skip
    blobs = {f"blobs/sha256/{sha(data)[7:]}": data for data in (*packed, config, manifest)}
    return {"oci-layout": b'{"imageLayoutVersion":"1.0.0"}', "index.json": index, **blobs}


# --- load --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "pack", [bytes, gzip.compress, bz2.compress, lzma.compress], ids=["plain", "gzip", "bzip2", "xz"]
)
def test_load_docker_archive(engine: Engine, pack: Callable[[bytes], bytes]) -> None:
    (loaded,) = engine.load(pack(archive_of(docker_save())))
    assert loaded == sha(config_of(LAYERS))
    assert engine.streams() == ["Loaded image: x:1\n"]
    record = engine.images.resolve("x:1")
    top = asyncio.run(engine.images.snapshot(record))
    assert top
    root = engine.storage.root / top
    assert sorted(str(path.relative_to(root)) for path in root.rglob("*")) == ["bin", "bin/sh", "etc", "new"]
    assert engine.images.sizes.of(record) == 1002 + 10
    assert {"status", "progressDetail", "progress", "id"} == set(engine.said[0])


def test_load_oci_layout(engine: Engine) -> None:
    engine.load(archive_of(layout({"io.containerd.image.name": "docker.io/library/y:2"})))
    assert engine.images.resolve("y:2").id == sha(config_of(LAYERS))
    engine.said.clear()
    (loaded,) = engine.load(archive_of(layout({"org.opencontainers.image.ref.name": "latest"})))
    assert engine.streams() == [f"Loaded image ID: {loaded}\n"]


def test_load_follows_repeated_layers_inside_the_archive(engine: Engine) -> None:
    members = docker_save(layers=[LAYERS[0], LAYERS[0]])
    members["1/layer.tar"] = (tarfile.SYMTYPE, "../0/layer.tar")
    assert engine.load(archive_of(members))


def test_load_names_what_loses_its_name(engine: Engine) -> None:
    (old,) = engine.load(archive_of(docker_save()))
    engine.said.clear()
    engine.load(archive_of(docker_save(layers=LAYERS[:1])))
    said = f"The image x:1 already exists, renaming the old one with ID {old} to empty string\n"
    assert engine.streams() == [said, "Loaded image: x:1\n"]
    assert engine.images.resolve(old).tags == ()


BASE = docker_save()
ODD_ARCHIVES: dict[str, tuple[Members | bytes, str]] = {
    "empty": (b"", "neither manifest.json"),
    "no tar": (b"hello" * 1000, "checksum"),
    "truncated": (archive_of(BASE)[:2000], "truncated|ends"),
    "nothing known": ({"a": b"b"}, "neither manifest.json"),
    "host path": (docker_save(Config="../../../../../etc/shadow"), "no regular file of the archive"),
    "absolute host path": (docker_save(Config="/etc/shadow"), "no regular file of the archive"),
    "layer on the host": (docker_save(Layers=["/etc/shadow", "/etc/passwd"]), "no regular file of the archive"),
    "link to the host": ({**BASE, "config.json": (tarfile.SYMTYPE, "/etc/shadow")}, "no regular file of the archive"),
    "hard link to the host": ({**BASE, "config.json": (tarfile.LNKTYPE, "../../etc/shadow")}, "no regular file"),
    "link to itself": ({**BASE, "config.json": (tarfile.SYMTYPE, "config.json")}, "no regular file of the archive"),
    "manifest as link": ({**BASE, "manifest.json": (tarfile.SYMTYPE, "/etc/shadow")}, "neither manifest.json"),
    "parent in a name": ({**BASE, "../../evil": b"x"}, r"'\.\.' in the name"),
    "manifest no json": ({**BASE, "manifest.json": b"{"}, "no valid JSON"),
    "manifest no list": ({**BASE, "manifest.json": b"{}"}, "a list of objects"),
    "manifest nested": ({**BASE, "manifest.json": b"[" * 200_000}, "no valid JSON"),
    "config not a string": (docker_save(Config=7), "a string is expected"),
    "layers not a list": (docker_save(Layers="x"), "lists are expected"),
    "layers too few": (docker_save(Layers=["0/layer.tar"]), "length mismatch: expected 2, got 1"),
    "layers too many": (docker_save(Layers=["0/layer.tar"] * 501), "at most 500 layers"),
    "bad tag": (docker_save(tags=["../x"]), "invalid reference format"),
    "tag not a string": (docker_save(tags=[None]), "a string is expected"),  # type: ignore[list-item]
    "digest as tag": (docker_save(tags=["x@sha256:" + "0" * 64]), "a name with a tag"),
    "wrong layer": ({**BASE, "1/layer.tar": LAYERS[0]}, "but the image's configuration says"),
    "traversal in a layer": (docker_save(layers=[archive_of({"../../evil": b"x"})]), r"'\.\.' in the name"),
    "config no json": ({**BASE, "config.json": b"]"}, "no valid JSON"),
    "layout of the future": ({**layout({}), "oci-layout": b'{"imageLayoutVersion":"9"}'}, "unknown version"),
    "layout without blobs": ({"index.json": layout({})["index.json"]}, "no regular file of the archive"),
    "layout without images": ({"index.json": b'{"schemaVersion":2,"manifests":[]}'}, "lists no images"),
    "layout with wrong blob": (
        {**layout({}), f"blobs/sha256/{sha(config_of(LAYERS))[7:]}": b"{}"},
        "its bytes have the digest",
    ),
}


@pytest.mark.parametrize("case", ODD_ARCHIVES)
def test_archives_refused(engine: Engine, case: str) -> None:
    members, message = ODD_ARCHIVES[case]
    with pytest.raises(InvalidArgument, match=message):
        engine.load(members if isinstance(members, bytes) else archive_of(members))
    assert engine.images.records.all() == []
    asyncio.run(engine.images.collect())
    assert list(engine.content.walk()) == []
    assert engine.storage.entries == {}


def test_sender_breaks_off(engine: Engine) -> None:
    async def broken() -> AsyncIterator[bytes]:
        yield archive_of(BASE)[:3000]
        raise ConnectionResetError("gone")

    with pytest.raises(ConnectionResetError):
        asyncio.run(engine.images.archives.load(broken()))
    assert engine.images.records.all() == []


def test_cancelled_load_ends(engine: Engine) -> None:
    async def run() -> None:
        waiting = asyncio.Event()

        async def slow() -> AsyncIterator[bytes]:
            yield archive_of(BASE)[:3000]
            waiting.set()
            await asyncio.Event().wait()
            yield b"never read"

        task = asyncio.create_task(_load(engine, slow()))
        await waiting.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(run())
    assert engine.images.records.all() == []


@pytest.mark.parametrize("seconds", [0, 0.05])
def test_a_reader_ends_whose_sender_is_gone(seconds: float) -> None:
    """Whether or not the thread has begun to wait for it."""

    async def run() -> None:
        async def nothing() -> AsyncIterator[bytes]:
            await asyncio.Event().wait()
            yield b"never read"

        feed = Feed(nothing())
        loading = asyncio.create_task(in_thread(feed, lambda: feed.read(1), "load"))
        await asyncio.sleep(seconds)
        loading.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asyncio.wait_for(loading, 20)

    asyncio.run(run())


async def _load(engine: Engine, stream: AsyncIterator[bytes]) -> None:
    await engine.images.archives.load(stream)


# --- save --------------------------------------------------------------------------------------------------------


def saved(engine: Engine, *names: str) -> bytes:
    async def run() -> bytes:
        wanted = [(engine.images.resolve(name), [parse(name).tagged()]) for name in names]
        return b"".join([piece async for piece in save(engine.content, wanted)])

    return asyncio.run(run())


def test_save_and_load(engine: Engine, tmp_path: Path) -> None:
    engine.load(archive_of(docker_save()))
    data = saved(engine, "x:1")
    assert data == saved(engine, "x:1")
    other = Engine(tmp_path / "other")
    assert other.load(data) == [engine.images.resolve("x:1").id]
    assert other.images.resolve("x:1")
    layout_only = {m.name: tarfile.open(fileobj=io.BytesIO(data)).extractfile(m).read()  # type: ignore[union-attr]
                   for m in tarfile.open(fileobj=io.BytesIO(data)) if m.isfile() and m.name != "manifest.json"}  # fmt: skip
    third = Engine(tmp_path / "third")
    assert third.load(archive_of(layout_only)) == [engine.images.resolve("x:1").id]


def test_saved_archives_are_read_by_others(engine: Engine, tmp_path: Path) -> None:
    if shutil.which("skopeo") is None:
        pytest.skip("skopeo is not installed")
    engine.load(archive_of(docker_save()))
    (tmp_path / "image.tar").write_bytes(saved(engine, "x:1"))
    for source in (f"docker-archive:{tmp_path}/image.tar:x:1", f"oci-archive:{tmp_path}/image.tar"):
        target = f"dir:{tmp_path}/{source.partition(':')[0]}"
        done = subprocess.run(
            ["skopeo", "copy", "-q", "--insecure-policy", source, target], capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr


# --- import ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("pack", [bytes, gzip.compress, lzma.compress], ids=["plain", "gzip", "xz"])
def test_import(engine: Engine, pack: Callable[[bytes], bytes]) -> None:
    record = asyncio.run(engine.images.import_archive(
        chunks(pack(LAYERS[0])), name=parse("imported"), message="hello",
        changes=["CMD echo hi", "ENV A=1 B='two words'", "EXPOSE 80 90-91/udp", "LABEL x=y"]))  # fmt: skip
    config = engine.images.config(record.id)
    assert config.cmd == ("/bin/sh", "-c", "echo hi")
    assert config.env == ("A=1", "B=two words")
    assert set(config.exposed_ports) == {"80/tcp", "90/udp", "91/udp"}
    assert config.labels == {"x": "y"}
    assert config.diff_ids == (sha(LAYERS[0]),)
    assert engine.images.inspect("imported")["Comment"] == "hello"


@pytest.mark.parametrize("data", [b"", b"no tar" * 200, archive_of({"../x": b"y"}), LAYERS[0][:700]])
def test_import_of_what_is_no_tree(engine: Engine, data: bytes) -> None:
    with pytest.raises(InvalidArgument):
        asyncio.run(engine.images.import_archive(chunks(data), name=parse("bad")))
    assert engine.images.records.all() == []


def test_embedded_image(engine: Engine) -> None:
    record = asyncio.run(engine.images.import_tree(parse("demo:1"), LAYERS[0], {"Cmd": ["/bin/sh"]}))
    assert engine.images.resolve("demo:1").id == record.id
    assert engine.images.config(record.id).cmd == ("/bin/sh",)


@pytest.mark.parametrize(
    ("line", "message"),
    [("RUN x", "run is not a valid change command"), ("", "not a valid change command"), ("CMD", "requires at least one"),
     ("ENV a", "must have two arguments"), ("EXPOSE x", "invalid containerPort"), ("EXPOSE 0", "invalid containerPort"),
     ("EXPOSE 70000", "invalid containerPort"), ("ONBUILD FROM x", "isn't allowed"), ("VOLUME [1]", "non-empty names"),
     ("STOPSIGNAL 9;rm", "invalid signal"), ("HEALTHCHECK --interval=x CMD a", "invalid duration"), ("ENV 'a", "quote")],
)  # fmt: skip
def test_changes_refused(line: str, message: str) -> None:
    with pytest.raises(InvalidArgument, match=message):
        apply_changes({}, [line])


@pytest.mark.parametrize(
    ("line", "field", "value"),
    [
        ("ENV PATH=$PATH:/opt", "Env", ["PATH=/bin:/opt", "x=1"]),
        ("ENV PATH $PATH:/opt /y", "Env", ["PATH=/bin:/opt /y", "x=1"]),
        ("""ENV a='$x' b="$x $x" c=${x}2 d=\\$x""", "Env", ["PATH=/bin", "x=1", "a=$x", "b=1 1", "c=12", "d=$x"]),
        ("ENV x=2 y=$x", "Env", ["PATH=/bin", "x=2", "y=1"]),
        ("ENV a=${none:-some} b=${x:+more} c=$none", "Env", ["PATH=/bin", "x=1", "a=some", "b=more", "c="]),
        ('LABEL "a b"="c $x"', "Labels", {"a b": "c 1"}),
        ("WORKDIR /w$x", "WorkingDir", "/w1"),
        ("EXPOSE 8$x/udp", "ExposedPorts", {"81/udp": {}}),
        ("CMD echo $x", "Cmd", ["/bin/sh", "-c", "echo $x"]),
    ],
)
def test_changes_name_variables_of_the_image(line: str, field: str, value: Any) -> None:
    """``--change 'ENV PATH=$PATH:/opt'`` adds to the path, as a line of a Dockerfile would."""
    assert apply_changes({"Env": ["PATH=/bin", "x=1"]}, [line])[field] == value


def test_changes() -> None:
    config = apply_changes(
        {"Env": ["A=1", "PATH=/bin"], "WorkingDir": "/srv"},
        ["ENV A=2", "ENV old style value", "workdir sub/../x", 'ENTRYPOINT ["a", "b"]', "USER 1:2", "VOLUME /a /b",
         "HEALTHCHECK --interval=1m30s --retries=2 CMD curl -f x", "STOPSIGNAL SIGINT", "ONBUILD RUN x"],
    )  # fmt: skip
    assert config == {
        "Env": ["A=2", "PATH=/bin", "old=style value"], "WorkingDir": "/srv/x", "Entrypoint": ["a", "b"], "User": "1:2",
        "Volumes": {"/a": {}, "/b": {}}, "StopSignal": "SIGINT", "OnBuild": ["RUN x"],
        "Healthcheck": {"Interval": 90 * 10**9, "Retries": 2, "Test": ["CMD-SHELL", "curl -f x"]},
    }  # fmt: skip


# --- questions ---------------------------------------------------------------------------------------------------


def test_resolve(engine: Engine) -> None:
    (image,) = engine.load(archive_of(docker_save(tags=["x:latest", "localhost:5000/a/b:1"])))
    for text in ("x", "x:latest", "library/x", "docker.io/library/x:latest", "localhost:5000/a/b:1", image, image[7:],
                 image[:19],
                 image[7:19], image[7:10]):  # fmt: skip
        assert engine.images.resolve(text).id == image
    for text, message in (("y", "No such image: y:latest"), ("x:2", "No such image: x:2"),
                          ("sha256:" + "0" * 64, "No such image: sha256:" + "0" * 64),
                          ("sha256:00", "No such image: sha256:00")):  # fmt: skip
        with pytest.raises(NotFound) as caught:
            engine.images.resolve(text)
        assert str(caught.value) == message
    for text in ("", "X", "../x", image[7:] + "\n"):
        with pytest.raises(InvalidArgument):
            engine.images.resolve(text)


def test_ambiguous_prefix_is_no_image(engine: Engine) -> None:
    for number in range(20):
        engine.load(archive_of(docker_save(tags=[f"x:{number}"], layers=[archive_of({"n": b"%d" % number})])))
    first = [record.id[7:8] for record in engine.images.records.all()]
    twice = next(digit for digit in first if first.count(digit) > 1)
    with pytest.raises(NotFound, match="No such image"):
        engine.images.resolve("sha256:" + twice)


def test_inspect_and_history(engine: Engine) -> None:
    (image,) = engine.load(archive_of(docker_save()))
    found = engine.images.inspect("x:1")
    wanted = {"Id", "RepoTags", "RepoDigests", "Parent", "Comment", "Created", "Author", "Config", "Architecture", "Os", "Size",
              "GraphDriver", "RootFS", "Metadata"}  # fmt: skip
    assert wanted <= set(found)
    assert found["RepoTags"] == ["x:1"]
    assert found["RootFS"] == {"Type": "layers", "Layers": [sha(layer) for layer in LAYERS]}
    assert found["Config"]["ExposedPorts"] == {"80/tcp": {}}
    assert found["GraphDriver"]["Name"] == "copies"
    assert found["Created"] == "2024-01-02T03:04:05.678Z"
    lines = engine.images.history("x:1")
    assert [(line["CreatedBy"], line["Size"], line["Id"]) for line in lines] == [
        ("second", 10, image), ("env", 0, "<missing>"), ("first", 1002, "<missing>"),
    ]  # fmt: skip
    assert lines[0]["Tags"] == ["x:1"]
    assert lines[2]["Created"] == seconds("2024-01-01T00:00:00Z") == 1704067200
    json.dumps([found, lines])


def test_list(engine: Engine) -> None:
    engine.load(archive_of(docker_save(tags=["x:1", "a/b:2"])))
    engine.load(archive_of(docker_save(tags=None, layers=LAYERS[:1])))

    def ids(**filters: list[str]) -> list[list[str]]:
        return [item["RepoTags"] for item in engine.images.list(filters=filters)]

    both = [["a/b:2", "x:1"], []]
    assert sorted(ids(), key=len, reverse=True) == both
    assert ids(dangling=["true"]) == [[]]
    assert ids(dangling=["0"]) == [both[0]]
    assert ids(reference=["x"]) == ids(reference=["x:*"]) == [["x:1"]]
    assert ids(reference=["*/b:2"]) == [["a/b:2"]]
    assert ids(reference=["b"]) == ids(label=["l=2"]) == ids(label=["m"]) == ids(until=["2020-01-01T00:00:00Z"]) == []
    assert len(ids(label=["l", "l=1"])) == len(ids(until=["1h"])) == 2
    assert ids(before=["x:1"]) == ids(since=["x:1"]) == []
    for bad in ({"nonsense": ["1"]}, {"dangling": ["maybe"]}, {"until": ["later"]}):
        with pytest.raises(InvalidArgument, match="invalid filter"):
            engine.images.list(filters=bad)


# --- tag and remove ----------------------------------------------------------------------------------------------


def empty(engine: Engine) -> bool:
    return not engine.images.records.all() and not list(engine.content.walk()) and not engine.storage.entries


def test_remove_the_last_name(engine: Engine) -> None:
    (image,) = engine.load(archive_of(docker_save()))
    engine.images.tag("x:1", parse("y"))
    assert engine.remove("x:1") == [{"Untagged": "x:1"}]
    chains = chain_ids([sha(layer) for layer in LAYERS])
    assert engine.remove("y") == [
        {"Untagged": "y:latest"},
        {"Deleted": image},
        {"Deleted": chains[1]},
        {"Deleted": chains[0]},
    ]
    assert empty(engine)
    with pytest.raises(NotFound):
        engine.remove("y")


def test_remove_by_id(engine: Engine) -> None:
    (image,) = engine.load(archive_of(docker_save(tags=["x:1", "y:1"])))
    short = image[7:19]
    with pytest.raises(Conflict) as caught:
        engine.remove(short)
    assert str(caught.value) == (
        f"conflict: unable to delete {short} (must be forced) - image is referenced in multiple repositories"
    )
    assert {"Deleted": image} in engine.remove(short, force=True)
    assert empty(engine)


def test_remove_in_use(engine: Engine) -> None:
    (image,) = engine.load(archive_of(docker_save()))
    running, stopped = Use("a" * 64, running=True), Use("b" * 64, running=False)
    with pytest.raises(Conflict) as caught:
        engine.remove("x:1", [stopped])
    assert str(caught.value) == (
        f'conflict: unable to remove repository reference "x:1" (must force) - container {"b" * 12} '
        f"is using its referenced image {image[7:19]}"
    )
    with pytest.raises(Conflict, match=rf"\(must be forced\) - image is being used by stopped container {'b' * 12}"):
        engine.remove(image, [stopped])
    with pytest.raises(Conflict, match=rf"\(cannot be forced\) - image is being used by running container {'a' * 12}"):
        engine.remove(image, [running], force=True)
    assert engine.images.resolve("x:1").id == image
    top = chain_ids([sha(layer) for layer in LAYERS])[-1]
    engine.storage.storage_prepare(key="container", parent=top, options={})
    assert {"Deleted": image} in engine.remove(image, [stopped], force=True)
    assert top in engine.storage.entries, "what a container stands on stays"
    engine.storage.storage_remove(name="container")
    asyncio.run(engine.images.collect())
    assert empty(engine)


def test_shared_layers_stay(engine: Engine) -> None:
    engine.load(archive_of(docker_save()))
    engine.load(archive_of(docker_save(tags=["y:1"], layers=LAYERS[:1])))
    deleted = [item["Deleted"] for item in engine.remove("x:1") if "Deleted" in item]
    base, top = chain_ids([sha(layer) for layer in LAYERS])
    assert top in deleted
    assert base not in deleted
    assert set(engine.storage.entries) == {base}
    assert engine.content.has(sha(LAYERS[0]))
    assert not engine.content.has(sha(LAYERS[1]))


def test_children_and_pruning_of_parents(engine: Engine) -> None:
    (parent,) = engine.load(archive_of(docker_save(layers=LAYERS[:1])))
    record = engine.images.resolve("x:1")
    second = engine.content.add(LAYERS[1])
    layers = [*record.layers, LayerDescriptor(second, second, "", len(LAYERS[1]))]
    child = asyncio.run(engine.images.create(layers, json.loads(config_of(LAYERS)), [parse("child")], parent))
    with pytest.raises(Conflict, match=r"\(cannot be forced\) - image has dependent child images"):
        engine.remove(parent, force=True)
    engine.images.records.unname(parse("x:1"))
    assert [item["Id"] for item in engine.images.list()] == [child.id]
    assert len(engine.images.list(all=True)) == 2
    assert {"Deleted": parent} in engine.remove("child")
    assert empty(engine)


def test_prune(engine: Engine) -> None:
    engine.load(archive_of(docker_save(tags=None)))
    engine.load(archive_of(docker_save(tags=["y:1"], layers=LAYERS[:1])))

    def prune(uses: Sequence[Use], *, dangling: bool = True) -> tuple[list[dict[str, str]], int]:
        return asyncio.run(engine.images.prune(in_use=lambda _: uses, dangling=dangling))

    assert prune([Use("c", running=False)]) == ([], 0)
    items, freed = prune([])
    assert freed == 10
    assert [record.tags[0].familiar for record in engine.images.records.all()] == ["y:1"]
    items, freed = prune([], dangling=False)
    assert {"Untagged": "y:1"} in items
    assert freed == 1002
    assert empty(engine)


def test_tag(engine: Engine) -> None:
    engine.load(archive_of(docker_save()))
    engine.images.tag("x:1", parse("localhost:5000/z"))
    assert set(engine.images.inspect("x:1")["RepoTags"]) == {"x:1", "localhost:5000/z:latest"}
    assert engine.images.resolve("localhost:5000/z:latest").id == engine.images.resolve("x:1").id
    with pytest.raises(InvalidArgument, match="digest reference"):
        engine.images.tag("x:1", parse("y@sha256:" + "0" * 64))
    with pytest.raises(NotFound, match="No such image: nothing:latest"):
        engine.images.tag("nothing", parse("y"))


def test_hostile_words_stay_words(engine: Engine) -> None:
    words = {"Labels": {"pyd.storage": "vfs", "com.docker.x": "1", "io.containerd.y": "2"}, "StopSignal": "99;rm",
             "Env": ["LD_PRELOAD=/evil", "no equals"], "User": "../../root", "OnBuild": ["RUN x"]}  # fmt: skip
    members = {**BASE, "config.json": config_of(LAYERS, config=words)}
    (image,) = engine.load(archive_of(members))
    config = engine.images.config(image)
    assert (config.stop_signal, config.user, config.env) == ("99;rm", "../../root", ("LD_PRELOAD=/evil", "no equals"))
    assert engine.images.inspect(image)["GraphDriver"]["Name"] == "copies"


def test_progress_bar() -> None:
    assert human_size(1_234_567) == "1.235MB"
    assert bar(50, 100) == "[" + "=" * 25 + ">" + " " * 25 + "]      50B/100B"
    assert bar(0, 0) == ""
