"""Running a parsed template over a value made of JSON."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from pyd_cli.template_functions import FUNCTIONS, NAMES, kind_of
from pyd_cli.template_values import MISSING, Method, absent, plain, show, truth
from pyd_cli.templates import Block, Node, Parser, Pipeline, TemplateError

Lookup = Callable[[str], Any]


class _Break(Exception):
    pass


class _Continue(Exception):
    pass


class Template:
    """A template, ready to be executed over many values.

    `type_name` is what messages call the value's type when it has no such field: a row of a table is like a Go
    struct, it either has a field or it does not. Without it the value is a map, whose missing keys are reported as
    such. `optional` gives the value of fields a daemon leaves out when they are empty.
    """

    def __init__(
        self, text: str, name: str = "", type_name: str = "", optional: Mapping[str, Any] | None = None
    ) -> None:
        self.text = text
        self.name = name
        self.type_name = type_name
        self.optional = optional or {}
        self.functions: dict[str, Callable[..., Any]] = dict(FUNCTIONS)
        self.blocks = Parser(text, NAMES, name).parse()

    def execute(self, value: Any) -> str:
        """The output for `value`. Raises TemplateError."""
        return Run(self, value).output()


class Run:
    """One execution: the variables, and the output so far."""

    def __init__(self, template: Template, value: Any) -> None:
        self.template = template
        self.value = value
        self.scopes: list[dict[str, Any]] = [{"$": value}]
        self.out: list[str] = []
        self.lenient = 0  # inside the condition of if/with, where a field left out by the daemon is merely false

    def output(self) -> str:
        self._blocks(self.template.blocks, self.value)
        return "".join(self.out)

    def fail(self, node: Node, reason: str, source: str = "") -> TemplateError:
        line = self.template.text.count("\n", 0, node.position) + 1
        column = len(self.template.text[self.template.text.rfind("\n", 0, node.position) + 1 : node.position].encode())
        name = self.template.name
        return TemplateError(
            f'template: {name}:{line}:{column}: executing "{name}" at <{source or node.source}>: {reason}'
        )

    # ── blocks ──

    def _blocks(self, blocks: list[Block], dot: Any) -> None:
        for block in blocks:
            if block.kind == "text":
                self.out.append(block.text)
            elif block.kind == "action":
                assert block.pipeline is not None
                value = self._pipeline(block.pipeline, dot)
                if not block.pipeline.names:
                    self.out.append(show(value))
            elif block.kind == "break":
                raise _Break
            elif block.kind == "continue":
                raise _Continue
            else:
                self._control(block, dot)

    def _control(self, block: Block, dot: Any) -> None:
        assert block.pipeline is not None
        self.scopes.append({})
        try:
            if block.kind == "range":
                self._range(block, dot)
                return
            self.lenient += 1
            try:
                value = self._pipeline(block.pipeline, dot)
            finally:
                self.lenient -= 1
            if truth(value):
                self._blocks(block.body, value if block.kind == "with" else dot)
            else:
                self._blocks(block.orelse, dot)
        finally:
            self.scopes.pop()

    def _range(self, block: Block, dot: Any) -> None:
        pipeline = block.pipeline
        assert pipeline is not None
        value = self._pipeline(Pipeline([], False, pipeline.commands), dot)
        if isinstance(value, Mapping) and not (value is self.value and self.template.type_name):
            pairs = [(key, plain(value[key])) for key in sorted(value)]
        elif isinstance(value, list):
            pairs = list(enumerate(value))
        elif isinstance(value, int) and not isinstance(value, bool):
            pairs = [(at, at) for at in range(min(value, 100_000))]
        elif absent(value):
            pairs = []
        else:
            raise self.fail(pipeline.commands[0][0], f"range can't iterate over {show(value)}")
        if not pairs:
            self._blocks(block.orelse, dot)
        for key, item in pairs:
            self.scopes.append({})
            try:
                for name, content in zip(
                    pipeline.names, (key, item) if len(pipeline.names) == 2 else (item,), strict=False
                ):
                    self._set(name, content, pipeline.declares)
                self._blocks(block.body, item)
            except _Continue:
                continue
            except _Break:
                break
            finally:
                self.scopes.pop()

    def _set(self, name: str, value: Any, declares: bool) -> None:
        if not declares:
            for scope in reversed(self.scopes):
                if name in scope:
                    scope[name] = value
                    return
        self.scopes[-1][name] = value

    # ── pipelines and operands ──

    def _pipeline(self, pipeline: Pipeline, dot: Any) -> Any:
        value: Any = None
        for stage, command in enumerate(pipeline.commands):
            value = self._command(command, dot, [value] if stage else [])
        for name in pipeline.names:
            self._set(name, value, pipeline.declares)
        return value

    def _command(self, command: list[Node], dot: Any, piped: list[Any]) -> Any:
        head, arguments = command[0], command[1:]
        if head.kind == "call":
            return self._call(head, arguments, dot, piped)
        if head.kind in ("field", "chain", "variable"):
            value = self._operand(head, dot, call=False)
            if isinstance(value, Method):
                return self._method(head, value, [*(self._operand(node, dot) for node in arguments), *piped])
            if arguments or piped:
                raise self.fail(head, f"{head.source} has arguments but cannot be invoked as function")
            return value
        if arguments or piped:
            raise self.fail(head, f"can't give argument to non-function {head.source}")
        return self._operand(head, dot)

    def _method(self, node: Node, method: Method, arguments: list[Any]) -> Any:
        try:
            return method.call(*arguments)
        except TypeError:
            raise self.fail(node, f"wrong number of args for {node.source}") from None

    def _call(self, head: Node, arguments: list[Node], dot: Any, piped: list[Any]) -> Any:
        name = str(head.value)
        if name in ("and", "or"):
            value: Any = None
            for at, argument in enumerate([*arguments, *piped]):
                value = self._operand(argument, dot) if at < len(arguments) else argument
                if truth(value) is (name == "or"):
                    break
            return value
        if name == "call":
            raise self.fail(head, "call of a value that is no function")
        lenient, self.lenient = self.lenient, self.lenient if name in ("not", "eq", "ne", "len") else 0
        try:
            values = [*(self._operand(argument, dot) for argument in arguments), *piped]
        finally:
            self.lenient = lenient
        source = " ".join(node.source for node in [head, *arguments])
        try:
            return self.template.functions[name](*values)
        except ValueError as fault:
            raise self.fail(head, f"error calling {name}: {fault}", source) from None
        except TypeError:
            raise self.fail(head, f"wrong number of args for {name}: got {len(values)}", source) from None

    def _operand(self, node: Node, dot: Any, call: bool = True) -> Any:
        if node.kind in ("string", "number", "constant"):
            return node.value
        if node.kind == "dot":
            return dot
        if node.kind == "field":
            value = dot
            assert isinstance(node.value, tuple)
            for name in node.value:
                value = self._field(node, value, name)
        elif node.kind == "chain":
            value = self._operand(node.children[0], dot)
            assert isinstance(node.value, tuple)
            for name in node.value:
                value = self._field(node, value, name)
        elif node.kind == "variable":
            value = next(scope[str(node.value)] for scope in reversed(self.scopes) if node.value in scope)
        elif node.kind == "pipeline":
            assert isinstance(node.value, Pipeline)
            value = self._pipeline(node.value, dot)
        else:
            value = self._call(node, [], dot, [])
        if call and isinstance(value, Method):
            return self._method(node, value, [])
        return value

    def _field(self, node: Node, value: Any, name: str) -> Any:
        if absent(value):
            if self.lenient:
                return MISSING
            raise self.fail(node, f"nil pointer evaluating interface {{}}.{name}")
        if not isinstance(value, Mapping):
            raise self.fail(node, f"can't evaluate field {name} in type {kind_of(value)}")
        if name in value:
            found = plain(value[name])
            return self.template.optional.get(name) if found is None else found
        other = next((key for key in value if isinstance(key, str) and key.lower() == name.lower()), None)
        if other is not None and not (self.template.type_name and value is self.value):
            # Go's structs and their JSON differ in case (ID and Id, DNS and Dns): docker accepts both
            return plain(value[other])
        if name in self.template.optional:
            return self.template.optional[name]
        if self.lenient and not self.template.type_name:
            return MISSING
        if self.template.type_name and value is self.value:
            raise self.fail(node, f"can't evaluate field {name} in type {self.template.type_name}")
        raise self.fail(node, f'map has no entry for key "{name}"')


__all__ = ["Template", "TemplateError"]
