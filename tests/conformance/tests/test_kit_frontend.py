"""The suite for frontends itself: every clause has a test, and every kind of broken frontend is caught."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import pytest

from pyd_conformance.clauses import documented, proved
from pyd_conformance.fakes.frontend import FakeFrontend
from pyd_conformance.frontend import FrontendContract, Samples
from pyd_contracts.errors import InvalidArgument, PydError
from pyd_contracts.frontend import BuildFrontend
from pyd_contracts.markers import hookimpl
from pyd_contracts.values import Copy, Plan, Recipe, Step

_STAGES = """\
[tools]
on = "base"
run = [["make"]]
[apart]
on = "other"
[last]
on = "base"
variables = [["LATE", "1"]]
run = [["true"]]
files = [{from = "tools", path = "/made", to = "/usr/made"}]
"""
_WORDS = """\
[one]
on = "base"
arguments = {NAME = "default"}
variables = [["A", "$NAME"], ["B", "${A}/end"]]
files = [{path = "x", to = "y/"}]
"""
_SAMPLES = Samples(_STAGES, _WORDS, (("[one]\n", 1, "one"),))


def test_every_clause_has_a_test_and_every_test_a_clause() -> None:
    assert set(proved(FrontendContract)) == set(documented(BuildFrontend))


# --- frontends that break one promise each ----------------------------------------------------------------------------

Known = Mapping[str, Mapping[str, Any]]


class _Wrong(FakeFrontend):
    """A frontend whose plans are altered."""

    def altered(self, plan: Plan, recipe: Recipe, known: Known) -> Plan:
        """Another plan."""
        return plan

    @hookimpl
    def frontend_plan(self, recipe: Recipe, known: Known) -> Plan:
        """What is right, altered."""
        return self.altered(super().frontend_plan(recipe, known), recipe, known)


def _each_step(plan: Plan, change: Callable[[Step], Step]) -> Plan:
    return replace(
        plan, stages=tuple(replace(stage, steps=tuple(change(step) for step in stage.steps)) for stage in plan.stages)
    )


class _Counts(_Wrong):
    """Gives another answer each time."""

    asked = 0

    def altered(self, plan: Plan, recipe: Recipe, known: Known) -> Plan:
        self.asked += 1
        return replace(plan, warnings=(str(self.asked),))


class _Remembers(_Wrong):
    """Notes something in what it was given."""

    def altered(self, plan: Plan, recipe: Recipe, known: Known) -> Plan:
        known["base"]["config"]["Noted"] = True  # type: ignore[index]
        return plan


class _Vague(_Wrong):
    """Says that something is wrong, and not where."""

    @hookimpl
    def frontend_images(self, recipe: Recipe, known: Known) -> frozenset[str]:
        try:
            return super().frontend_images(recipe, known)
        except InvalidArgument as error:
            raise InvalidArgument("syntax error") from error


class _Falls(_Wrong):
    """Does not expect what people write."""

    @hookimpl
    def frontend_images(self, recipe: Recipe, known: Known) -> frozenset[str]:
        if "\0" in recipe.text:
            raise KeyError("NUL")
        return super().frontend_images(recipe, known)


class _AsksForAll(_Wrong):
    """Wants images that the target does not need."""

    @hookimpl
    def frontend_images(self, recipe: Recipe, known: Known) -> frozenset[str]:
        return super().frontend_images(replace(recipe, target=""), known) | {"other"} - known.keys()


class _AsksForEver(_Wrong):
    """Is never content."""

    @hookimpl
    def frontend_images(self, recipe: Recipe, known: Known) -> frozenset[str]:
        return super().frontend_images(recipe, known) or frozenset({f"more{len(known)}"})


class _AnyTarget(_Wrong):
    """Takes the last stage when the target is not there."""

    @hookimpl
    def frontend_images(self, recipe: Recipe, known: Known) -> frozenset[str]:
        return super().frontend_images(replace(recipe, target=""), known)


class _Backwards(_Wrong):
    """Puts what is needed behind."""

    def altered(self, plan: Plan, recipe: Recipe, known: Known) -> Plan:
        return replace(plan, stages=plan.stages[::-1])


class _Partial(_Wrong):
    """Says what changes only."""

    def altered(self, plan: Plan, recipe: Recipe, known: Known) -> Plan:
        return _each_step(plan, lambda step: replace(step, config={"Env": step.config["Env"]}))


class _Raw(_Wrong):
    """Leaves variables to somebody else."""

    def altered(self, plan: Plan, recipe: Recipe, known: Known) -> Plan:
        return _each_step(plan, lambda step: replace(step, config={**step.config, "Env": ["A=$NAME", "B=$A/end"]}))


class _Relative(_Wrong):
    """Leaves paths to somebody else."""

    def altered(self, plan: Plan, recipe: Recipe, known: Known) -> Plan:
        def bare(step: Step) -> Step:
            work = step.work
            return replace(
                step, work=replace(work, destination=work.destination[1:]) if isinstance(work, Copy) else work
            )

        return _each_step(plan, bare)


class _AllUsed(_Wrong):
    """Does not look which arguments are asked for."""

    def altered(self, plan: Plan, recipe: Recipe, known: Known) -> Plan:
        return replace(plan, unused=())


class _Guesses(FakeFrontend):
    """Makes something up for an image that it does not know."""

    @hookimpl
    def frontend_plan(self, recipe: Recipe, known: Known) -> Plan:
        return super().frontend_plan(recipe, {"base": {}, "other": {}, **known})


class _ClosesOnce(FakeFrontend):
    """Fails when it is closed already."""

    closed = False

    @hookimpl
    def frontend_close(self) -> None:
        assert not self.closed
        self.closed = True


@pytest.mark.parametrize(
    ("broken", "test", "more"),
    [
        (_Counts, "test_the_same_answer_again", ()),
        (_Remembers, "test_the_same_answer_again", ()),
        (_Counts, "test_many_at_once", ()),
        (_Vague, "test_mistakes_are_located", ()),
        (_Falls, "test_any_text", (0,)),
        (_AsksForAll, "test_images_of_a_target", ("tools", {"base"})),
        (_AsksForEver, "test_no_more_images", ()),
        (_AsksForEver, "test_order", ()),
        (_AnyTarget, "test_no_such_target", ("nowhere",)),
        (_AnyTarget, "test_images_of_a_target", ("apart", {"other"})),
        (_Backwards, "test_stages_of_a_target", ()),
        (_Backwards, "test_order", ()),
        (_Partial, "test_configurations_are_whole", ()),
        (_Raw, "test_no_variable_is_left", ({},)),
        (_Relative, "test_destinations", ()),
        (_AllUsed, "test_unused_arguments", ()),
        (_Guesses, "test_an_unknown_image", ()),
        (_ClosesOnce, "test_close_twice", ()),
    ],
    ids=lambda value: value.__name__ if isinstance(value, type) else None,
)
def test_a_broken_frontend_is_caught(broken: type[FakeFrontend], test: str, more: tuple[Any, ...]) -> None:
    class Contract(FrontendContract):
        samples = _SAMPLES

        def make(self) -> FakeFrontend:
            return broken()

    contract = Contract()

    with pytest.raises((AssertionError, pytest.fail.Exception, PydError, KeyError)):
        getattr(contract, test)(contract.make(), *more)


def test_random_texts_are_the_same_each_time() -> None:
    contract = FrontendContract()
    contract.samples = _SAMPLES

    first, second = ([*contract.texts(random.Random(7))] for _ in range(2))

    assert first == second
    assert len(set(first)) > 700
