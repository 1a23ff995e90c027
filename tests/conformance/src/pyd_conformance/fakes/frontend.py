"""A frontend for a language that is no list of instructions: TOML tables, one for each stage, in any order of keys."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from string import Template
from typing import Any

from pyd_contracts.errors import FailedPrecondition, InvalidArgument, NotFound
from pyd_contracts.markers import hookimpl
from pyd_contracts.values import Copy, Plan, Recipe, Run, Stage, Step

__all__ = ["FakeFrontend"]

_KEYS: Mapping[str, type] = {"on": str, "arguments": dict, "variables": list, "run": list, "files": list}


class FakeFrontend:
    """Tables like this one; ``$NAME`` is a variable or an argument::

    [tools]
    on = "base"
    arguments = {NAME = "default"}
    variables = [["A", "$NAME"]]
    run = [["make", "all"]]
    files = [{from = "other stage", path = "/made", to = "bin/"}]
    """

    capabilities: frozenset[str] = frozenset()

    @hookimpl
    def frontend_images(self, recipe: Recipe, known: Mapping[str, Mapping[str, Any]]) -> frozenset[str]:
        """Bases of what is needed."""
        tables = _Tables(recipe)
        return frozenset(tables.stages[name]["on"] for name in tables.needed()) - known.keys()

    @hookimpl
    def frontend_plan(self, recipe: Recipe, known: Mapping[str, Mapping[str, Any]]) -> Plan:
        """Tables in the order in which they are written."""
        tables = _Tables(recipe)
        needed = tables.needed()
        if missing := {tables.stages[name]["on"] for name in needed} - known.keys():
            raise FailedPrecondition(f"plan {recipe.name}: configurations are missing of {', '.join(sorted(missing))}")
        asked = {name for stage in tables.stages.values() for name in stage.get("arguments", {})}
        given = {name for name, value in recipe.arguments.items() if value is not None}
        stages = tuple(tables.stage(name, needed, known[tables.stages[name]["on"]]) for name in needed)
        return Plan(stages, tuple(sorted(given - asked)))

    @hookimpl
    def frontend_close(self) -> None:
        """Nothing is held."""


class _Tables:
    """A recipe that was read and checked."""

    def __init__(self, recipe: Recipe) -> None:
        self._recipe = recipe
        if any("\0" in each or not _is_text(each) for each in (*recipe.arguments, *recipe.arguments.values()) if each):
            raise InvalidArgument(f"{recipe.name}: an argument is no text")
        if not _is_text(recipe.text):
            raise InvalidArgument(f"{recipe.name}:1: no text")
        try:
            self.stages: dict[str, dict[str, Any]] = tomllib.loads(recipe.text)
        except tomllib.TOMLDecodeError as error:
            found = re.search(r"at line ([0-9]+)", str(error))
            line = int(found[1]) if found else recipe.text.count("\n") + 1
            shown = recipe.text.split("\n")[line - 1][:200]
            raise InvalidArgument(f"{recipe.name}:{line}: {shown!r}: {error}") from error
        except RecursionError as error:
            raise InvalidArgument(f"{recipe.name}:1: {recipe.text[:20]!r} is nested too deeply") from error
        for name, stage in self.stages.items():
            self._check(name, stage)
        if not self.stages:
            raise InvalidArgument(f"{recipe.name}:1: no stages")

    def line(self, name: str) -> int:
        """Where a table begins."""
        lines = self._recipe.text.split("\n")
        return next((n for n, text in enumerate(lines, 1) if text.strip().startswith(f"[{name}]")), 1)

    def needed(self) -> list[str]:
        """The target and all that it copies from."""
        names, target = list(self.stages), self._recipe.target or str(len(self.stages) - 1)
        if target not in names:
            if not re.fullmatch("[0-9]{1,4}", target, re.ASCII) or int(target) >= len(names):
                raise NotFound(f"{self._recipe.name}: no stage {target}")
            target = names[int(target)]
        found, waiting = set(), [target]
        while waiting:
            found.add(name := waiting.pop())
            waiting += [each["from"] for each in self.stages[name].get("files", []) if "from" in each]
        return [name for name in names if name in found]

    def stage(self, name: str, needed: list[str], base: Mapping[str, Any]) -> Stage:
        """One stage with its steps."""
        table, line = self.stages[name], self.line(name)
        before = dict(base.get("config") or {})
        env, steps, given = list(before.get("Env", ())), [], self._recipe.arguments
        words = {
            name: given[name] if given.get(name) is not None else value for name, value in table["arguments"].items()
        }

        def step(text: str, work: Run | Copy | None = None) -> None:
            steps.append(Step(repr(text), text, line, before | {"Env": [*env]}, work=work))

        for variable, value in table["variables"]:
            words[variable] = Template(value).safe_substitute(words)
            env.append(f"{variable}={words[variable]}")
            step(f"variable {variable}={words[variable]}")
        for command in table["run"]:
            step(f"run {' '.join(command)}", Run(tuple(command)))
        for each in table["files"]:
            origin = needed.index(each["from"]) if "from" in each else None
            step(f"copy {each['path']}", Copy((each["path"],), "/" + each["to"].lstrip("/"), origin))
        return Stage(f"[{name}]", line, table["on"], tuple(steps), name, config=before)

    def _check(self, name: str, stage: Any) -> None:
        where = f"{self._recipe.name}:{self.line(name)}:"
        if not isinstance(stage, dict) or not isinstance(stage.get("on"), str):
            raise InvalidArgument(f"{where} {name!r} stands on nothing")
        for key, value in stage.items():
            if not isinstance(value, _KEYS.get(key, ())):
                raise InvalidArgument(f"{where} {key!r} of {name!r} cannot be")
        for key, kind in _KEYS.items():
            stage.setdefault(key, kind())
        earlier = list(self.stages)[: list(self.stages).index(name)]
        right = (
            all(isinstance(each, str) for each in stage["arguments"].values())
            and all(_strings(pair) and len(pair) == 2 for pair in stage["variables"])
            and all(_strings(command) and command for command in stage["run"])
            and all(
                isinstance(each, dict)
                and {"path", "to"} <= each.keys() <= {"path", "to", "from"}
                and _strings([*each.values()])
                for each in stage["files"]
            )
        )
        if not right:
            raise InvalidArgument(f"{where} {name!r} holds what cannot be")
        for each in stage["files"]:
            if "from" in each and each["from"] not in earlier:
                raise InvalidArgument(f"{where} {name!r} copies from {each['from']!r}, which is not there before it")


def _strings(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(each, str) and "\0" not in each for each in value)


def _is_text(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
