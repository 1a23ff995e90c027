"""`--format` templates: the part of Go's text/template that docker's users write, parsed into a tree.

Actions: pipelines, variables, if / else if / else, with, range (with else, break, continue), comments, trim markers.
Left out, with a clear error: define, template, block. Nothing of Python is reachable from a template: values are
JSON's, functions are those of `template_functions`.

Positions are kept because Go's messages carry them: `template: :1:9: executing "" at <.Config.Foo>: …`.
"""

from __future__ import annotations

import re

from pyd_cli.errors import CliError

_TOKEN = re.compile(
    r"""(?P<space>\s+)
      | (?P<string>"(?:\\.|[^"\\\n])*"|`[^`]*`|'(?:\\.|[^'\\\n])+')
      | (?P<number>[+-]?(?:0[xX][0-9a-fA-F_]+|\d[\d_]*(?:\.\d*)?(?:[eE][+-]?\d+)?|\.\d+))
      | (?P<field>\.[^\W\d]\w*)
      | (?P<variable>\$\w*)
      | (?P<word>[^\W\d]\w*)
      | (?P<mark>:=|[=|(),.])""",
    re.VERBOSE,
)
_ESCAPES = {"n": "\n", "t": "\t", "r": "\r", "\\": "\\", '"': '"', "'": "'", "a": "\a", "b": "\b", "f": "\f", "v": "\v"}


class TemplateError(CliError):
    """The template cannot be parsed or executed; the text is Go's, so that people find it in a search."""


class Token:
    __slots__ = ("glued", "kind", "position", "text")

    def __init__(self, kind: str, text: str, position: int, glued: bool) -> None:
        self.kind = kind
        self.text = text
        self.position = position
        self.glued = glued  # no blank before it: `.A.B` is one operand, `.A .B` are two


class Node:
    """A node of the tree. `kind` says what `value` and `children` hold; see `Parser`."""

    __slots__ = ("children", "kind", "position", "source", "value")

    def __init__(self, kind: str, value: object, position: int, children: list[Node] | None = None) -> None:
        self.kind = kind
        self.value = value
        self.position = position
        self.children = children or []
        self.source = ""


class Pipeline:
    """`$i, $e := a b | c`: names to set, whether they are declared here, and the commands."""

    __slots__ = ("commands", "declares", "names")

    def __init__(self, names: list[str], declares: bool, commands: list[list[Node]]) -> None:
        self.names = names
        self.declares = declares
        self.commands = commands


class Block:
    """One piece of the template: text, an output action, or a control structure with its branches."""

    __slots__ = ("body", "kind", "orelse", "pipeline", "text")

    def __init__(self, kind: str, text: str = "", pipeline: Pipeline | None = None) -> None:
        self.kind = kind
        self.text = text
        self.pipeline = pipeline
        self.body: list[Block] = []
        self.orelse: list[Block] = []


def unquote(literal: str) -> str:
    """The text of a Go string literal."""
    if literal[0] == "`":
        return literal[1:-1]

    def one(match: re.Match[str]) -> str:
        code = match.group(1)
        if code[0] in "xuU":
            return chr(int(code[1:], 16))
        if code[0].isdigit():
            return chr(int(code, 8))
        return _ESCAPES.get(code, code)

    return re.sub(r"\\(x[0-9a-fA-F]{2}|u[0-9a-fA-F]{4}|U[0-9a-fA-F]{8}|[0-7]{3}|.)", one, literal[1:-1])


