"""An assembler for the classic BPF programs that seccomp(2) takes.

Constraint: jumps go forward only and conditional ones reach 255 instructions, so a program is written from its end to
its start: whoever jumps knows where to, and far targets are reached over a trampoline (an unconditional jump has 32
bits). Sources: include/uapi/linux/{bpf_common,filter,seccomp}.h; little-endian machines.
"""

from __future__ import annotations

import struct

__all__ = ["Assembler"]

_LD_W_ABS, _ALU_AND_K, _RET_K = 0x20, 0x54, 0x06
_JA, _JEQ_K, _JGT_K, _JGE_K = 0x05, 0x15, 0x25, 0x35
_NUMBER, _ARCH, _ARGUMENTS = 0, 4, 16
_REACH = 255
_FULL = 0xFFFFFFFF


class Assembler:
    """Instructions from the last to the first. A label is how many instructions stand at or after it.

    Every method puts its instruction in front of all that is there and returns its label; what comes after it in the
    program is what was emitted before it.
    """

    def __init__(self) -> None:
        self._code: list[tuple[int, int, int, int]] = []
        self._returns: dict[int, int] = {}

    def assemble(self) -> bytes:
        """The program as an array of ``struct sock_filter``."""
        pack = struct.Struct("<HBBI").pack
        return b"".join(pack(*instruction) for instruction in reversed(self._code))

    def ret(self, value: int) -> int:
        """A place that returns *value*: one that is there and near, or a new one."""
        label = self._returns.get(value)
        if label is None or len(self._code) - label > _REACH - 4:
            label = self._returns[value] = self._put(_RET_K, 0, 0, value)
        return label

    def go_to(self, label: int) -> int:
        """Have whatever is put in front next continue at *label*."""
        here = len(self._code)
        return label if here == label else self._put(_JA, 0, 0, here - label)

    def load_number(self) -> int:
        """A := the system call's number."""
        return self._put(_LD_W_ABS, 0, 0, _NUMBER)

    def load_arch(self) -> int:
        """A := the AUDIT_ARCH word of the architecture of the call."""
        return self._put(_LD_W_ABS, 0, 0, _ARCH)

    def load_argument(self, index: int, high: bool, mask: int) -> int:
        """A := one half of an argument, masked."""
        if mask != _FULL:
            self._put(_ALU_AND_K, 0, 0, mask)
        return self._put(_LD_W_ABS, 0, 0, _ARGUMENTS + 8 * index + (4 if high else 0))

    def jump_if_equal(self, value: int, then: int, other: int) -> int:
        """To *then* if A == value, else to *other*."""
        return self._branch(_JEQ_K, value, then, other)

    def jump_if_above(self, value: int, then: int, other: int) -> int:
        """To *then* if A > value, else to *other*."""
        return self._branch(_JGT_K, value, then, other)

    def jump_if_at_least(self, value: int, then: int, other: int) -> int:
        """To *then* if A >= value, else to *other*."""
        return self._branch(_JGE_K, value, then, other)

    def _branch(self, code: int, value: int, then: int, other: int) -> int:
        then = self._near(then)
        other = self._near(other)
        here = len(self._code)
        return self._put(code, here - then, here - other, value)

    def _near(self, label: int) -> int:
        """The label itself, or that of a trampoline to it; two less than the reach, for the other side's trampoline."""
        here = len(self._code)
        return label if here - label <= _REACH - 2 else self._put(_JA, 0, 0, here - label)

    def _put(self, code: int, then: int, other: int, value: int) -> int:
        self._code.append((code, then, other, value))
        return len(self._code)
