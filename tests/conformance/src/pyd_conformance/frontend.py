"""The suite for languages that describe images. A frontend's author writes::

    class TestMine(FrontendContract):
        samples = Samples(stages="…", words="…", broken=(("…", 3, "…"),))

        def make(self) -> BuildFrontend:
            return MineFrontend()

and runs pytest. Clauses are those of `pyd_contracts.frontend`; what a recipe looks like is the language's business.
"""

from __future__ import annotations

import copy
import json
import random
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any

import pytest

from pyd_conformance.clauses import clause
from pyd_contracts.errors import FailedPrecondition, InvalidArgument, NotFound
from pyd_contracts.frontend import BuildFrontend
from pyd_contracts.values import Copy, Plan, Recipe, Run, Step

__all__ = ["FrontendContract", "Samples"]

_BASE: Mapping[str, Any] = {
    "architecture": "amd64",
    "os": "linux",
    "config": {"Env": ["PATH=/bin", "KEPT=yes"], "Cmd": ["sh"], "User": "someone", "Labels": {"kept": "yes"}},
    "rootfs": {"type": "layers", "diff_ids": []},
}
_TEXTS = 400
_ALPHABET = "aA1 \t\n\r\"'`\\$#{}[]()<>=:,/%*?@-+|&;\0\x1b\u00e9\u2028\U0001f40b\ud800"


@dataclass(frozen=True)
class Samples:
    """Recipes in the frontend's language, each over an image ``base`` if nothing else is said.

    stages   a stage ``tools`` that runs a program; a stage ``apart`` over an image ``other``; and a last one, which sets the
             variable ``LATE`` to ``1``, runs a program, and copies from ``tools``
    words    one stage that asks for an argument ``NAME``, which is ``default`` unless it is given, sets the variable ``A`` to
             it and after that ``B`` to ``<A>/end``, and copies to a directory, as relative as the language allows
    broken   texts that cannot be, the line where each is wrong, and what the message quotes
    trigger  a recipe, and the configuration document of its base, because of which it needs an image ``further`` besides;
             None: the language has no such thing
    """

    stages: str
    words: str
    broken: tuple[tuple[str, int, str], ...]
    trigger: tuple[str, Mapping[str, Any]] | None = None


