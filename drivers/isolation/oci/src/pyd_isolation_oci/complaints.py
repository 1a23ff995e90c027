"""From a runtime's words to an error of ours: what kind it is, and which field of the document it is about.

Runtimes have no error codes. The words are those of runc and crun; what is not known here is told as it is, as a fault of the
runtime.
"""

from __future__ import annotations

import re

from pyd_shim.ends import LaunchError

__all__ = ["error_of"]

_NOT_FOUND = re.compile(
    r"executable file .* ?not found in \$PATH|exec: \"[^\"]*\": stat .*no such file|exec .*: no such file or directory",
    re.I,
)
_NOT_EXECUTABLE = re.compile(
    r"exec: \"[^\"]*\": (permission denied|is a directory)|open executable: |exec .*: (permission denied|is a directory)",
    re.I,
)
_FORMAT = re.compile(r"exec format error", re.I)
_FIELDS = (
    (re.compile(r"sysctl", re.I), "linux.sysctl"),
    (re.compile(r"seccomp", re.I), "linux.seccomp"),
    (re.compile(r"apparmor", re.I), "process.apparmorProfile"),
    (re.compile(r"rlimit", re.I), "process.rlimits"),
    (re.compile(r"oom_score_adj", re.I), "process.oomScoreAdj"),
    (re.compile(r"unmapped (user|group)|set(groups|uid|gid)", re.I), "process.user"),
    (re.compile(r"capset|apply caps|capabilit", re.I), "process.capabilities"),
    (re.compile(r"hugetlb", re.I), "linux.resources.hugepageLimits"),
    (re.compile(r"cpu(set)?\.|cpuset", re.I), "linux.resources.cpu"),
    (re.compile(r"memory limit|memory\.", re.I), "linux.resources.memory"),
    (re.compile(r"pids\.", re.I), "linux.resources.pids"),
    (re.compile(r"blkio|io\.(max|weight|bfq)", re.I), "linux.resources.blockIO"),
    (re.compile(r"\bcgroups?\b", re.I), "linux.resources"),
    (re.compile(r"namespace|/ns/", re.I), "linux.namespaces"),
    (re.compile(r"mknod|device node", re.I), "linux.devices"),
    (re.compile(r"chdir|cwd|mkdir", re.I), "process.cwd"),
    (re.compile(r"mount|stat'ing file", re.I), "mounts"),
)


def error_of(runtime: str, words: str, program: str, doing: str) -> LaunchError:
    """The error of a command that failed. *program* is what was to run; *doing* is ``create`` or ``exec``."""
    if not words:
        return LaunchError("internal", f"{doing} with {runtime}: it failed and gave no reason")
    if _NOT_FOUND.search(words):
        return LaunchError("not-found", _program(program, words, "executable file not found in $PATH"))
    if _NOT_EXECUTABLE.search(words):
        return LaunchError("permission-denied", _program(program, words, "permission denied"))
    if _FORMAT.search(words):
        return LaunchError("invalid-argument", _program(program, words, "exec format error"))
    for pattern, field in _FIELDS:
        if pattern.search(words):
            return LaunchError("invalid-argument", f"{field}: {words}")
    return LaunchError("internal", f"{doing} with {runtime}: {words}")


def _program(program: str, words: str, reason: str) -> str:
    """The sentence that clients look for, and the runtime's own words where they are others."""
    begin = words.find(f'exec: "{program}": ')
    if begin >= 0:
        return words[begin:]
    if "/" in program and reason.startswith("executable"):
        reason = f"stat {program}: no such file or directory"
    return f'exec: "{program}": {reason} ({words})'
