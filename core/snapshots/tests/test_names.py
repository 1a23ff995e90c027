"""Names: who may claim, commit and remove what, also while others are at it."""

from __future__ import annotations

from dataclasses import dataclass, replace

import pytest

from pyd_contracts.errors import AlreadyExists, DriverFault, FailedPrecondition, InvalidArgument, NotFound
from pyd_contracts.values import Kind, Snapshot
from pyd_snapshots.names import Names


@dataclass(frozen=True)
class Card:
    """The least that an entry is."""

    snapshot: Snapshot


def _card(name: str, kind: Kind = Kind.COMMITTED, parent: str | None = None) -> Card:
    return Card(Snapshot(name, kind, parent))


def _committed(card: Card) -> Card:
    return replace(card, snapshot=Snapshot("name", Kind.COMMITTED, card.snapshot.parent))


@pytest.fixture
def names() -> Names[Card]:
    """``base``, and a key ``key`` that stands on it."""
    names: Names[Card] = Names("/root")
    names.load([_card("key", Kind.ACTIVE, "base"), _card("base")])
    return names


@pytest.mark.parametrize("key", ["", "-a", "a/b", "..", "ä", "a" * 129])
def test_malformed_keys_are_refused(names: Names[Card], key: str) -> None:
    with pytest.raises(InvalidArgument, match="is no key"), names.claim(Kind.ACTIVE, key, None):
        pass
    with pytest.raises(InvalidArgument, match="is no name"):
        names.check_commit(key, "key")


def test_what_is_claimed_is_taken_and_its_parent_stays(names: Names[Card]) -> None:
    names.drop("key", lambda _card: None)
    with names.claim(Kind.ACTIVE, "new", "base") as below:
        assert below == _card("base")
        with pytest.raises(AlreadyExists), names.claim(Kind.ACTIVE, "new", None):
            pass
        with pytest.raises(FailedPrecondition, match="other snapshots stand on it"):
            names.drop("base", lambda _card: None)
        with pytest.raises(NotFound):
            names.get("new")

    assert names.drop("base", lambda _card: None) == _card("base")
    with names.claim(Kind.ACTIVE, "new", None):
        pass


def test_a_commit_gets_no_name_that_is_claimed(names: Names[Card]) -> None:
    with names.claim(Kind.ACTIVE, "name", None), pytest.raises(AlreadyExists):
        names.rename("name", "key", _committed)
    names.rename("name", "key", _committed)

    assert {each.snapshot.name for each in names.entries()} == {"base", "name"}
    with pytest.raises(FailedPrecondition, match="committed, not active"):
        names.check_commit("other", "name")


def test_a_claim_ends_with_its_entry_and_not_with_the_next_ones(names: Names[Card]) -> None:
    """One thread makes a key, fails to mount it and removes it; another claims it before the first has let go."""
    with names.claim(Kind.ACTIVE, "new", "base"):
        names.enter(_card("new", Kind.ACTIVE, "base"))
        names.drop("new", lambda _card: None)
        other = names.claim(Kind.ACTIVE, "new", "base")
        other.__enter__()

    with pytest.raises(AlreadyExists), names.claim(Kind.ACTIVE, "new", None):
        pass
    names.drop("key", lambda _card: None)
    with pytest.raises(FailedPrecondition):
        names.drop("base", lambda _card: None)
    other.__exit__(None, None, None)
    names.drop("base", lambda _card: None)


def test_what_the_disk_refuses_changes_nothing(names: Names[Card]) -> None:
    def refuse(_card: Card) -> Card:
        raise OSError("no")

    def keep(card: Card) -> None:
        refuse(card)

    with pytest.raises(OSError, match="no"):
        names.rename("name", "key", refuse)
    with pytest.raises(OSError, match="no"):
        names.drop("key", keep)

    assert names.get("key") == _card("key", Kind.ACTIVE, "base")
    with pytest.raises(FailedPrecondition):
        names.drop("base", lambda _card: None)


def test_only_committed_snapshots_are_parents(names: Names[Card]) -> None:
    with pytest.raises(InvalidArgument, match="cannot be a parent"), names.claim(Kind.VIEW, "new", "key"):
        pass
    with pytest.raises(NotFound), names.claim(Kind.VIEW, "new", "nothing"):
        pass


def test_chains_are_told_topmost_first_and_gaps_are_faults(names: Names[Card]) -> None:
    assert [card.snapshot.name for card in names.chain("key")] == ["key", "base"]
    names.load([_card("odd", parent="gone"), _card("one", parent="two"), _card("two", parent="one")])

    for name in ("odd", "one"):
        with pytest.raises(DriverFault, match="is not in /root"):
            names.chain(name)


def test_what_is_gone_is_forgotten_whatever_stands_on_it(names: Names[Card]) -> None:
    names.forget(names.get("base"))

    with pytest.raises(NotFound):
        names.get("base")
    names.drop("key", lambda _card: None)
