"""User namespaces: what this backend builds for them, and what a root with every capability inside cannot do."""

from __future__ import annotations

import os
import shutil
import stat
from pathlib import Path
from typing import Any

import pytest

from pyd_conformance.isolation_stage import IsolationStage, in_network, oci_spec, until
from pyd_conformance.isolation_users import HOST_ID, with_users
from pyd_contracts.errors import InvalidArgument, NotFound, Unsupported
from pyd_contracts.values import Mount, Stdio
from pyd_shim.capabilities import BITS

pytestmark = pytest.mark.root


def almighty(*args: str) -> dict[str, Any]:
    """A document with a user namespace and all capabilities in it."""
    spec = with_users(oci_spec(args))
    spec["process"]["capabilities"] = {name: list(BITS) for name in ("bounding", "effective", "permitted")}
    return spec


def said(stage: IsolationStage, spec: dict[str, Any]) -> str:
    """Standard output of a container that ends well."""
    found, state = stage.output(spec=spec)
    assert state.exit_code == 0, found
    return found.get(1, b"").decode()


def test_an_overlay_is_shared_with_containers_of_the_host(stage: IsolationStage, tmp_path: Path) -> None:
    """Layers are nobody's: one image, a container with and one without a map, ids on the disk the same in both."""
    tree = stage.place.tree
    (tree / "data").mkdir()
    (tree / "data/file").write_text("old")
    os.chown(tree / "data/file", 7, 8)
    script = "stat -c %u:%g /data/file; echo new > /data/file; touch /made; chown 5:6 /made; rm -r /tmp; stat -c %u /data/file"
    for name, wrap in (("with", with_users), ("without", dict)):
        upper, work = tmp_path / name / "f", tmp_path / name / "w"
        for each in (upper, work):
            each.mkdir(parents=True)
        options = (f"lowerdir+={tree}", f"upperdir={upper}", f"workdir={work}")
        container = os.urandom(32).hex()
        sandbox = stage.sandbox(
            container, wrap(oci_spec(["sh", "-c", script])), Stdio(), (Mount("overlay", "overlay", options),)
        )
        stage.created[container] = stage.backend.isolation_create(container=container, sandbox=sandbox)
        client = stage.attach(container)
        stage.backend.isolation_start(container=container)
        assert client.read() == {1: b"7:8\n7\n"}
        assert stage.wait(container).exit_code == 0
        found = (upper / "made").stat(), (upper / "data/file").stat()
        assert [(each.st_uid, each.st_gid) for each in found] == [(5, 6), (7, 8)]
        assert stat.S_ISCHR((upper / "tmp").lstat().st_mode)  # a whiteout


def test_the_network_is_the_containers_own(stage: IsolationStage) -> None:
    """Its administrator inside sets interfaces up and down; the namespace has the name that drivers are told."""
    spec = almighty("sh", "-c", "ifconfig lo 127.0.0.9 && ifconfig lo | grep -c 127.0.0.9; read x")
    container = stage.create(spec=spec, stdin=True)
    netns = stage.created[container].netns
    assert "UP" in in_network(netns, "ip", "link", "show", "lo")
    client = stage.attach(container, stdin=True)
    stage.backend.isolation_start(container=container)
    client.read_until(b"1\n")
    assert "127.0.0.9" in in_network(netns, "ip", "address", "show", "lo")
    client.send(b"\n")


def test_every_capability_inside_is_none_outside(stage: IsolationStage) -> None:
    """The host's clock, kernel settings, devices and processes are out of reach; a read-only bind stays so."""
    work = stage.place.work / "bound"
    work.mkdir(mode=0o777)
    work.chmod(0o777)
    tries = (
        "echo 1 > /proc/sys/kernel/panic", "echo 1 > /proc/sys/vm/drop_caches", "mknod /tmp/n b 7 0",
        "dd if=/dev/kmsg bs=1 count=1", "mount -t ext4 /dev/vda /tmp", "touch /bound/x", "echo h > /proc/sysrq-trigger",
    )  # fmt: skip
    script = (
        " ".join(f"({each}) >/dev/null 2>&1 && echo did {index};" for index, each in enumerate(tries)) + " hostname x"
    )
    spec = almighty("sh", "-c", script)
    mount = {"destination": "/bound", "type": "bind", "source": str(work), "options": ["rbind", "ro"]}
    spec["mounts"] = [*spec["mounts"], mount]
    assert said(stage, spec) == ""
    assert list(work.iterdir()) == []


