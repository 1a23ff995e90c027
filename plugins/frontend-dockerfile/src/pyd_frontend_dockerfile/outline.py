"""What a recipe consists of, before images are looked at: arguments, stages, and which of them stand on which."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from pyd_contracts.errors import InvalidArgument, NotFound
from pyd_contracts.values import Recipe
from pyd_frontend_dockerfile.arguments import Arguments, platform_arguments
from pyd_frontend_dockerfile.budget import Budget
from pyd_frontend_dockerfile.configuration import base_config
from pyd_frontend_dockerfile.instructions import Files, Instruction, Start, read_instruction
from pyd_frontend_dockerfile.lines import read_lines
from pyd_frontend_dockerfile.mistakes import Mistake, located, printable
from pyd_frontend_dockerfile.platforms import read_platform
from pyd_frontend_dockerfile.references import read_reference
from pyd_frontend_dockerfile.words import Lexer

__all__ = ["Draft", "Outline", "Trigger"]

_DEFAULT_ESCAPE = "\\"


@dataclass(slots=True)
class Draft:
    """One stage as written."""

    instruction: Instruction
    start: Start
    steps: list[Instruction] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Trigger:
    """An instruction that a base image or stage left for those who stand on it."""

    text: str
    instruction: Instruction


class Outline:
    """A recipe that was read."""

    def __init__(self, recipe: Recipe) -> None:
        self.name = recipe.name
        _must_be_text(recipe)
        document = read_lines(recipe.text, recipe.name)
        self.warnings = document.warnings
        self.budget = Budget()
        self.lexer = Lexer(document.escape, self.budget)
        with located(recipe.name):
            self.platform = read_platform(recipe.platform, "linux/amd64")
            machine = read_platform(recipe.machine or recipe.platform, self.platform)
        self.given = {name: value for name, value in recipe.arguments.items() if value is not None}
        automatic = platform_arguments(self.platform, machine)
        self.automatic = {name: self.given.get(name, value) for name, value in automatic.items()}
        self.preamble: list[Instruction] = []
        self.drafts: list[Draft] = []
        self._names: dict[str, int] = {}
        for line in document.lines:
            with located(f"{recipe.name}:{line.number}"):
                self._add(read_instruction(line, document.escape))
        if not self.drafts:
            with located(f"{recipe.name}:{document.lines[-1].number}"):
                raise Mistake("no build stage: there is no FROM")
        self.outer = self._outer()
        self.target = self._target(recipe.target)

    def survey(self, known: Mapping[str, Mapping[str, Any]]) -> tuple[list[int], frozenset[str]]:
        """Numbers of the stages that the target needs, as far as *known* says, and images that are missing in it."""
        needed: set[int] = set()
        missing: set[str] = set()
        waiting = [self.target]
        while waiting:
            number = waiting.pop()
            if number in needed:
                continue
            needed.add(number)
            base = self.base(number)
            if isinstance(base, int):
                waiting.append(base)
            elif base is not None and base not in known:
                missing.add(base)
                continue
            steps = [*(each.instruction for each in self.triggers(number, known)), *self.drafts[number].steps]
            for step in steps:
                origin = self.origin(step, number)
                if isinstance(origin, int):
                    waiting.append(origin)
        return sorted(needed), frozenset(missing)

    def base(self, number: int) -> str | int | None:
        """What a stage stands on: an image, an earlier stage, or nothing."""
        draft = self.drafts[number]
        with located(f"{self.name}:{draft.instruction.line}"):
            image = self.lexer.expand(draft.start.image, self.outer.outermost())
            if not image:
                raise Mistake(f"base name ({draft.start.image}) should not be blank")
            stage = self._names.get(image.lower())
            if stage is not None and stage < number:
                return stage
            return None if image == "scratch" else read_reference(image)

    def stage_platform(self, number: int) -> str:
        """The platform of a stage's base where it is not the recipe's."""
        draft = self.drafts[number]
        if not draft.start.platform:
            return ""
        with located(f"{self.name}:{draft.instruction.line}"):
            said = self.lexer.expand(draft.start.platform, self.outer.outermost())
            if not said:
                raise Mistake(f"empty platform value from expression {draft.start.platform}")
            found = read_platform(said, self.platform)
        return "" if found == self.platform else found

    def triggers(self, number: int, known: Mapping[str, Mapping[str, Any]]) -> list[Trigger]:
        """What runs right after a stage's ``FROM``."""
        base = self.base(number)
        if base is None:
            return []
        if isinstance(base, int):
            texts = [each.value for each in self.drafts[base].steps if each.keyword == "ONBUILD"]
        else:
            texts = base_config(base, known[base]).get("OnBuild") or []
        line = self.drafts[number].instruction.line
        return [_trigger(text, f"{self.name}:{line}: trigger {text[:200]!r} of {base}") for text in texts]

    def origin(self, step: Instruction, number: int) -> int | str | None:
        """Where an instruction of stage *number* copies from; None: the context, or it does not copy."""
        if not isinstance(step.value, Files) or not (said := step.value.flags.get("from", "")):
            return None
        with located(f"{self.name}:{step.line or self.drafts[number].instruction.line}"):
            stage = self._names.get(said.lower())
            if stage is None and re.fullmatch(r"[+-]?[0-9]{1,6}", said, re.ASCII):
                stage = int(said)
            if stage is None:
                if said == "scratch":
                    raise Mistake("invalid from flag value scratch: there are no files in it")
                return read_reference(said, f"invalid from flag value {said[:200]}: ")
            if stage == number:
                raise Mistake(f"invalid from flag value {said}: refers to current build stage")
            if not 0 <= stage < len(self.drafts):
                raise Mistake(f"invalid from flag value {said}: index out of bounds")
            if stage > number:
                raise Mistake(f"invalid from flag value {said}: that stage comes later")
            return stage

    def _add(self, instruction: Instruction) -> None:
        if isinstance(instruction.value, Start):
            start = instruction.value
            if start.name in self._names:
                raise Mistake(f"{start.name} stage name already used")
            if start.name:
                self._names[start.name] = len(self.drafts)
            self.drafts.append(Draft(instruction, start))
        elif self.drafts:
            self.drafts[-1].steps.append(instruction)
        elif instruction.keyword == "ARG":
            self.preamble.append(instruction)
        else:
            raise Mistake(f"no build stage in current context: {instruction.keyword} comes before any FROM")

    def _outer(self) -> Arguments:
        """Arguments above the first stage."""
        found = Arguments(self.given, self.automatic, self.budget)
        for instruction in self.preamble:
            with located(f"{self.name}:{instruction.line}"):
                declare(found, instruction, self.lexer, found.outermost())
        return found

    def _target(self, wanted: str) -> int:
        if not wanted:
            return len(self.drafts) - 1
        if (number := self._names.get(wanted.lower())) is not None:
            return number
        if re.fullmatch(r"[0-9]{1,6}", wanted, re.ASCII) and int(wanted) < len(self.drafts):
            return int(wanted)
        raise NotFound(f"failed to reach build target {printable(wanted)} in {self.name}")