class Parser:
    """Template text → blocks. `functions` are the names that may be called."""

    def __init__(self, text: str, functions: frozenset[str], name: str = "") -> None:
        self.text = text
        self.functions = functions
        self.name = name
        self.tokens: list[Token] = []
        self.index = 0
        self.end = 0
        self.line = 1
        self.variables: list[str] = ["$"]
        self.loops = 0

    def fail(self, reason: str) -> TemplateError:
        return TemplateError(f"template: {self.name}:{self.line}: {reason}")

    def parse(self) -> list[Block]:
        blocks, closer = self._blocks()
        if closer:
            raise self.fail(f"unexpected {{{{{closer}}}}}")
        return blocks

    # ── text and actions ──

    def _blocks(self, *closers: str) -> tuple[list[Block], str]:
        """Blocks up to an action whose first word is one of `closers` (left in self.tokens), or the end."""
        blocks: list[Block] = []
        while True:
            start = self.text.find("{{", self.end)
            literal = self.text[self.end : None if start < 0 else start]
            if self.end and self.text[self.end - 3 : self.end] == "-}}":
                literal = literal.lstrip(" \t\r\n")
            if start >= 0 and re.match(r"-[ \t\r\n]", self.text[start + 2 : start + 4]):
                literal = literal.rstrip(" \t\r\n")
            if literal:
                blocks.append(Block("text", literal))
            if start < 0:
                self.end = len(self.text)
                if closers and "end" in closers:
                    raise self.fail("unexpected EOF")
                return blocks, ""
            self.line = self.text.count("\n", 0, start) + 1
            if self._action(start):
                continue  # a comment
            word = self.tokens[0].text if self.tokens and self.tokens[0].kind == "word" else ""
            if word in ("end", "else"):
                if word not in closers:
                    raise self.fail(f"unexpected {{{{{word}}}}}")
                return blocks, word
            block = self._statement(word)
            if block is not None:
                blocks.append(block)

    def _action(self, start: int) -> bool:
        """Tokenize the action at `start`; True when it is a comment."""
        position = start + 2
        if re.match(r"-[ \t\r\n]", self.text[position : position + 2]):
            position += 1
        inner = position + len(self.text[position:]) - len(self.text[position:].lstrip())
        if self.text.startswith("/*", inner):
            close = self.text.find("*/", inner)
            stop = self.text.find("}}", close)
            if close < 0 or stop < 0:
                raise self.fail("unclosed comment")
            self.end = stop + 2
            return True
        self.tokens, self.index = [], 0
        glued = False
        while True:
            if self.text.startswith("}}", position):
                self.end = position + 2
                break
            if self.text.startswith("-}}", position) and not glued:
                self.end = position + 3
                break
            match = _TOKEN.match(self.text, position)
            if match is None:
                if position >= len(self.text) or self.text[position] == "\n":
                    raise self.fail("unclosed action")
                if self.text[position] in "\"'":
                    raise self.fail("unterminated quoted string")
                raise self.fail(f"unexpected {self.text[position]!r} in command")
            if match.lastgroup == "space":
                glued = False
            else:
                assert match.lastgroup is not None
                self.tokens.append(Token(match.lastgroup, match.group(), position, glued))
                glued = True
            position = match.end()
        return False

    # ── statements ──

    def _statement(self, word: str) -> Block | None:
        if word in ("if", "with", "range"):
            self.index = 1
            return self._control(word)
        if word in ("break", "continue"):
            if not self.loops:
                raise self.fail(f"{{{{{word}}}}} outside {{{{range}}}}")
            return Block(word)
        if word in ("define", "template", "block"):
            raise self.fail(f"{{{{{word}}}}} is not supported in --format")
        pipeline = self._pipeline("command")
        return Block("action", pipeline=pipeline)

    def _control(self, word: str) -> Block:
        depth = len(self.variables)
        block = Block(word, pipeline=self._pipeline(word))
        self.loops += word == "range"
        block.body, closer = self._blocks("end", "else")
        self.loops -= word == "range"
        if closer == "else":
            if len(self.tokens) > 1:
                if self.tokens[1].text != word or word == "range":
                    raise self.fail(f"unexpected <{self.tokens[1].text}> in else")
                self.index = 2
                block.orelse = [self._control(word)]
            else:
                block.orelse, _ = self._blocks("end")
        del self.variables[depth:]
        return block

    # ── pipelines ──

    def _peek(self, ahead: int = 0) -> Token | None:
        return self.tokens[self.index + ahead] if self.index + ahead < len(self.tokens) else None

    def _pipeline(self, context: str, until: str = "") -> Pipeline:
        names, declares = self._declarations(context)
        commands: list[list[Node]] = []
        while True:
            command: list[Node] = []
            while (token := self._peek()) is not None and token.text not in ("|", ")"):
                if token.kind == "mark" and token.text in (",", "=", ":="):
                    raise self.fail(f"unexpected {token.text!r} in {context}")
                command.append(self._operand())
            if not command:
                raise self.fail(f"missing value for {context}")
            if commands and command[0].kind not in ("call", "field", "chain", "variable"):
                raise self.fail(f"non executable command in pipeline stage {len(commands) + 1}")
            commands.append(command)
            if token is None or token.text == ")":
                break
            self.index += 1
        if (token.text if token else "") != until:
            raise self.fail("unclosed left paren" if until else "unexpected right paren")
        if until:
            self.index += 1
        self.variables += [name for name in names if declares]
        return Pipeline(names, declares, commands)

    def _declarations(self, context: str) -> tuple[list[str], bool]:
        names: list[str] = []
        start = self.index
        while (token := self._peek()) is not None and token.kind == "variable" and (mark := self._peek(1)) is not None:
            if mark.text not in (":=", "=", ","):
                break
            names.append(token.text)
            self.index += 2
            if mark.text != ",":
                if len(names) > (2 if context == "range" else 1):
                    raise self.fail(f"too many declarations in {context}")
                if mark.text == "=" and (unknown := [name for name in names if name not in self.variables]):
                    raise self.fail(f'undefined variable "{unknown[0]}"')
                return names, mark.text == ":="
        self.index = start
        return [], False

    def _operand(self) -> Node:
        token = self.tokens[self.index]
        self.index += 1
        node = self._term(token)
        fields: list[str] = []
        position = node.position
        while (after := self._peek()) is not None and after.glued and after.kind == "field":
            if not fields:
                position = after.position
            fields.append(after.text[1:])
            self.index += 1
        last = self.tokens[self.index - 1]
        if fields:
            if node.kind in ("string", "number", "constant"):
                raise self.fail(f"unexpected . after term {self.text[token.position : last.position]!r}")
            if node.kind == "field":
                assert isinstance(node.value, tuple)
                node = Node("field", (*node.value, *fields), position)
            else:
                node = Node("chain", tuple(fields), position, [node])
        node.source = self.text[token.position : last.position + len(last.text)]
        return node

    def _term(self, token: Token) -> Node:
        text, position = token.text, token.position
        if token.kind == "string":
            value = unquote(text)
            return Node("number", ord(value), position) if text[0] == "'" else Node("string", value, position)
        if token.kind == "number":
            try:
                plain = text.replace("_", "")
                number = int(plain, 0) if plain.lstrip("+-").isdigit() or "x" in plain.lower() else float(plain)
            except ValueError:
                raise self.fail(f"bad number syntax: {text!r}") from None
            return Node("number", number, position)
        if token.kind == "field":
            return Node("field", (text[1:],), position)
        if token.kind == "variable":
            if text not in self.variables:
                raise self.fail(f'undefined variable "{text}"')
            return Node("variable", text, position)
        if text == ".":
            return Node("dot", None, position)
        if text == "(":
            return Node("pipeline", self._pipeline("parenthesized pipeline", ")"), position)
        if text in ("true", "false", "nil"):
            return Node("constant", {"true": True, "false": False, "nil": None}[text], position)
        if token.kind == "word":
            if text not in self.functions:
                raise self.fail(f'function "{text}" not defined')
            return Node("call", text, position)
        raise self.fail(f"unexpected {text!r} in operand")
