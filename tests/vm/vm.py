#!/usr/bin/env python3
"""Throw-away virtual machines for what this kernel may lack: cgroup v2 controllers, file systems, network drivers.

  vm.py run [--engine uml|qemu] [--timeout S] -- COMMAND...   run COMMAND inside, on this host's files; its exit status
  vm.py test [--engine uml|qemu] [PYTEST ARGUMENT...]         the suite of that machine, or these tests on it (default: uml);
                                                              with neither the suites of both (make test-vm)
  vm.py fetch [uml|qemu]                                      only put the kernel into the cache

Guest writes vanish. $VM_DISK0 and $VM_DISK1 are blank disks, $TMPDIR is an ext4 (an overlay's upper directory cannot be
on the root overlay), cgroup v2 is at /sys/fs/cgroup with all controllers on. uml (default) has native speed, one CPU,
and no cpuset, no nftables for ip and ip6; qemu has everything and is 10 to 30 times slower.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from dataclasses import replace
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "scripts"), str(ROOT / "tests" / "vm")]

import kernels  # noqa: E402 - needs the path set above
from machine import BROKEN, Machine  # noqa: E402

_DEVICEMAPPER = "drivers/storage/devicemapper/tests"
_NAMESPACES = "drivers/isolation/namespaces/tests"
_OCI = "drivers/isolation/oci/tests/test_contract_oci.py"
SUITES = {
    "uml": [
        "tests/vm",
        "tests/system/test_macvlan.py",
        "drivers/network/ipvlan",
        "drivers/network/macvlan/tests/test_macvlan_kernel.py",
        "drivers/storage/overlay",
        f"{_DEVICEMAPPER}/test_devicemapper_kernel.py",
        f"{_DEVICEMAPPER}/test_contract_devicemapper.py::TestExt4OnDisk",
        f"{_DEVICEMAPPER}/test_contract_devicemapper.py::TestXfsOnLoop",
        f"{_NAMESPACES}/test_contract_namespaces.py",
        f"{_NAMESPACES}/test_isolation_limits.py",
        f"{_NAMESPACES}/test_isolation_remapped.py",
        # crun takes no host with both versions of control groups
        *(
            f"{_OCI}::TestCrun::{test}"
            for test in ("test_ids_inside_and_on_the_disk", "test_who_it_is_outside", "test_binds")
        ),
    ],
    "qemu": ["tests/vm/test_vm_sctp.py"],  # slow: what takes a kernel that lacks nothing
}


def main(words: list[str]) -> int:
    """The command line; returns an exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("run", "test", "fetch"))
    parser.add_argument("--engine", choices=kernels.ENGINES, default=os.environ.get("PYD_VM_ENGINE"))
    parser.add_argument("--timeout", type=float, default=900)
    parser.add_argument("--memory", type=int, default=2048, help="MiB")
    parser.add_argument("--console", action="store_true", help="the guest's console too, on stderr")
    cut = words.index("--") if "--" in words else len(words)
    given, rest = parser.parse_known_args(words[:cut])
    rest += words[cut + 1 :]
    machine = Machine(
        given.engine or kernels.ENGINES[0], memory=given.memory, timeout=given.timeout, verbose=given.console
    )
    try:
        if given.what == "fetch":
            sys.stdout.write(f"{kernels.ensure(rest[0] if rest else machine.engine)}\n")
            return 0
        if given.what == "run":
            if not rest:
                parser.error("run what?")
            return machine.run(rest)
        chosen = [machine.engine] if given.engine or rest else kernels.ENGINES
        return max(test(replace(machine, engine=each), rest) for each in chosen)
    except kernels.Unavailable as why:
        sys.stderr.write(f"vm: {why}\n")
        return BROKEN


def test(machine: Machine, arguments: list[str]) -> int:
    """Run pytest with *arguments*, or the machine's suite; its status, and what it took on stderr."""
    os.chdir(ROOT)
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "--pyd-require=vm,root"]
    begun = time.monotonic()
    try:
        status = machine.run([*command, *(arguments or SUITES[machine.engine])])
    except kernels.Unavailable as why:
        sys.stderr.write(f"vm: {why}\nvm: the tests for {machine.engine} machines are SKIPPED\n")
        return 1 if os.environ.get("CI") == "true" else 0
    sys.stderr.write(f"vm: {machine.engine}: status {status} after {time.monotonic() - begun:.0f} s\n")
    return status


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