def declare(
    arguments: Arguments, instruction: Instruction, lexer: Lexer, variables: Mapping[str, str]
) -> list[tuple[str, str | None]]:
    """Do an ``ARG``, and say what it comes to."""
    found = []
    for name, default in instruction.value:
        name = lexer.expand(name, variables)
        if not name:
            raise Mistake("ARG names can not be blank")
        found.append((name, None if default is None else lexer.expand(default, variables)))
    for name, default in found:
        arguments.declare(name, default)
    return found


def _trigger(text: str, where: str) -> Trigger:
    try:
        lines = read_lines(text, "trigger").lines
    except InvalidArgument as error:
        raise InvalidArgument(f"{where}: {error}") from error
    with located(where):
        if len(lines) != 1:
            raise Mistake("onbuild trigger should be a single expression")
        instruction = read_instruction(lines[0], _DEFAULT_ESCAPE)
        if instruction.keyword in ("FROM", "ONBUILD"):
            raise Mistake(f"{instruction.keyword} isn't allowed as an ONBUILD trigger")
    return Trigger(text, Instruction(instruction.keyword, instruction.text, 0, instruction.escape, instruction.value))


def _must_be_text(recipe: Recipe) -> None:
    """Text that can be written down, and handed to a program."""
    for number, line in enumerate(recipe.text.split("\n"), 1):
        if (what := _unwritable(line)) is not None:
            raise InvalidArgument(f"{recipe.name}:{number}: {line[:200]!r} holds {what}")
    for name, value in recipe.arguments.items():
        if (what := _unwritable(name + (value or ""))) is not None:
            raise InvalidArgument(f"{recipe.name}: argument {name[:200]!r} holds {what}")


def _unwritable(text: str) -> str | None:
    if "\0" in text:
        return "a NUL"
    try:
        text.encode()
    except UnicodeEncodeError:
        return "what is no text"
    return None
