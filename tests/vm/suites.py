"""What runs in virtual machines, in parts: each is one machine's work, so that several are done at the same time.

A part is what belongs to one subject and takes a few minutes; the longest stand first, because they are begun in this order
and the last one to end decides. The engine has no symmetric multiprocessing: more parts at once is the only way to use more
cores.
"""

from __future__ import annotations

from dataclasses import dataclass

_DEVICEMAPPER = "drivers/storage/devicemapper/tests"
_OVERLAY = "drivers/storage/overlay"
_NAMESPACES = "drivers/isolation/namespaces/tests"
_OCI = "drivers/isolation/oci/tests/test_contract_oci.py"


@dataclass(frozen=True, slots=True)
class Suite:
    """Tests for one machine, as pytest's arguments. *timeout* in seconds: several times what they take on an idle machine."""

    name: str
    engine: str
    arguments: tuple[str, ...]
    timeout: float = 900


SUITES = (
    Suite(
        "networks",
        "uml",
        (
            "tests/system/test_macvlan.py",
            "drivers/network/ipvlan",
            "drivers/network/macvlan/tests/test_macvlan_kernel.py",
        ),
    ),
    Suite(
        "isolation",
        "uml",
        (
            f"{_NAMESPACES}/test_contract_namespaces.py",
            f"{_NAMESPACES}/test_isolation_limits.py",
            f"{_NAMESPACES}/test_isolation_remapped.py",
            # crun takes no host with both versions of control groups
            *(
                f"{_OCI}::TestCrun::{test}"
                for test in ("test_ids_inside_and_on_the_disk", "test_who_it_is_outside", "test_binds")
            ),
        ),
    ),
    Suite("overlay-xfs", "uml", (_OVERLAY, "-k", "OverlayOnXfs")),
    # tmpfs of that kernel takes no layers
    Suite("overlay-others", "uml", (_OVERLAY, "-k", "OverlayOn and not OverlayOnXfs and not OverlayOnTmpfs")),
    Suite("overlay", "uml", (_OVERLAY, "-k", "not OverlayOn")),
    Suite("devicemapper-xfs", "uml", (f"{_DEVICEMAPPER}/test_contract_devicemapper.py::TestXfsOnLoop",)),
    Suite("sctp", "qemu", ("tests/vm/test_vm_sctp.py", "--timeout=800")),  # what takes a kernel that lacks nothing
    Suite("devicemapper-ext4", "uml", (f"{_DEVICEMAPPER}/test_contract_devicemapper.py::TestExt4OnDisk",)),
    Suite(
        "devicemapper",
        "uml",
        (f"{_DEVICEMAPPER}/test_devicemapper_kernel.py", "tests/vm/test_vm_devicemapper.py"),
    ),
    Suite("containers", "uml", ("tests/vm/test_vm_guest.py", "tests/vm/test_vm_containers.py")),
)
