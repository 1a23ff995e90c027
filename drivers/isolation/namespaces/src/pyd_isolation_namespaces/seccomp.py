"""Compile the ``linux.seccomp`` object of an OCI runtime-spec document to a classic BPF program for seccomp(2).

Constraints that shaped it: the filter runs at every system call of every container, so numbers are found by binary
search over ranges (about eight comparisons) instead of one after the other; libseccomp knows fewer names than today's
kernels and is one more library in the process that builds containers; an old filter must make a new C library fall
back, so whatever is newer than the newest call the profile names fails with ENOSYS (runc's idea). Standard library
only: the compiler is imported where start-up time counts.

Sources: seccomp(2), Documentation/userspace-api/seccomp_filter.rst, include/uapi/linux/{seccomp,filter,audit}.h,
runtime-spec config-linux.md "Seccomp".

What a profile means where the specification leaves room (as libseccomp and runc do):

* a rule whose action is the default action says nothing;
* a rule without arguments beats all rules with arguments for the same call;
* otherwise the first rule of the document whose arguments all match decides;
* on a 32-bit architecture only the low halves of arguments and values count: the kernel looks at nothing else, but a
  64-bit program can set the upper halves (int $0x80) and would slip through comparisons of 64 bits;
* a rule that names the same argument twice is as many rules as it has arguments (either may match).
"""

from __future__ import annotations

import errno
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from pyd_isolation_namespaces.syscalls import table
from pyd_shim.bpf import Assembler

__all__ = [
    "NO_SUCH_CALL",
    "Condition",
    "Leaf",
    "ProfileError",
    "Resolved",
    "Rule",
    "compile_filter",
    "filter_flags",
    "resolve",
]

_ALLOW, _LOG, _TRACE, _ERRNO, _TRAP = 0x7FFF0000, 0x7FFC0000, 0x7FF00000, 0x00050000, 0x00030000
_KILL_THREAD, _KILL_PROCESS = 0x00000000, 0x80000000
_PLAIN = {
    "SCMP_ACT_ALLOW": _ALLOW,
    "SCMP_ACT_LOG": _LOG,
    "SCMP_ACT_TRAP": _TRAP,
    "SCMP_ACT_KILL": _KILL_THREAD,
    "SCMP_ACT_KILL_THREAD": _KILL_THREAD,
    "SCMP_ACT_KILL_PROCESS": _KILL_PROCESS,
}
_WITH_DATA = {"SCMP_ACT_ERRNO": _ERRNO, "SCMP_ACT_TRACE": _TRACE}
_OPERATORS = frozenset(f"SCMP_CMP_{word}" for word in ("NE", "LT", "LE", "EQ", "GE", "GT", "MASKED_EQ"))
_FLAGS = {"SECCOMP_FILTER_FLAG_TSYNC": 1, "SECCOMP_FILTER_FLAG_LOG": 2, "SECCOMP_FILTER_FLAG_SPEC_ALLOW": 4}

_AUDIT_ARCH = {"x86_64": 0xC000003E, "i386": 0x40000003, "aarch64": 0xC00000B7}
_FAMILY = {
    "SCMP_ARCH_X86_64": "x86_64",
    "SCMP_ARCH_X86": "i386",
    "SCMP_ARCH_AARCH64": "aarch64",
}
_RUNS = {"x86_64": ("x86_64", "i386"), "aarch64": ("aarch64",)}
_X32_BIT = 0x40000000
_ENOSYS = _ERRNO | errno.ENOSYS
_U64 = (1 << 64) - 1


class ProfileError(ValueError):
    """The profile cannot be a filter: the message names the field and what is wrong with it."""


class Condition(NamedTuple):
    """One comparison of an *argument* (0..5).

    operator  the word after ``SCMP_CMP_``; MASKED_EQ means (argument & value) == two
    """

    argument: int
    operator: str
    value: int
    two: int


class Rule(NamedTuple):
    """An action (the filter's return value) and the conditions that must all hold."""

    action: int
    conditions: tuple[Condition, ...]


class Leaf(NamedTuple):
    """What happens to one system call: the first rule that matches, else *action*."""

    rules: tuple[Rule, ...]
    action: int


NO_SUCH_CALL = Leaf((), _ENOSYS)
"""What is newer than the profile, or of another ABI: a C library then falls back to what it did before."""


class Resolved(NamedTuple):
    """The meaning of a profile for one architecture.

    leaves     by number, for all calls that have a rule
    otherwise  for all others
    newest     the highest number the profile names: above it calls fail with ENOSYS; None when they do not
    """

    leaves: dict[int, Leaf]
    otherwise: Leaf
    newest: int | None

    def leaf(self, number: int) -> Leaf:
        """What happens to call *number*."""
        if self.newest is not None and number > self.newest:
            return NO_SUCH_CALL
        return self.leaves.get(number, self.otherwise)


