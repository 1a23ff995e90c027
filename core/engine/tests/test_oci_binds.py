"""Mount specifications: one shape out of -v, --mount, --tmpfs and VOLUME, and Docker's refusals."""

from __future__ import annotations

import pytest

from pyd_contracts.errors import InvalidArgument
from pyd_engine.containers.binds import (
    Bind,
    anonymous_volumes,
    check_tmpfs,
    from_mount,
    parse_bind,
    parse_volumes_from,
)
from pyd_engine.containers.host_config import (
    BindOptions,
    DriverConfig,
    MountConfig,
    TmpfsOptions,
    VolumeOptions,
)


def test_a_path_is_a_bind_and_a_word_is_a_volume() -> None:
    assert parse_bind("/src:/dst") == Bind("bind", "/src", "/dst", propagation="rprivate", create=True)
    assert parse_bind("data:/dst:ro", "nfs") == Bind("volume", "data", "/dst", read_only=True, mode="ro", driver="nfs")
    assert parse_bind("/dst") == Bind("volume", "", "/dst")


def test_options() -> None:
    bind = parse_bind("/src/../a:/dst/.//b:ro,Z,rshared,cached")
    assert bind == Bind(
        "bind", "/a", "/dst/b", read_only=True, mode="ro,Z,rshared,cached", propagation="rshared", create=True
    )
    assert not parse_bind("data:/dst:nocopy").copy


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ("", "invalid volume specification: ''"),
        (":/b", "invalid volume specification: ':/b'"),
        ("a:b:c:d", "invalid volume specification: 'a:b:c:d'"),
        ("/a:", "invalid volume specification: '/a:'"),
        ("a", "mount path must be absolute"),
        ("/a:b", "mount path must be absolute"),
        ("/a:/", "destination can't be '/'"),
        ("/a:/..", "destination can't be '/'"),
        ("//", "destination can't be '/'"),
        ("/a:/b:foo", "invalid mode: foo"),
        ("/a:/b:ro,rw", "invalid mode: ro,rw"),
        ("/a:/b:z,Z", "invalid mode: z,Z"),
        ("/a:/b:", "invalid mode"),
        ("x:/b:rslave", "invalid volume specification"),
        ("xy:/b:rslave", "field BindOptions must not be specified"),
        ("/a:/b:nocopy", "field VolumeOptions must not be specified"),
        ("../x:/b", "includes invalid characters for a local volume name"),
        ("a b:/b", "includes invalid characters for a local volume name"),
        ("/a:/b\0c", "NUL"),
    ],
)
def test_refused_specifications(spec: str, said: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        parse_bind(spec)
    assert said in str(caught.value)


def test_mount_objects() -> None:
    assert from_mount(MountConfig(type="bind", source="/a", target="/b", read_only=True)) == Bind(
        "bind", "/a", "/b", read_only=True, propagation="rprivate"
    )
    volume = MountConfig(
        type="volume",
        source="vol",
        target="/b",
        volume_options=VolumeOptions(no_copy=True, subpath="x/y", driver_config=DriverConfig(name="nfs")),
    )
    assert from_mount(volume) == Bind("volume", "vol", "/b", mode="z", copy=False, subpath="x/y", driver="nfs")
    tmpfs = MountConfig(
        type="tmpfs",
        target="/t",
        tmpfs_options=TmpfsOptions(size_bytes=5, mode=0o1777, options=(("exec",), ("uid", "3"))),
    )
    assert from_mount(tmpfs) == Bind("tmpfs", "", "/t", mode="mode=1777,size=5,exec,uid=3")


@pytest.mark.parametrize(
    ("mount", "said"),
    [
        (MountConfig(type="foo", target="/x"), 'invalid mount config for type "foo": mount type unknown'),
        (MountConfig(type="bind", target="/x"), "field Source must not be empty"),
        (MountConfig(type="bind", source="/a"), "field Target must not be empty"),
        (MountConfig(type="bind", source="a", target="/x"), "mount path must be absolute"),
        (MountConfig(type="tmpfs", source="/a", target="/x"), "field Source must not be specified"),
        (
            MountConfig(type="bind", source="/a", target="/x", volume_options=VolumeOptions()),
            "field VolumeOptions must not be specified",
        ),
        (MountConfig(type="volume", source="a b", target="/x"), "includes invalid characters"),
        (
            MountConfig(type="volume", source="vol", target="/x", volume_options=VolumeOptions(subpath="a/../../b")),
            "subpath must be a relative path",
        ),
        (
            MountConfig(type="bind", source="/a", target="/x", bind_options=BindOptions(propagation="wide")),
            "invalid propagation mode: wide",
        ),
        (
            MountConfig(type="tmpfs", target="/t", tmpfs_options=TmpfsOptions(options=(("lowerdir", "/"),))),
            "invalid tmpfs option",
        ),
    ],
)
def test_refused_mount_objects(mount: MountConfig, said: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        from_mount(mount)
    assert said in str(caught.value)


def test_volumes_of_an_image_stay_inside() -> None:
    found = anonymous_volumes(["/../../etc", "data", "/taken", "/data/"], {"/taken"})
    assert [each.destination for each in found] == ["/etc", "/data"]
    with pytest.raises(InvalidArgument, match="can't be '/'"):
        anonymous_volumes(["/.."], ())


def test_tmpfs_options_are_known_words() -> None:
    assert check_tmpfs("/t/./x", "rw,size=64m,mode=1777,noexec") == "/t/x"
    for options in ("foo", "source=/etc", "size", "exec=1", "mode=1,lowerdir=/"):
        with pytest.raises(InvalidArgument, match="invalid tmpfs option"):
            check_tmpfs("/t", options)


def test_volumes_from() -> None:
    assert parse_volumes_from("c") == ("c", "rw")
    assert parse_volumes_from("c:ro") == ("c", "ro")
    for spec in ("", ":ro", "c:foo", "c:rshared"):
        with pytest.raises(InvalidArgument):
            parse_volumes_from(spec)
