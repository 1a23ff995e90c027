"""Names of images, and the credentials that belong to their registries."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from pyd_cli.credentials import find
from pyd_cli.errors import CliError
from pyd_cli.references import HUB_KEY, parse


@pytest.mark.parametrize(
    ("text", "domain", "path", "tag", "shown"),
    [
        ("busybox", "docker.io", "library/busybox", "", "busybox"),
        ("a/b:1", "docker.io", "a/b", "1", "a/b:1"),
        ("localhost/a", "localhost", "a", "", "localhost/a"),
        ("r.example:5000/a/b:2", "r.example:5000", "a/b", "2", "r.example:5000/a/b:2"),
        ("docker.io/library/x", "docker.io", "library/x", "", "x"),
        ("[::1]:5000/a", "[::1]:5000", "a", "", "[::1]:5000/a"),
    ],
)
def test_parts(text: str, domain: str, path: str, tag: str, shown: str) -> None:
    reference = parse(text)
    assert (reference.domain, reference.path, reference.tag, str(reference)) == (domain, path, tag, shown)


def test_digests() -> None:
    digest = "sha256:" + "a" * 64
    reference = parse(f"r.example/a:1@{digest}")
    assert (reference.tag, reference.digest, str(reference)) == ("1", digest, f"r.example/a:1@{digest}")


@pytest.mark.parametrize("text", ["", "a b", "a:", "-a", "a//b", "a@sha256:1", "a:b:c", "r.example/"])
def test_names_that_are_none(text: str) -> None:
    with pytest.raises(CliError, match="invalid reference format"):
        parse(text)


def test_capitals_get_their_own_sentence() -> None:
    with pytest.raises(CliError, match=r"repository name \(library/Foo\) must be lowercase"):
        parse("Foo")


def test_credentials_are_found_by_registry() -> None:
    config = {"auths": {"https://r.example/v2/": {"auth": "bWU6cDpx"}, HUB_KEY: {"identitytoken": "t"}}}
    session: Any = SimpleNamespace(config=config)
    assert find(session, "r.example") == {"serveraddress": "r.example", "username": "me", "password": "p:q"}
    assert find(session, parse("busybox").auth_key) == {"serveraddress": HUB_KEY, "identitytoken": "t"}
    assert find(session, "other.example") == {}
