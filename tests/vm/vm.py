#!/usr/bin/env python3
"""Throw-away virtual machines for what this kernel may lack: cgroup v2 controllers, file systems, network drivers.

  vm.py run [--engine uml|qemu] [--timeout S] -- COMMAND...   run COMMAND inside, on this host's files; its exit status
  vm.py test                                                  all suites, several machines at once (make test-vm)
  vm.py test --suite NAME [PYTEST ARGUMENT...]                one of them, as often as wanted; arguments are added
  vm.py test [--engine uml|qemu] PYTEST ARGUMENT...           these tests on one machine (default: uml)
  vm.py fetch [uml|qemu]                                      only put the kernel into the cache

Guest writes vanish. $VM_DISK0 and $VM_DISK1 are blank disks, $TMPDIR is an ext4 (an overlay's upper directory cannot be
on the root overlay), cgroup v2 is at /sys/fs/cgroup with all controllers on. uml (default) has native speed, one CPU,
and no cpuset, no nftables for ip and ip6; qemu has everything and is 10 to 30 times slower.
"""

from __future__ import annotations

import argparse
import math
import os
import signal
import sys
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import BinaryIO

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "scripts"), str(ROOT / "tests" / "vm")]

import fleet  # noqa: E402 - needs the path set above
import kernels  # noqa: E402
from machine import BROKEN, Machine, needed  # noqa: E402
from suites import SUITES, Suite  # noqa: E402


def main(words: list[str]) -> int:
    """The command line; returns an exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("run", "test", "fetch"))
    parser.add_argument("--engine", choices=kernels.ENGINES, default=os.environ.get("PYD_VM_ENGINE") or "uml")
    parser.add_argument("--suite", action="append", default=[], choices=[suite.name for suite in SUITES])
    parser.add_argument("--timeout", type=float, help="seconds (default: 900, or as the suite says)")
    parser.add_argument("--memory", type=int, default=2048, help="MiB")
    parser.add_argument("--machines", type=int, help="so many at once (default: one a core, if memory suffices)")
    parser.add_argument("--begin-within", type=float, default=math.inf, help="seconds; later ones are left out")
    parser.add_argument("--console", action="store_true", help="the guest's console too, on stderr")
    cut = words.index("--") if "--" in words else len(words)
    given, rest = parser.parse_known_args(words[:cut])
    rest += words[cut + 1 :]
    machine = Machine(given.engine, memory=given.memory, timeout=given.timeout or 900, verbose=given.console)
    try:
        if given.what == "fetch":
            sys.stdout.write(f"{kernels.ensure(rest[0] if rest else machine.engine)}\n")
            return 0
        if given.what == "run":
            if not rest:
                parser.error("run what?")
            return machine.run(rest)
        os.chdir(ROOT)
        if rest and not given.suite:
            return machine.run(pytest_with(rest))
        chosen = [suite for suite in SUITES if suite.name in (given.suite or [suite.name])]
        return test(chosen, rest, given)
    except kernels.Unavailable as why:
        sys.stderr.write(f"vm: {why}\n")
        return BROKEN


def test(suites: Sequence[Suite], arguments: Sequence[str], given: argparse.Namespace) -> int:
    """Run *suites*, each on a machine of its own, and say how they fared."""
    begun = time.monotonic()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # what has ended is told even so
    available, status = [], 0
    for engine in kernels.ENGINES:  # before the machines: they would fetch the same kernel at the same time
        if wanted := [suite for suite in suites if suite.engine == engine]:
            try:
                needed(engine)
                available += wanted
            except kernels.Unavailable as why:
                names = ", ".join(suite.name for suite in wanted)
                sys.stderr.write(f"vm: {why}\nvm: SKIPPED, for want of a machine: {names}\n")
                if os.environ.get("CI") == "true":
                    status = BROKEN
    works = []
    for suite in suites:
        if suite in available:
            limit = given.timeout or suite.timeout
            machine = Machine(suite.engine, memory=given.memory, timeout=limit, verbose=given.console)
            command = pytest_with([*suite.arguments, *arguments])
            works.append((suite.name, partial(_run, machine, command)))
    machines = given.machines or fleet.how_many(given.memory)
    worst = fleet.run(works, machines, sys.stdout.buffer, given.begin_within)
    sys.stdout.write(f"vm: {len(works)} suites, {machines} machines at once, {time.monotonic() - begun:.0f} s\n")
    return max(status, worst)


def _run(machine: Machine, command: Sequence[str], said: BinaryIO) -> int:
    return machine.run(command, said, said)


def pytest_with(arguments: Sequence[str]) -> list[str]:
    """The command that runs these tests inside."""
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "--pyd-require=vm,root"]
    if os.environ.get("CI") == "true":  # as scripts/test does
        command += ["--reruns", "1", "-raR"]
    return [*command, *arguments]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