def compile_filter(seccomp: Mapping[str, Any], machine: str) -> bytes:
    """Compile an OCI seccomp object for *machine* (as uname(2) says it) to an array of ``struct sock_filter``.

    A call of an architecture that the profile does not list ends the process; one with the x32 bit fails with ENOSYS.
    Raises ProfileError, also for notify actions, for programs above the kernel's 4096 instructions and for machines
    without a table.
    """
    if machine not in _RUNS:
        raise ProfileError(f"no table of system calls for machine {machine!r}; known: {', '.join(sorted(_RUNS))}")
    arches = _architectures(seccomp, machine)
    program = Assembler()
    unknown = program.ret(_KILL_PROCESS)
    branch = unknown
    for arch in reversed(arches):
        start = _emit_arch(program, resolve(seccomp, arch), arch)
        branch = program.jump_if_equal(_AUDIT_ARCH[arch], start, branch)
    program.load_arch()
    code = program.assemble()
    if len(code) > 4096 * 8:
        raise ProfileError(f"the profile compiles to {len(code) // 8} instructions, the kernel takes 4096: simplify it")
    return code


def filter_flags(seccomp: Mapping[str, Any]) -> int:
    """The flags argument of seccomp(2) for this profile. Raises ProfileError for a flag that cannot be honoured."""
    flags = 0
    for word in seccomp.get("flags") or ():
        if word not in _FLAGS:
            raise ProfileError(f"linux.seccomp.flags: {word!r} is not supported; known: {', '.join(sorted(_FLAGS))}")
        flags |= _FLAGS[word]
    return flags


def _architectures(seccomp: Mapping[str, Any], machine: str) -> tuple[str, ...]:
    """Tables to compile, the native one first. Architectures this machine cannot run are of no effect."""
    wanted = {machine}
    for word in seccomp.get("architectures") or ():
        if not isinstance(word, str) or not word.startswith("SCMP_ARCH_"):
            raise ProfileError(f"linux.seccomp.architectures: {word!r} is no SCMP_ARCH_ word")
        if _FAMILY.get(word) in _RUNS[machine]:
            wanted.add(_FAMILY[word])
    return tuple(arch for arch in _RUNS[machine] if arch in wanted)


def resolve(seccomp: Mapping[str, Any], arch: str) -> Resolved:
    """The meaning of a profile for one architecture (x86_64, i386 or aarch64).

    Names that *arch* does not have are passed over, as names differ between machines. Raises ProfileError.
    """
    numbers = table(arch)
    default = _action(seccomp.get("defaultAction"), seccomp.get("defaultErrnoRet"), "linux.seccomp.defaultAction")
    rules: dict[int, list[Rule]] = {}
    settled: dict[int, int] = {}
    newest = -1
    for position, item in enumerate(seccomp.get("syscalls") or ()):
        where = f"linux.seccomp.syscalls[{position}]"
        if not isinstance(item, Mapping) or not item.get("names"):
            raise ProfileError(f"{where}.names: at least one name is needed")
        action = _action(item.get("action"), item.get("errnoRet"), f"{where}.action")
        called = [numbers[name] for name in item["names"] if name in numbers]
        newest = max((newest, *called))
        alternatives = _alternatives(item.get("args") or (), where)
        if action == default:
            continue
        for number in called:
            if not alternatives:
                settled.setdefault(number, action)
            else:
                rules.setdefault(number, []).extend(Rule(action, each) for each in alternatives)
    leaves = {number: Leaf(tuple(each), default) for number, each in rules.items()}
    leaves |= {number: Leaf((), action) for number, action in settled.items()}
    refusing = default not in (_ALLOW, _LOG) and default & 0xFFFF0000 != _TRACE
    return Resolved(leaves, Leaf((), default), newest if refusing and newest >= 0 else None)


def _action(word: object, data: object, where: str) -> int:
    if word == "SCMP_ACT_NOTIFY":
        raise ProfileError(
            f"{where}: SCMP_ACT_NOTIFY needs an agent that answers (linux.seccomp.listenerPath): unsupported"
        )
    if word in _PLAIN:
        return _PLAIN[str(word)]
    if word not in _WITH_DATA:
        known = ", ".join(sorted((*_PLAIN, *_WITH_DATA)))
        raise ProfileError(f"{where}: {word!r} is not an action; known: {known}")
    number = errno.EPERM if data is None else data
    highest = 4095 if word == "SCMP_ACT_ERRNO" else 0xFFFF
    if not isinstance(number, int) or isinstance(number, bool) or not 0 <= number <= highest:
        raise ProfileError(f"{where}: errnoRet {number!r} is not a number from 0 to {highest}")
    return _WITH_DATA[str(word)] | number