class FrontendContract:
    """Base of a frontend's test class; ``subject`` names it in the report (default: the class's name)."""

    capabilities: frozenset[str] = frozenset()
    samples: Samples

    def make(self) -> BuildFrontend:
        """Make the frontend under test."""
        raise TypeError(f"{type(self).__name__} must override make()")

    @pytest.fixture
    def driver(self) -> BuildFrontend:
        """The frontend under test."""
        return self.make()

    def planned(self, driver: BuildFrontend, recipe: Recipe) -> Plan:
        """The plan, when every image is known that is asked for."""
        return driver.frontend_plan(recipe=recipe, known=self.known(driver, recipe))

    def known(self, driver: BuildFrontend, recipe: Recipe) -> dict[str, Mapping[str, Any]]:
        """Configurations of all images that a recipe needs."""
        found: dict[str, Mapping[str, Any]] = {}
        for _ in range(100):
            missing = driver.frontend_images(recipe=recipe, known=found)
            if not missing:
                return found
            assert not missing & found.keys(), "what is known is not asked for again"
            found.update((image, copy.deepcopy(_BASE)) for image in missing)
        raise AssertionError("images were asked for again and again")

    def test_declares_the_capabilities_it_is_tested_for(self, driver: BuildFrontend) -> None:
        assert getattr(driver, "capabilities", None) == self.capabilities

    # --- any text ----------------------------------------------------------------------------------------------------

    @clause("FRO-1", "the same question, the same answer; what was asked is left as it was")
    def test_the_same_answer_again(self, driver: BuildFrontend) -> None:
        recipe = Recipe(self.samples.words, arguments={"NAME": "x", "NOBODY": "y"})
        known = self.known(driver, recipe)
        before = copy.deepcopy(known)

        plans = [each.frontend_plan(recipe=recipe, known=known) for each in (driver, driver, self.make())]

        assert plans[0] == plans[1] == plans[2]
        assert known == before

    @clause("FRO-1", "from many threads, for different recipes")
    def test_many_at_once(self, driver: BuildFrontend) -> None:
        recipes = [Recipe(self.samples.words, arguments={"NAME": f"x{number}"}) for number in range(50)]
        recipes += [Recipe(self.samples.stages, target=target) for target in ("tools", "apart", "")] * 10
        alone = [self.planned(driver, recipe) for recipe in recipes]

        with ThreadPoolExecutor(8) as threads:
            together = list(threads.map(lambda recipe: self.planned(driver, recipe), recipes))

        assert together == alone

    @clause("FRO-2", "what is wrong is quoted, with file and line")
    def test_mistakes_are_located(self, driver: BuildFrontend) -> None:
        assert self.samples.broken, "a language has mistakes"
        for text, line, quoted in self.samples.broken:
            with pytest.raises(InvalidArgument) as raised:
                self.planned(driver, Recipe(text, name="Some.file"))
            assert f"Some.file:{line}:" in raised.value.message, text
            assert quoted in raised.value.message, text

    @clause("FRO-2", "any text is answered or refused, and what is answered can be written down")
    @pytest.mark.parametrize("seed", range(5))
    def test_any_text(self, driver: BuildFrontend, seed: int) -> None:
        for text in self.texts(random.Random(seed)):
            try:
                plan = self.planned(driver, Recipe(text))
            except InvalidArgument as error:
                error.message.encode()
                continue
            json.dumps([str(plan), [step.config for step in _steps(plan)]], ensure_ascii=False).encode()

    @clause("FRO-2", "values from outside are as little to be trusted")
    @pytest.mark.parametrize("value", ["\0", "\ud800", "a" * 500_000, "${A}", "\n", "'\"", "{}"])
    def test_any_argument(self, driver: BuildFrontend, value: str) -> None:
        for arguments in ({"NAME": value}, {value: "x"}):
            try:
                plan = self.planned(driver, Recipe(self.samples.words, arguments=arguments))
            except InvalidArgument:
                continue
            json.dumps([str(plan), [step.config for step in _steps(plan)]], ensure_ascii=False).encode()

    def texts(self, chance: random.Random) -> Iterator[str]:
        """Recipes that are nearly right, and texts that are nothing."""
        good = [self.samples.stages, self.samples.words, *(text for text, _, _ in self.samples.broken)]
        for _ in range(_TEXTS):
            text = chance.choice(good)
            for _ in range(chance.randint(1, 4)):
                at, size = chance.randint(0, len(text)), chance.randint(0, 8)
                put = chance.choice(["", text[size : size * 3], "".join(chance.choices(_ALPHABET, k=size))])
                text = text[:at] + put + text[at + chance.choice([0, size]) :]
            yield text
            yield "".join(chance.choices(_ALPHABET, k=chance.randint(0, 40)))
        for nested in ("[", "{", "${a:-", "(", '"', "\\\n", "$a"):
            yield nested * 20_000
            yield self.samples.words + nested * 20_000

    # --- images ------------------------------------------------------------------------------------------------------

    @clause("FRO-10", "bases of what the target needs, and no others")
    @pytest.mark.parametrize(("target", "images"), [("", {"base"}), ("tools", {"base"}), ("apart", {"other"})])
    def test_images_of_a_target(self, driver: BuildFrontend, target: str, images: set[str]) -> None:
        recipe = Recipe(self.samples.stages, target=target)

        assert driver.frontend_images(recipe=recipe, known={}) == images
        assert driver.frontend_images(recipe=recipe, known={"nobody": _BASE}) == images

    @clause("FRO-11", "nothing is asked for when all is known")
    def test_no_more_images(self, driver: BuildFrontend) -> None:
        assert driver.frontend_images(recipe=Recipe(self.samples.stages), known={"base": _BASE}) == frozenset()

    @clause("FRO-11", "a base may need a further image")
    def test_a_base_that_needs_more(self, driver: BuildFrontend) -> None:
        if self.samples.trigger is None:
            pytest.skip("the language has no triggers")
        text, document = self.samples.trigger
        recipe, known = Recipe(text), {"base": document}

        assert driver.frontend_images(recipe=recipe, known={}) == {"base"}
        assert driver.frontend_images(recipe=recipe, known=known) == {"further"}
        assert driver.frontend_images(recipe=recipe, known=known | {"further": _BASE}) == frozenset()

    # --- plans -------------------------------------------------------------------------------------------------------

    @clause("FRO-20", "it ends with the target, and has what that needs only")
    def test_stages_of_a_target(self, driver: BuildFrontend) -> None:
        whole = self.planned(driver, Recipe(self.samples.stages))
        tools = self.planned(driver, Recipe(self.samples.stages, target="tools"))
        apart = self.planned(driver, Recipe(self.samples.stages, target="apart"))

        assert [stage.base for stage in whole.stages] == ["base", "base"]
        assert whole.stages[0].name == "tools"
        assert [(stage.name, stage.base) for stage in tools.stages] == [("tools", "base")]
        assert [(stage.name, stage.base) for stage in apart.stages] == [("apart", "other")]

    @clause("FRO-20", "a target by its number")
    def test_a_target_by_number(self, driver: BuildFrontend) -> None:
        by_name = self.planned(driver, Recipe(self.samples.stages, target="apart"))

        assert self.planned(driver, Recipe(self.samples.stages, target="1")) == by_name

    @clause("FRO-20", "a target that is not there is named")
    @pytest.mark.parametrize("target", ["nowhere", "99", "-1", "tools "])
    def test_no_such_target(self, driver: BuildFrontend, target: str) -> None:
        with pytest.raises(NotFound, match=target):
            driver.frontend_images(recipe=Recipe(self.samples.stages, target=target), known={})
        with pytest.raises(NotFound, match=target):
            driver.frontend_plan(
                recipe=Recipe(self.samples.stages, target=target), known={"base": _BASE, "other": _BASE}
            )

    @clause("FRO-21", "stages stand on earlier ones, and copy from earlier ones")
    def test_order(self, driver: BuildFrontend) -> None:
        plan = self.planned(driver, Recipe(self.samples.stages))

        for place, stage in enumerate(plan.stages):
            origins = [step.work.origin for step in stage.steps if isinstance(step.work, Copy)]
            assert all(each in range(place) for each in (stage.base, *origins) if isinstance(each, int))
        assert any(isinstance(step.work, Copy) and step.work.origin == 0 for step in plan.stages[-1].steps)

    @clause("FRO-22", "what the base has stays, what a step changes stays from there on")
    def test_configurations_are_whole(self, driver: BuildFrontend) -> None:
        plan = self.planned(driver, Recipe(self.samples.stages))

        for stage in plan.stages:
            for config in (stage.config, *(step.config for step in stage.steps)):
                assert config["Labels"] == {"kept": "yes"}
                assert {"PATH=/bin", "KEPT=yes"} <= set(config["Env"])
        last = plan.stages[-1]
        late = ["LATE=1" in step.config["Env"] for step in last.steps]
        assert "LATE=1" not in last.config["Env"]
        assert late == sorted(late)
        assert late[-1]

    @clause("FRO-22", "steps say where they stand and what they are")
    def test_steps_are_told(self, driver: BuildFrontend) -> None:
        plan = self.planned(driver, Recipe(self.samples.stages))
        lines = self.samples.stages.count("\n") + 1

        told = [(stage.line, stage.text) for stage in plan.stages] + [(step.line, step.text) for step in _steps(plan)]
        for line, text in told:
            assert 0 < line <= lines
            assert text
            assert "\n" not in text
        assert all(step.meaning for step in _steps(plan))
        assert any(isinstance(step.work, Run) and step.work.command for step in _steps(plan))

    @clause("FRO-23", "variables are put in, where they are not the program's own")
    @pytest.mark.parametrize("given", [{}, {"NAME": None}, {"NAME": "given"}, {"NAME": ""}, {"NAME": "$A ${B}"}])
    def test_no_variable_is_left(self, driver: BuildFrontend, given: dict[str, str | None]) -> None:
        plan = self.planned(driver, Recipe(self.samples.words, arguments=given))

        value = given.get("NAME")
        value = "default" if value is None else value
        assert {f"A={value}", f"B={value}/end"} <= set(plan.stages[-1].steps[-1].config["Env"])

    @clause("FRO-23", "destinations are absolute, and directories end with a slash")
    def test_destinations(self, driver: BuildFrontend) -> None:
        plan = self.planned(driver, Recipe(self.samples.words))

        destinations = [step.work.destination for step in _steps(plan) if isinstance(step.work, Copy)]
        assert destinations
        assert all(each.startswith("/") for each in destinations)
        assert destinations[-1].endswith("/")

    @clause("FRO-24", "arguments that nobody asks for")
    def test_unused_arguments(self, driver: BuildFrontend) -> None:
        recipe = Recipe(self.samples.words, arguments={"NAME": "x", "NOBODY": "y", "ANY": "", "NOT_GIVEN": None})

        assert self.planned(driver, recipe).unused == ("ANY", "NOBODY")
        assert self.planned(driver, replace(recipe, arguments={"NAME": "x"})).unused == ()

    @clause("FRO-25", "an image that is not known is named")
    def test_an_unknown_image(self, driver: BuildFrontend) -> None:
        with pytest.raises(FailedPrecondition, match="base"):
            driver.frontend_plan(recipe=Recipe(self.samples.stages), known={"other": _BASE})

    @clause("FRO-30", "twice is once")
    def test_close_twice(self, driver: BuildFrontend) -> None:
        self.planned(driver, Recipe(self.samples.stages))

        driver.frontend_close()
        driver.frontend_close()


def _steps(plan: Plan) -> list[Step]:
    return [step for stage in plan.stages for step in stage.steps]
