"""The isolation suite: backends that stand for several programs (`pyd_contracts.isolation.Runtimes`)."""

from __future__ import annotations

import dataclasses
import os
from typing import Any, cast

from pyd_conformance.clauses import clause, needs
from pyd_conformance.isolation_stage import IsolationStage, oci_spec, refusal
from pyd_contracts.errors import InvalidArgument
from pyd_contracts.isolation import Runtimes
from pyd_contracts.values import Stdio

__all__ = ["IsolationRuntimes"]


class IsolationRuntimes:
    """Clauses ISO-80 and ISO-81; collected as a part of IsolationContract."""

    @needs("runtimes")
    @clause("ISO-80", "there is one at least, and they stay")
    def test_runtimes(self, stage: IsolationStage) -> None:
        first = list(_runtimes(stage).items())

        assert first
        assert list(_runtimes(stage).items()) == first
        assert all(os.path.isabs(path) for _, path in first)

    @needs("runtimes")
    @clause("ISO-81", "each of them builds a container, so does none in particular")
    def test_each_runtime(self, stage: IsolationStage) -> None:
        for name in ("", *_runtimes(stage)):
            container = os.urandom(32).hex()
            sandbox = stage.sandbox(container, oci_spec(["sh", "-c", "exit 3"]), Stdio())

            stage.created[container] = stage.backend.isolation_create(
                container=container, sandbox=dataclasses.replace(sandbox, runtime=name)
            )
            stage.backend.isolation_start(container=container)

            assert stage.wait(container).exit_code == 3, name

    @needs("runtimes")
    @clause("ISO-81", "another name is refused, and named")
    def test_an_unknown_runtime(self, stage: IsolationStage) -> None:
        container = os.urandom(32).hex()
        sandbox = dataclasses.replace(stage.sandbox(container, oci_spec(["true"]), Stdio()), runtime="no-such-runtime")

        said = refusal(InvalidArgument, stage.backend.isolation_create, container=container, sandbox=sandbox)

        assert "no-such-runtime" in said
        assert stage.walk() == set()
        assert stage.leftovers(container) == []


def _runtimes(stage: IsolationStage) -> dict[str, str]:
    return dict(cast("Runtimes", cast("Any", stage.backend)).isolation_runtimes())
