"""References: the golden table is that of github.com/distribution/reference's own tests."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyd_contracts.errors import InvalidArgument
from pyd_engine.images.reference import is_id, is_id_prefix, parse

HEX = "7cc4b5aefd1d0cadf8d97d4350462ba51c694ebca145b08d7d41b41acc8db5aa"

GOOD = [
    ("test.com/foo", "test.com/foo", "test.com/foo"),
    ("test_com/foo", "docker.io/test_com/foo", "test_com/foo"),
    ("docker/migrator", "docker.io/docker/migrator", "docker/migrator"),
    ("docker.io/docker", "docker.io/library/docker", "docker"),
    ("fooo/bar", "docker.io/fooo/bar", "fooo/bar"),
    ("library/fooo", "docker.io/library/fooo", "fooo"),
    ("library/fooo/bar", "docker.io/library/fooo/bar", "library/fooo/bar"),
    ("nonlibrary/foo", "docker.io/nonlibrary/foo", "nonlibrary/foo"),
    ("nonlibrary/foo/bar/baz", "docker.io/nonlibrary/foo/bar/baz", "nonlibrary/foo/bar/baz"),
    ("registry:5000/foo", "registry:5000/foo", "registry:5000/foo"),
    ("index.docker.io/fooo/bar", "docker.io/fooo/bar", "fooo/bar"),
    ("index.docker.io/fooo", "docker.io/library/fooo", "fooo"),
    ("docker.io/library/fooo", "docker.io/library/fooo", "fooo"),
    ("127.0.0.1:8000/private/moonbase", "127.0.0.1:8000/private/moonbase", "127.0.0.1:8000/private/moonbase"),
    ("[::1]:5000/repo", "[::1]:5000/repo", "[::1]:5000/repo"),
    ("localhost/x", "localhost/x", "localhost/x"),
    ("localhost:80/x", "localhost:80/x", "localhost:80/x"),
    ("xn--n3h.com/myimage", "xn--n3h.com/myimage", "xn--n3h.com/myimage"),
    ("FOO/bar", "FOO/bar", "FOO/bar"),
    ("192.168.1.1/x", "192.168.1.1/x", "192.168.1.1/x"),
    ("a", "docker.io/library/a", "a"),
    ("foo__bar", "docker.io/library/foo__bar", "foo__bar"),
    ("foo----bar", "docker.io/library/foo----bar", "foo----bar"),
    ("a.b_c-d", "docker.io/library/a.b_c-d", "a.b_c-d"),
    (HEX[:63], "docker.io/library/" + HEX[:63], HEX[:63]),
    ("x/" + HEX, "docker.io/x/" + HEX, "x/" + HEX),
]


@pytest.mark.parametrize(("text", "canonical", "familiar"), GOOD)
def test_names(text: str, canonical: str, familiar: str) -> None:
    reference = parse(text)
    assert (str(reference), reference.familiar) == (canonical, familiar)
    assert parse(canonical) == reference == parse(familiar)
    assert str(reference.tagged()) == canonical + ":latest"


@pytest.mark.parametrize("suffix", [":a", ":1.0", ":_x", ":" + "t" * 128, "@sha256:" + HEX, ":tag@sha256:" + HEX])
def test_suffixes(suffix: str) -> None:
    for name in ("busybox", "localhost:5000/a/b"):
        reference = parse(name + suffix)
        assert reference.familiar == name + suffix
        assert reference.tagged() == reference
    assert parse("a:1@sha256:" + HEX).with_digest("sha256:" + HEX).familiar == "a@sha256:" + HEX


FORMAT = "invalid reference format"
BAD = [
    ("", FORMAT), (":latest", FORMAT), ("@sha256:" + HEX, FORMAT), ("a:", FORMAT), ("a@", FORMAT),
    ("a/../b", FORMAT), ("../a", FORMAT), ("a//b", FORMAT), ("/a", FORMAT), ("a/", FORMAT), ("-foo/bar", FORMAT),
    ("foo--", FORMAT), ("a..b/c", FORMAT), ("a___b", FORMAT), ("_a", FORMAT), (".a", FORMAT), ("a b", FORMAT),
    ("a:b:c", FORMAT), ("a:" + "t" * 129, FORMAT), ("a:.x", FORMAT), ("a:-x", FORMAT), ("web\n", FORMAT), ("\nweb", FORMAT),
    ("caf\u00e9", FORMAT), ("a:\u0661", FORMAT), ("a\0", FORMAT), ("https://github.com/docker/docker", FORMAT),
    ("-docker.io/foo", FORMAT), ("docker.io/docker/", FORMAT), ("[fe80::1%eth0]:80/x", FORMAT), ("a@sha256:short", FORMAT),
    ("registry:port/x", FORMAT), ("registry:65536/x", FORMAT), ("[1:2]/x", FORMAT), ("[::::]:1/x", FORMAT),
    ("x" * 5000, FORMAT + ": 5000 characters"),
    ("Uppercase", FORMAT + ": repository name (library/Uppercase) must be lowercase"),
    ("docker/Docker", FORMAT + ": repository name (docker/Docker) must be lowercase"),
    ("test:5000/Uppercase/lowercase:tag", FORMAT + ": repository name (Uppercase/lowercase) must be lowercase"),
    (HEX, f"invalid repository name ({HEX}), cannot specify 64-byte hexadecimal strings"),
    ("a@sha1:" + "a" * 40, "unsupported digest algorithm"),
    ("a@sha256:" + "a" * 63, "invalid checksum digest length"),
    ("a@sha256:" + "A" * 64, "invalid checksum digest format"),
    ("a/" + "b" * 255, "repository name must not be more than 255 characters"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "message"), BAD)
def test_refused(text: str, message: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        parse(text)
    assert str(caught.value) == message


NAMES = r"([a-z0-9]{1,5}\.[a-z]{2,3}(:[0-9]{1,4})?/)?[a-z0-9]{1,8}(/[a-z0-9]{1,8}){0,2}(:[a-zA-Z0-9_]{1,9})?"


@given(st.from_regex(NAMES, fullmatch=True))
def test_round_trip(text: str) -> None:
    reference = parse(text)
    assert parse(str(reference)) == reference
    assert parse(reference.familiar) == reference


@given(st.text(max_size=200))
def test_any_text(text: str) -> None:
    try:
        reference = parse(text)
    except InvalidArgument:
        return
    assert str(reference).isascii()
    assert parse(str(reference)) == reference


@pytest.mark.parametrize(
    "text", ["a-" * 2000, "a__" * 1300, "a." * 2000 + "/", "a/" * 2000 + ":", "[" + ":" * 4000 + "]/x"]
)
def test_linear_time(text: str) -> None:
    begin = time.process_time()
    with pytest.raises(InvalidArgument):
        parse(text)
    assert time.process_time() - begin < 0.05


def test_tags_and_ids() -> None:
    assert str(parse("a:1").with_tag("2")) == "docker.io/library/a:2"
    for tag in ("", "a/b", "-a", "a\n", "t" * 129):
        with pytest.raises(InvalidArgument, match="invalid tag format"):
            parse("a").with_tag(tag)
    assert is_id(HEX)
    assert is_id("sha256:" + HEX)
    assert not is_id(HEX[:-1])
    assert is_id_prefix("sha256:7cc")
    assert not is_id_prefix("7CC")
    assert not is_id_prefix("7cc\n")
