"""Which backend a name of ``--runtime`` stands for."""

from __future__ import annotations

from typing import Any, cast

import pytest

from pyd_contracts.errors import InvalidArgument
from pyd_engine.containers.runtimes import Runtime, RuntimeTable


class Backend:
    """As much of a backend as the table looks at."""

    def __init__(self, programs: dict[str, str] | None = None) -> None:
        self.capabilities = frozenset({"runtimes"}) if programs is not None else frozenset()
        self.programs = programs

    def isolation_runtimes(self) -> dict[str, str]:
        assert self.programs is not None
        return self.programs


def table(default: str = "namespaces", **backends: Backend) -> RuntimeTable:
    return RuntimeTable(cast("Any", {"namespaces": Backend(), **backends}), default)


def test_backends_and_programs_by_name() -> None:
    found = table(oci=Backend({"crun": "/bin/crun", "runc": "/bin/runc"}))
    assert found.of("") == found.of("namespaces") == Runtime("namespaces", "", "namespaces")
    assert found.of("oci") == Runtime("oci", "", "oci")
    assert found.of("crun") == Runtime("oci", "crun", "/bin/crun")
    assert found.of("io.containerd.runc.v2") == found.of("runc")
    assert found.described()["runc"] == {"path": "/bin/runc"}


def test_the_default_of_a_backend_with_programs_is_its_first() -> None:
    found = table("oci", oci=Backend({"crun": "/bin/crun", "runc": "/bin/runc"}))
    assert (found.default, found.of("")) == ("crun", Runtime("oci", "crun", "/bin/crun"))


def test_a_backend_goes_before_a_program_of_its_name() -> None:
    found = table("oci", oci=Backend({"namespaces": "/bin/other"}))
    assert found.of("namespaces").isolation == "namespaces"
    assert found.of("").isolation == "oci"


def test_names_that_nothing_has() -> None:
    for name in ("nosuch", "runc", "io.containerd.runc.v2"):
        with pytest.raises(InvalidArgument, match=f"^unknown or invalid runtime name: {name}$"):
            table().of(name)
