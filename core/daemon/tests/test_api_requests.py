"""Reading arguments and bodies: Docker's oddities, and our limits."""

from __future__ import annotations

import base64
import json
from typing import Any, ClassVar

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyd_contracts.errors import InvalidArgument
from pyd_daemon import requests
from pyd_daemon.backends import RegistryAuth
from pyd_daemon.wire.requests import AuthConfig, NetworkCreate


@pytest.mark.parametrize("text", ["", "0", "no", "false", "none", "False", " NO ", "NONE"])
def test_false_words(text: str) -> None:
    assert requests.flag(text, default=True) is False


@pytest.mark.parametrize("text", ["1", "true", "yes", "x", "2", "nope"])
def test_everything_else_is_true(text: str) -> None:
    assert requests.flag(text) is True


def test_a_flag_that_is_not_given_has_its_default() -> None:
    assert (requests.flag(None), requests.flag(None, default=True)) == (False, True)


def test_integers() -> None:
    assert requests.integer("-1", "t") == -1
    assert requests.integer("+10", "t") == 10
    assert (requests.integer("", "t"), requests.integer(None, "t", 3)) == (None, 3)


@pytest.mark.parametrize(
    "text", ["x", "1.5", " 1", "1_0", "0x1", "99999999999999999999", "9223372036854775808", "\u0661"]
)
def test_what_is_no_integer(text: str) -> None:
    with pytest.raises(InvalidArgument, match="invalid value for t"):
        requests.integer(text, "t")


def test_timestamps() -> None:
    assert requests.timestamp("1700000000.250000000", "since") == 1_700_000_000.25
    assert requests.timestamp("-5", "since") == -5.0
    assert requests.timestamp("", "since") is None


@pytest.mark.parametrize("text", ["nan", "inf", "1e9", "2024-01-01", "10m", "1.", ".5"])
def test_what_is_no_timestamp(text: str) -> None:
    with pytest.raises(InvalidArgument, match="unix time"):
        requests.timestamp(text, "since")


def test_platforms() -> None:
    assert requests.platform("") is None
    assert requests.platform("linux/arm64/v8") == "linux/arm64/v8"
    assert requests.platform('{"os":"linux","architecture":"arm","variant":"v5"}') == "linux/arm/v5"
    for bad in ("a b", "/", "linux/", "{", "linux/../x/y/z"):
        with pytest.raises(InvalidArgument, match="invalid platform"):
            requests.platform(bad)


class TestFilters:
    known = frozenset({"label", "status"})

    def test_both_forms(self) -> None:
        assert requests.filters('{"label":["a","b=c"]}', self.known) == {"label": ["a", "b=c"]}
        assert requests.filters('{"label":{"a":true,"b":false}}', self.known) == {"label": ["a", "b"]}

    @pytest.mark.parametrize("text", [None, "", "{}", '{"label":[]}', '{"label":null}'])
    def test_nothing(self, text: str | None) -> None:
        assert requests.filters(text, self.known) == {}

    @pytest.mark.parametrize("text", ["[]", "x", '{"label":"a"}', '{"label":[1]}', '{"label":{"a":"b"}}', "[" * 9999])
    def test_malformed(self, text: str) -> None:
        with pytest.raises(InvalidArgument, match=r"^invalid filter"):
            requests.filters(text, self.known)

    def test_unknown_names(self) -> None:
        with pytest.raises(InvalidArgument, match=r"^invalid filter 'color'$"):
            requests.filters('{"color":["red"]}', self.known)
        assert requests.filters('{"color":["red"]}', None) == {"color": ["red"]}

    def test_too_many(self) -> None:
        with pytest.raises(InvalidArgument, match="more than 1000"):
            requests.filters(json.dumps({"label": [str(n) for n in range(1001)]}), self.known)


class TestRegistryAuth:
    value: ClassVar = {"username": "me", "password": "höt?>", "serveraddress": "r.example"}
    auth = RegistryAuth("me", "höt?>", "r.example")

    def test_both_alphabets_padded_or_not(self) -> None:
        raw = json.dumps(self.value).encode()
        for text in (base64.b64encode(raw), base64.urlsafe_b64encode(raw), base64.urlsafe_b64encode(raw).rstrip(b"=")):
            assert requests.registry_auth(text.decode()) == self.auth

    @pytest.mark.parametrize("header", [None, "", "e30=", "bnVsbA=="])
    def test_no_credentials(self, header: str | None) -> None:
        assert requests.registry_auth(header) is None

    def test_the_old_field(self) -> None:
        config = AuthConfig(auth=base64.b64encode(b"me:se:cret").decode(), serveraddress="r")
        assert requests.credentials(config) == RegistryAuth("me", "se:cret", "r")

    def test_malformed_says_nothing_of_its_content(self) -> None:
        header = base64.b64encode(b'{"password": "secret", "username": 7}').decode()
        with pytest.raises(InvalidArgument) as caught:
            requests.registry_auth(header)
        assert "secret" not in str(caught.value)
        assert caught.value.__cause__ is None

    def test_secrets_are_not_shown(self) -> None:
        assert "höt" not in repr(self.auth)
        assert "höt" not in repr(AuthConfig(username="me", password="höt?>"))

    @given(st.text(max_size=60))
    def test_any_text(self, header: str) -> None:
        try:
            result = requests.registry_auth(header)
        except InvalidArgument:
            return
        assert result is None or isinstance(result, RegistryAuth)


class TestDecode:
    def test_go_rules(self) -> None:
        body = b'{"name":"n","Labels":null,"unknown":1,"IPAM":{"Config":[{"Subnet":"10.0.0.0/8","IPRange":null}]}}'
        network = requests.decode(body, NetworkCreate)
        assert network.name == "n"
        assert network.ipam is not None
        assert network.ipam.config is not None
        assert network.ipam.config[0].subnet == "10.0.0.0/8"

    @pytest.mark.parametrize(
        "body", [b"{", b'{"Name":1}', b"{}x", b"\xff", b'"\xff"', b"[" * 100_000, b'{"Name":"\\ud800"}']
    )
    def test_malformed(self, body: bytes) -> None:
        with pytest.raises(InvalidArgument, match=r"^invalid JSON"):
            requests.decode(body, NetworkCreate)


@given(
    st.recursive(
        st.none() | st.text(alphabet='[]{}"\\ab'), lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner)
    )
)
def test_depth_counts_brackets_outside_of_strings(value: Any) -> None:
    def depth(value: Any) -> int:
        inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else None
        return 0 if inner is None else 1 + max((depth(each) for each in inner), default=0)

    levels = requests.JSON_DEPTH - depth(value)
    for extra in (0, 1):
        wrapped: Any = value
        for _ in range(levels + extra):
            wrapped = [wrapped]
        body = json.dumps(wrapped).encode()
        if extra:
            with pytest.raises(InvalidArgument, match="64 levels"):
                requests._check_depth(body)
        else:
            requests._check_depth(body)