def test_a_second_container_joins(stage: IsolationStage) -> None:
    """Network and user namespace of another container, as `--network container:` wants it."""
    first = stage.start(spec=with_users(oci_spec(["sleep", "100"])))
    pid = stage.created[first].pid
    spec = with_users(
        oci_spec(["sh", "-c", "id -u; readlink /proc/self/ns/net; readlink /proc/self/ns/user; stat -c %u /bin"])
    )
    own = [each for each in spec["linux"]["namespaces"] if each["type"] not in ("network", "user")]
    joined = [{"type": kind, "path": f"/proc/{pid}/ns/{name}"} for kind, name in (("network", "net"), ("user", "user"))]
    spec["linux"]["namespaces"] = [*own, *joined]
    found = said(stage, spec).split()
    assert found == ["0", *(str(Path(f"/proc/{pid}/ns/{name}").readlink()) for name in ("net", "user")), "0"]


def test_a_bind_without_a_source(stage: IsolationStage) -> None:
    spec = with_users(oci_spec(["true"]))
    mount = {"destination": "/b", "type": "bind", "source": str(stage.place.work / "absent"), "options": ["rbind"]}
    spec["mounts"] = [*spec["mounts"], mount]
    with pytest.raises(NotFound, match="bind source path does not exist"):
        stage.create(spec=spec)
    assert stage.walk() == set()


@pytest.mark.parametrize(
    ("ids", "why"),
    [
        ([], "a user namespace needs them"),
        ([{"containerID": 0, "hostID": 1}], "has no containerID, hostID and size"),
        ([{"containerID": 0, "hostID": 2**32 - 2, "size": 5}], "is no range of ids"),
        ([{"containerID": 0, "hostID": 10, "size": 5}, {"containerID": 9, "hostID": 12, "size": 5}], "overlaps"),
        ([{"containerID": n, "hostID": HOST_ID + n, "size": 1} for n in range(340)], "the kernel takes 339"),
    ],
)
def test_maps_that_cannot_be(stage: IsolationStage, ids: list[dict[str, int]], why: str) -> None:
    spec = with_users(oci_spec(["true"]))
    spec["linux"]["uidMappings"] = ids
    with pytest.raises(InvalidArgument, match=f"linux.uidMappings: .*{why}"):
        stage.create(spec=spec)


@pytest.mark.skipif(shutil.which("fuse-overlayfs") is None, reason="fuse-overlayfs is not installed")
def test_where_a_root_file_system_cannot_be_id_mapped_it_is_said(stage: IsolationStage, tmp_path: Path) -> None:
    """fuse can be since Linux 6.12, when the program takes part; fuse-overlayfs does not."""
    for name in ("f", "w"):
        (tmp_path / name).mkdir()
    options = (f"lowerdir={stage.place.tree}", f"upperdir={tmp_path}/f", f"workdir={tmp_path}/w")
    root = (Mount("fuse.fuse-overlayfs", "fuse-overlayfs", options),)
    sandbox = stage.sandbox("a" * 64, with_users(oci_spec(["true"])), Stdio(), root)

    with pytest.raises(Unsupported, match=r"cannot be id-mapped \(.*\); keep the data root on another one"):
        stage.backend.isolation_create(container="a" * 64, sandbox=sandbox)

    until(
        lambda: not any(_serves(folder, tmp_path) for folder in Path("/proc").glob("[0-9]*")), "the program has ended"
    )


def _serves(process: Path, place: Path) -> bool:
    try:
        words = (process / "cmdline").read_bytes()
    except OSError:
        return False
    return words.startswith(b"fuse-overlayfs\0") and os.fsencode(place) in words
