"""Identifiers: what is drawn, and what is drawn again."""

from __future__ import annotations

import secrets

import pytest

from pyd_engine.identities import new_id


def test_an_identifier_is_64_hex_digits() -> None:
    drawn = new_id()
    assert len(drawn) == 64
    assert int(drawn, 16) >= 0


def test_a_short_form_of_digits_alone_is_drawn_again(monkeypatch: pytest.MonkeyPatch) -> None:
    draws = iter(["221937990194" + "a" * 52, "22193799019f" + "0" * 52])
    monkeypatch.setattr(secrets, "token_hex", lambda _bytes: next(draws))
    assert new_id() == "22193799019f" + "0" * 52
