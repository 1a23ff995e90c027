"""The isolation suite: what is mounted on one side of a bind, and who sees it on the other."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from pyd_conformance.clauses import clause, needs
from pyd_conformance.isolation_stage import CAPABILITIES, IsolationStage, oci_spec

__all__ = ["IsolationPropagation"]

_INSIDE = """
mkdir /in/made; mount -t tmpfs inside /in/made; echo here >/in/made/file; echo mounted; read go; cat /in/host/file
"""


@contextmanager
def _shared(place: Path) -> Iterator[Path]:
    """A file system of its own on a shared mount; whatever is mounted below it in the end goes with it."""
    place.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "pyd-kit", place], check=True)
    try:
        subprocess.run(["mount", "--make-shared", place], check=True)
        yield place
    finally:
        subprocess.run(["umount", "--recursive", "--lazy", place], check=True)


class IsolationPropagation:
    """Clause ISO-17; collected as a part of IsolationContract."""

    if TYPE_CHECKING:

        def need_kernel(self) -> None: ...

    @needs("propagation")
    @pytest.mark.parametrize("option", ["rshared", "shared", "rslave"])
    @clause("ISO-17", "what is mounted below a shared bind shows on both sides, below a slave one inside only")
    def test_mounts_on_both_sides(self, stage: IsolationStage, option: str) -> None:
        self.need_kernel()
        with _shared(stage.place.work / "shared") as shared:
            (shared / "host").mkdir()
            spec: dict[str, Any] = oci_spec(["sh", "-c", _INSIDE])
            able = [*CAPABILITIES, "CAP_SYS_ADMIN"]
            spec["process"]["capabilities"] = dict.fromkeys(("bounding", "effective", "permitted"), able)
            bind = {"destination": "/in", "type": "bind", "source": str(shared), "options": ["rbind", option]}
            spec["mounts"] = [*spec["mounts"], bind]
            container = stage.create(spec=spec, stdin=True)
            client = stage.attach(container, stdin=True)
            stage.backend.isolation_start(container=container)
            client.read_until(b"mounted")
            seen_outside = (shared / "made/file").exists()
            subprocess.run(["mount", "-t", "tmpfs", "outside", shared / "host"], check=True)
            (shared / "host/file").write_text("from outside")
            client.send(b"go\n")
            client.read_until(b"from outside")

            assert seen_outside is (option != "rslave")
