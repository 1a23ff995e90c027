"""The plan of a recipe: stages that its target needs, in order, with all their steps."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pyd_contracts.errors import FailedPrecondition
from pyd_contracts.values import Plan, Stage, Step
from pyd_frontend_dockerfile.arguments import PREDEFINED, Arguments
from pyd_frontend_dockerfile.configuration import Configuration, base_config
from pyd_frontend_dockerfile.instructions import Instruction
from pyd_frontend_dockerfile.mistakes import located
from pyd_frontend_dockerfile.outline import Outline
from pyd_frontend_dockerfile.steps import Shop

__all__ = ["make_plan"]


def make_plan(outline: Outline, known: Mapping[str, Mapping[str, Any]]) -> Plan:
    """The plan; every image that it stands on is in *known*."""
    numbers, missing = outline.survey(known)
    if missing:
        raise FailedPrecondition(f"plan {outline.name}: configurations are missing of {', '.join(sorted(missing))}")
    planner = _Planner(outline, known)
    for number in numbers:
        planner.add(number)
    preamble = tuple(each.text for each in outline.preamble)
    return Plan(tuple(planner.stages), planner.unused(), outline.warnings, preamble)


class _Planner:
    def __init__(self, outline: Outline, known: Mapping[str, Mapping[str, Any]]) -> None:
        self._outline, self._known = outline, known
        self._places: dict[int, int] = {}
        self._asked: set[str] = set()
        self.stages: list[Stage] = []

    def add(self, number: int) -> None:
        """Put a stage behind those that it needs."""
        outline = self._outline
        draft = outline.drafts[number]
        base = outline.base(number)
        arguments = Arguments(outline.given, outline.automatic, outline.budget, outline.outer.declared)
        where = f"{outline.name}:{draft.instruction.line}"
        with located(where):
            config = Configuration(self._base(base), outline.budget)
            before = config.whole
        shop = Shop(config, arguments, lambda step: self._origin(step, number), outline.budget)
        steps: list[Step] = []
        for trigger in outline.triggers(number, self._known):
            with located(f"{where}: trigger {trigger.text[:200]!r} of {base}"):
                steps.append(shop.step(trigger.instruction))
        for instruction in draft.steps:
            with located(f"{outline.name}:{instruction.line}"):
                steps.append(shop.step(instruction))
        self._asked |= arguments.declared.keys()
        self._places[number] = len(self.stages)
        self.stages.append(
            Stage(
                draft.instruction.text,
                draft.instruction.line,
                self._places[base] if isinstance(base, int) else base,
                tuple(steps),
                draft.start.name,
                "" if isinstance(base, int) else outline.stage_platform(number),
                before,
            )
        )

    def unused(self) -> tuple[str, ...]:
        """Arguments that were given and that no instruction asks for, those of stages that are not needed included."""
        outline = self._outline
        instructions = [*outline.preamble, *(step for draft in outline.drafts for step in draft.steps)]
        asked = {name for each in instructions if each.keyword == "ARG" for name, _ in each.value}
        return tuple(sorted(outline.given.keys() - asked - self._asked - PREDEFINED - outline.automatic.keys()))

    def _base(self, base: str | int | None) -> dict[str, Any]:
        """The configuration that a stage begins with; triggers are for the first who stands on them."""
        if base is None:
            return {}
        if isinstance(base, str):
            config = base_config(base, self._known[base])
        else:
            stage = self.stages[self._places[base]]
            config = dict(stage.steps[-1].config if stage.steps else stage.config)
        config.pop("OnBuild", None)
        return config

    def _origin(self, step: Instruction, number: int) -> int | str | None:
        origin = self._outline.origin(step, number)
        return self._places[origin] if isinstance(origin, int) else origin
