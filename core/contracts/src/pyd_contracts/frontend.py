"""The contract for languages that describe images, `pyd.frontend.v1`: a frontend reads, the engine builds."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from pyd_contracts.markers import hookspec
from pyd_contracts.values import Plan, Recipe

__all__ = ["GROUP", "BuildFrontend"]

GROUP = "pyd.frontend.v1"


class BuildFrontend(Protocol):
    """Turns a recipe into a plan. It does nothing else: no file, no network, no state; who builds is the engine.

    A plan depends on configurations of base images (variables, triggers), so the engine asks for what is needed until
    nothing is::

        frontend_images ── (the engine pulls) ── frontend_images ── … ── frontend_plan

    FRO-1  What a hook answers depends on its arguments only: the same ones give the same answer, in any thread.
    FRO-2  A recipe is somebody's text: whatever it holds, a hook answers or raises InvalidArgument, which names file and line
           (``Dockerfile:3:``) and quotes what is wrong.

    Capabilities: none are defined.
    """

    @hookspec(firstresult=True)
    def frontend_images(self, recipe: Recipe, known: Mapping[str, Mapping[str, Any]]) -> frozenset[str]:
        """Which images have to be looked at before the plan can be made.

        *known*: by name, as an earlier answer said it, the image configuration document (image-spec config.md).

        FRO-10  Names of images that stages stand on and the target needs, and that are not in *known*.
        FRO-11  Asked again with those, the answer is what is needed besides (a trigger may need a further image); it is empty
                after finitely many questions.
        """

    @hookspec(firstresult=True)
    def frontend_plan(self, recipe: Recipe, known: Mapping[str, Mapping[str, Any]]) -> Plan:
        """The plan.

        FRO-20  It ends with the recipe's target, and has only stages that the target needs; NotFound names a target that is not
                there.
        FRO-21  Stages stand on earlier ones and copy from earlier ones only.
        FRO-22  Each step's configuration is whole: that of its base image, changed by all steps up to it.
        FRO-23  No variable is left in it that the engine would have to put in: words, paths and commands are as they will be
                used.
        FRO-24  Arguments that nothing asked for are named in *unused*.
        FRO-25  FailedPrecondition when an image is missing in *known*.
        """

    @hookspec(firstresult=True)
    def frontend_close(self) -> None:
        """Let go of what the driver holds.

        FRO-30  Twice is once.
        """
