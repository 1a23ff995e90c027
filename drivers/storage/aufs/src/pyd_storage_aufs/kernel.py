"""What this driver asks of the kernel: one function per system call or probe."""

from __future__ import annotations

__all__ = ["file_systems"]


def file_systems() -> set[str]:
    """The types of file system that this kernel has now; a module that is not loaded is not among them (proc(5))."""
    with open("/proc/filesystems", encoding="ascii") as table:
        return {line.split()[-1] for line in table}
