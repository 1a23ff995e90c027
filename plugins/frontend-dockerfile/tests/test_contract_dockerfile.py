"""The kit, run against the frontend for Dockerfiles."""

from __future__ import annotations

from pyd_conformance import FrontendContract
from pyd_conformance.frontend import Samples
from pyd_frontend_dockerfile.driver import DockerfileFrontend

_STAGES = """\
# a comment
FROM base AS tools
RUN make \\
    # all of it
    all
FROM other AS apart

FROM base
ENV LATE=1
RUN <<END
true
END
COPY --from=tools /made /usr/made
"""
_WORDS = """\
ARG NAME=default
FROM base
ARG NAME
ENV A=${NAME}
ENV B="$A"/end
WORKDIR x
COPY file y/
"""
_FURTHER = {"config": {"Env": ["PATH=/bin"], "OnBuild": ["COPY --from=helper /a /b"]}}


class TestDockerfile(FrontendContract):
    subject = "dockerfile"
    samples = Samples(
        stages=_STAGES,
        words=_WORDS,
        broken=(
            ("", 1, "cannot be empty"),
            ("FROM base\n\nFORM x\n", 3, "FORM"),
            ("FROM base\nRUN a \\\n  b\nENV a\n", 4, "ENV must have two arguments"),
            ('FROM base\nENV a="b\n', 2, '"\\"b"'),
            ("FROM base\nCOPY --from=3 a b\n", 2, "3"),
            ("# escape=`\nFROM base\nEXPOSE `\n80000\n", 3, "80000"),
            ("FROM base\nRUN <<END\ntrue\n", 2, "<<END"),
        ),
        trigger=("FROM further AS helper\nFROM base\n", _FURTHER),
    )

    def make(self) -> DockerfileFrontend:
        return DockerfileFrontend()
