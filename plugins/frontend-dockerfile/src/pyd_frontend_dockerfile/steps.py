"""Instructions of a stage as steps of a plan: words as they will be used, and the configuration after each."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from pyd_contracts.values import Copy, Run, Step
from pyd_frontend_dockerfile.arguments import Arguments
from pyd_frontend_dockerfile.budget import Budget
from pyd_frontend_dockerfile.configuration import Configuration, absolute, read_ports, read_signal, read_workdir
from pyd_frontend_dockerfile.health import shown_health
from pyd_frontend_dockerfile.instructions import Files, Instruction, Program
from pyd_frontend_dockerfile.lines import Heredoc
from pyd_frontend_dockerfile.mistakes import Mistake
from pyd_frontend_dockerfile.outline import declare
from pyd_frontend_dockerfile.quoting import quoted_list
from pyd_frontend_dockerfile.words import Lexer

__all__ = ["Shop"]


@dataclass
class Shop:
    """Where a stage's steps are made, one after the other."""

    config: Configuration
    arguments: Arguments
    origin: Callable[[Instruction], int | str | None]
    budget: Budget
    author: str = ""
    _lexer: Lexer = field(init=False)
    _has_command: bool = False

    def step(self, instruction: Instruction) -> Step:
        """The step that an instruction comes to."""
        self._lexer = Lexer(instruction.escape, self.budget)
        meaning, work = _MAKERS[instruction.keyword](self, instruction)
        config = self.config.whole
        return Step(instruction.text, meaning, instruction.line, config, self.author, work)

    # --- words

    @property
    def _variables(self) -> dict[str, str]:
        environment = self.config.environment
        return {**self.arguments.beside(environment), **environment}

    def _expand(self, text: str) -> str:
        return self._lexer.expand(text, self._variables)

    def _expand_all(self, words: tuple[str, ...]) -> tuple[str, ...]:
        variables = self._variables
        return tuple(self._lexer.expand(each, variables) for each in words)

    def _command(self, program: Program) -> list[str]:
        words = list(program.command.words)
        return [*self.config.shell, *words] if program.command.line else words

    # --- instructions: what each means, and the work it is

    def _arg(self, instruction: Instruction) -> _Made:
        found = declare(self.arguments, instruction, self._lexer, self._variables)
        return "ARG " + " ".join(name if value is None else f"{name}={value}" for name, value in found), None

    def _env(self, instruction: Instruction) -> _Made:
        pairs = self._pairs(instruction)
        self.config.set_variables(pairs)
        return _shown_pairs("ENV", pairs), None

    def _label(self, instruction: Instruction) -> _Made:
        pairs = self._pairs(instruction)
        self.config.add_to("Labels", dict(pairs))
        return _shown_pairs("LABEL", pairs), None

    def _pairs(self, instruction: Instruction) -> list[tuple[str, str]]:
        variables = self._variables
        pairs = [
            (self._lexer.expand(name, variables), self._lexer.expand(value, variables))
            for name, value in instruction.value
        ]
        if not all(name for name, _ in pairs):
            raise Mistake(f"{instruction.keyword} names can not be blank")
        return pairs

    def _run(self, instruction: Instruction) -> _Made:
        program: Program = instruction.value
        command, stdin = self._command(program), b""
        if program.command.line and program.heredocs:
            command, stdin = _with_heredocs(self.config.shell, program.command.words[0], program.heredocs)
        beside = self.arguments.beside(self.config.environment)
        items = {name: f"{name}={value}" for name, value in beside.items()}
        told = tuple(item for name, item in items.items() if self.arguments.is_told(name))
        untold = tuple(item for name, item in items.items() if not self.arguments.is_told(name))
        network = program.flags.get("network", "")
        return " ".join(command), Run(tuple(command), told, network, stdin, untold)

    def _cmd(self, instruction: Instruction) -> _Made:
        program: Program = instruction.value
        command = self._command(program)
        self.config.set("Cmd", command)
        self._has_command = self._has_command or bool(program.command.words)
        return f"CMD {quoted_list(command)}", None

    def _entrypoint(self, instruction: Instruction) -> _Made:
        program: Program = instruction.value
        command = self._command(program) if program.command.words else []
        self.config.set("Entrypoint", command or None)
        if not self._has_command:  # one of the base image would be the arguments of another program
            self.config.set("Cmd", None)
        return f"ENTRYPOINT {quoted_list(command)}", None

    def _expose(self, instruction: Instruction) -> _Made:
        variables = self._variables
        words = [word for each in instruction.value for word in self._lexer.split(each, variables)]
        self.config.add_to("ExposedPorts", read_ports(words))
        return "EXPOSE " + " ".join(words), None

    def _volume(self, instruction: Instruction) -> _Made:
        paths = self._expand_all(instruction.value)
        if not all(paths):
            raise Mistake("VOLUME specified can not be an empty string")
        self.config.add_to("Volumes", {path: {} for path in paths})
        return f"VOLUME [{' '.join(paths)}]", None

    def _user(self, instruction: Instruction) -> _Made:
        user = self._expand(instruction.value)
        self.config.set("User", user or None)
        return f"USER {user}", None

    def _workdir(self, instruction: Instruction) -> _Made:
        path = read_workdir(self.config.workdir, self._expand(instruction.value))
        self.config.set("WorkingDir", path)
        return f"WORKDIR {path}", Copy((), _destination(self.config.workdir, "."))

    def _stopsignal(self, instruction: Instruction) -> _Made:
        name = read_signal(self._expand(instruction.value))
        self.config.set("StopSignal", name)
        return f"STOPSIGNAL {name}", None

    def _shell(self, instruction: Instruction) -> _Made:
        self.config.set("Shell", list(instruction.value))
        return f"SHELL [{' '.join(instruction.value)}]", None

    def _health(self, instruction: Instruction) -> _Made:
        self.config.set("Healthcheck", instruction.value)
        return f"HEALTHCHECK {shown_health(instruction.value)}", None

    def _maintainer(self, instruction: Instruction) -> _Made:
        self.author = instruction.value
        return f"MAINTAINER {self.author}", None

    def _onbuild(self, instruction: Instruction) -> _Made:
        self.config.append("OnBuild", instruction.value)
        return f"ONBUILD {instruction.value}", None

    def _files(self, instruction: Instruction) -> _Made:
        files: Files = instruction.value
        marks = {each.mark: each for each in files.heredocs}
        here = [marks[each] for each in files.sources if each in marks]
        sources = self._expand_all(tuple(each for each in files.sources if each not in marks))
        said = self._expand(files.destination)
        destination = _destination(self.config.workdir, said)
        if len(sources) + len(here) > 1 and not destination.endswith("/"):
            raise Mistake(
                f"When using {instruction.keyword} with more than one source file, "
                f"the destination must be a directory and end with a /: {said}"
            )
        variables = self._variables
        inline = {
            each.name: (
                self._lexer.expand(each.content, variables, here=True) if each.expand else each.content
            ).encode()
            for each in here
        }
        owner = self._expand(files.flags.get("chown", ""))
        mode = self._expand(files.flags.get("chmod", ""))
        work = Copy(
            sources, destination, self.origin(instruction), instruction.keyword == "ADD", owner, _mode(mode), inline
        )
        flags = [f"--{name}={value}" for name, value in (("chown", owner), ("chmod", mode)) if value]
        words = [instruction.keyword, *flags, *sources, *(each.mark for each in here), said]
        return " ".join(words), work