def _alternatives(args: Sequence[Any], where: str) -> list[tuple[Condition, ...]]:
    conditions = [_condition(arg, f"{where}.args[{position}]") for position, arg in enumerate(args)]
    if len({condition.argument for condition in conditions}) != len(conditions):
        return [(condition,) for condition in conditions]
    return [tuple(conditions)] if conditions else []


def _condition(arg: Any, where: str) -> Condition:
    if not isinstance(arg, Mapping):
        raise ProfileError(f"{where}: {arg!r} is not an object")
    index, word = arg.get("index"), arg.get("op")
    value, two = arg.get("value", 0), arg.get("valueTwo", 0)
    if not isinstance(index, int) or not 0 <= index <= 5:
        raise ProfileError(f"{where}.index: {index!r} is not a number from 0 to 5")
    if word not in _OPERATORS:
        raise ProfileError(f"{where}.op: {word!r} is not an operator; known: {', '.join(sorted(_OPERATORS))}")
    for name, number in (("value", value), ("valueTwo", two)):
        if not isinstance(number, int) or not 0 <= number <= _U64:
            raise ProfileError(f"{where}.{name}: {number!r} is not an unsigned number of 64 bits")
    return Condition(index, str(word).removeprefix("SCMP_CMP_"), value, two)


def _emit_arch(program: Assembler, resolved: Resolved, arch: str) -> int:
    """Emit the search for one architecture; returns where it starts."""
    ranges = _ranges(resolved)
    if arch == "x86_64" and ranges[-1][1] != NO_SUCH_CALL:
        ranges.append((_X32_BIT, NO_SUCH_CALL))
    program.go_to(_emit_search(program, ranges, wide=arch != "i386"))
    return program.load_number()


def _ranges(resolved: Resolved) -> list[tuple[int, Leaf]]:
    """First numbers of runs of equal leaves, from 0 up; the last run has no end."""
    ranges: list[tuple[int, Leaf]] = []

    def begin(number: int, leaf: Leaf) -> None:
        if not ranges or ranges[-1][1] != leaf:
            ranges.append((number, leaf))

    following = 0
    for number in sorted(resolved.leaves):
        if number > following:
            begin(following, resolved.otherwise)
        begin(number, resolved.leaves[number])
        following = number + 1
    if resolved.newest is None or following <= resolved.newest:
        begin(following, resolved.otherwise)
    if resolved.newest is not None:
        begin(resolved.newest + 1, NO_SUCH_CALL)
    return ranges


def _emit_search(program: Assembler, ranges: list[tuple[int, Leaf]], *, wide: bool) -> int:
    if len(ranges) == 1:
        return _emit_leaf(program, ranges[0][1], wide=wide)
    middle = len(ranges) // 2
    right = _emit_search(program, ranges[middle:], wide=wide)
    left = _emit_search(program, ranges[:middle], wide=wide)
    return program.jump_if_at_least(ranges[middle][0], right, left)


def _emit_leaf(program: Assembler, leaf: Leaf, *, wide: bool) -> int:
    failed = program.ret(leaf.action)
    for rule in reversed(leaf.rules):
        start = program.ret(rule.action)
        for condition in reversed(rule.conditions):
            start = _emit_condition(program, condition, start, failed, wide=wide)
        failed = start
    return failed


def _emit_condition(program: Assembler, condition: Condition, then: int, other: int, *, wide: bool) -> int:
    """Compare one argument: 64 bits (*wide*) by halves, the high one first, the low one where that leaves it open."""
    index, operator, value, two = condition
    if operator in ("NE", "LT", "LE"):
        then, other = other, then
        operator = {"NE": "EQ", "LT": "GE", "LE": "GT"}[operator]
    mask = value if operator == "MASKED_EQ" else _U64
    wanted = two if operator == "MASKED_EQ" else value
    high, low = wanted >> 32, wanted & 0xFFFFFFFF
    compare = {"GT": program.jump_if_above, "GE": program.jump_if_at_least}.get(operator, program.jump_if_equal)
    compare(low, then, other)
    lower = program.load_argument(index, False, mask & 0xFFFFFFFF)
    if not wide:
        return lower
    if operator in ("EQ", "MASKED_EQ"):
        program.jump_if_equal(high, lower, other)
    else:
        equal = program.jump_if_equal(high, lower, other)
        program.jump_if_above(high, then, equal)
    return program.load_argument(index, True, mask >> 32)
