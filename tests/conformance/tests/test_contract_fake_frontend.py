"""The fake under the contract of frontends: its language has tables in place of instructions."""

from __future__ import annotations

from pyd_conformance import FrontendContract
from pyd_conformance.fakes import FakeFrontend
from pyd_conformance.frontend import Samples

_STAGES = """\
[tools]
on = "base"
run = [["make", "all"]]

[apart]
on = "other"

[last]
files = [{from = "tools", path = "/made", to = "/usr/made"}]
run = [["true"]]
variables = [["LATE", "1"]]
on = "base"
"""
_WORDS = """\
[one]
on = "base"
arguments = {NAME = "default"}
variables = [["A", "$NAME"], ["B", "${A}/end"]]
files = [{path = "x", to = "y/"}]
"""


class TestFakeFrontend(FrontendContract):
    samples = Samples(
        stages=_STAGES,
        words=_WORDS,
        broken=(
            ("", 1, "no stages"),
            ("[one]\nrun = []\n", 1, "one"),
            ('[one]\non = "base"\n\n[two]\non = 3\n', 4, "two"),
            ('[one]\non = "base"\nrun = [[]]\n', 1, "one"),
            ('[one]\non = "base"\nfiles = [{from = "two", path = "a", to = "b"}]\n', 1, "two"),
            ('[one]\non = "base"\nrun = [\n', 4, "nvalid value"),
        ),
    )

    def make(self) -> FakeFrontend:
        return FakeFrontend()