_Made = tuple[str, Run | Copy | None]
_MAKERS: Mapping[str, Callable[[Shop, Instruction], _Made]] = {
    "ADD": Shop._files,
    "ARG": Shop._arg,
    "CMD": Shop._cmd,
    "COPY": Shop._files,
    "ENTRYPOINT": Shop._entrypoint,
    "ENV": Shop._env,
    "EXPOSE": Shop._expose,
    "HEALTHCHECK": Shop._health,
    "LABEL": Shop._label,
    "MAINTAINER": Shop._maintainer,
    "ONBUILD": Shop._onbuild,
    "RUN": Shop._run,
    "SHELL": Shop._shell,
    "STOPSIGNAL": Shop._stopsignal,
    "USER": Shop._user,
    "VOLUME": Shop._volume,
    "WORKDIR": Shop._workdir,
}


def _shown_pairs(keyword: str, pairs: list[tuple[str, str]]) -> str:
    return " ".join([keyword, *(f"{name}={value}" for name, value in pairs)])


def _destination(workdir: str, said: str) -> str:
    """An absolute path, which ends with a slash if it is meant to be a directory."""
    directory = said in ("", ".", "..") or said.endswith(("/", "/.", "/.."))
    path = absolute(workdir, said)
    return path + "/" if directory and path != "/" else path


def _mode(text: str) -> int | None:
    if not text:
        return None
    if not re.fullmatch(r"[0-7]{1,5}", text, re.ASCII) or int(text, 8) > 0o7777:
        raise Mistake(f"invalid chmod parameter: '{text}'. it should be octal string and between 0 and 07777")
    return int(text, 8)


def _with_heredocs(shell: list[str], line: str, heredocs: tuple[Heredoc, ...]) -> tuple[list[str], bytes]:
    """Here-documents alone are the script; a shell is given others as they stand."""
    first = heredocs[0]
    if line != first.mark:
        return [*shell, line + "".join(f"\n{each.written}{each.name}" for each in heredocs)], b""
    if first.content.startswith("#!"):
        interpreter = first.content.partition("\n")[0][2:].strip()
        if not interpreter:
            raise Mistake("the script's first line, #!, names no program")
        return [*interpreter.split(None, 1), "/dev/stdin"], first.content.encode()
    return [*shell, first.content], b""
