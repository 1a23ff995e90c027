"""Dockerfiles that are built on both sides, with the context that they are built of."""

# ruff: noqa: E501 # lines of Dockerfiles, as they are written

from __future__ import annotations

import io
import tarfile
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

__all__ = ["CONTEXT", "RECIPES", "WRONG", "Entry", "archive"]

_FIND = "RUN cd / && find . -xdev \\( -path ./proc -o -path ./sys -o -path ./dev -o -path ./bin -o -path './etc/[hr]*' \\) -prune -o"
TREE = (
    _FIND
    + " -exec stat -c '%n %f %u:%g %N' {} + | sort; find /[!psdb]* -xdev -type f ! -path '/etc/[hr]*' -exec md5sum {} + | sort -k2"
)
"""Shows all that is there: names, kinds, modes, owners, links, and digests of contents."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One entry of an archive."""

    content: str | bytes = ""
    mode: int = 0o644
    kind: bytes = tarfile.REGTYPE
    owner: int = 0


def archive(entries: Mapping[str, Entry], compression: str = "") -> bytes:
    """*entries* as a tar archive."""
    out = io.BytesIO()
    how: Any = f"w:{compression}"
    with tarfile.open(fileobj=out, mode=how) as tar:
        for name, entry in entries.items():
            info = tarfile.TarInfo(name)
            info.mode, info.mtime, info.type = entry.mode, 1_600_000_000, entry.kind
            info.uid = info.gid = entry.owner
            data = entry.content.encode() if isinstance(entry.content, str) else entry.content
            if entry.kind in (tarfile.SYMTYPE, tarfile.LNKTYPE):
                info.linkname = data.decode()
                data = b""
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return out.getvalue()


def _directory(mode: int) -> Entry:
    return Entry(mode=mode, kind=tarfile.DIRTYPE)


_INNER = {
    "top/": _directory(0o750),
    "top/f": Entry("in an archive", 0o640, owner=7),
    "top/l": Entry("f", kind=tarfile.SYMTYPE),
}

CONTEXT: dict[str, Entry] = {
    "a.txt": Entry("A", owner=1000),
    "b.txt": Entry("B", 0o600),
    "c.sh": Entry("#!/bin/sh\necho ran\n", 0o755),
    "d/": _directory(0o700),
    "d/one": Entry("1", 0o755),
    "d/sub/": _directory(0o750),
    "d/sub/two": Entry("2"),
    "d/sub/same": Entry("d/sub/two", kind=tarfile.LNKTYPE),
    "d/back": Entry("../a.txt", kind=tarfile.SYMTYPE),
    "empty/": _directory(0o755),
    "link": Entry("a.txt", kind=tarfile.SYMTYPE),
    "dirlink": Entry("d", kind=tarfile.SYMTYPE),
    "evil": Entry("/etc/passwd", kind=tarfile.SYMTYPE),
    "above": Entry("../../../../etc/hostname", kind=tarfile.SYMTYPE),
    "plain.tar": Entry(archive(_INNER)),
    "packed.tar.gz": Entry(archive(_INNER, "gz")),
    "packed.tar.bz2": Entry(archive(_INNER, "bz2")),
    "packed.tar.xz": Entry(archive(_INNER, "xz")),
    "odd [1].txt": Entry("odd"),
    "x1": Entry("x1"),
    "x2": Entry("x2"),
    "other": Entry("FROM busybox\nRUN echo another recipe\n"),
}

RECIPES: dict[str, str] = {
    "the usual": 'FROM busybox\nRUN echo hi > /f; echo out\nCOPY a.txt /x/\nENV A=b C="d e"\nCMD ["sh"]',
    "configuration": """FROM busybox
MAINTAINER me
LABEL a=b "c d"='e f'
EXPOSE 80 81/udp
VOLUME /v /w
ENV PATH=$PATH:/more X=${Y:-z}
WORKDIR /q
WORKDIR r
RUN pwd; echo $X $PATH
ENTRYPOINT echo $A
STOPSIGNAL 9
HEALTHCHECK --interval=5s CMD true
ONBUILD RUN echo later
CMD foo
USER 1:2
RUN id
SHELL ["/bin/sh", "-e", "-c"]
RUN echo shell""",
    "directories": f"""FROM busybox
COPY d /new
COPY d/ /new2/
COPY d /tmp
COPY d/sub /new/sub
COPY link /l
COPY dirlink /dl
COPY dirlink/sub/two /deep/er/two
COPY a.txt b.txt c.sh /many/
COPY empty /e
COPY empty/ /e2/e3/
COPY d/back /back
{TREE}""",
    "all of it": f"FROM busybox\nCOPY . /all/\n{TREE}\n{TREE}",
    "wildcards": f"""FROM busybox
COPY *.txt /t/
COPY x? /x/
COPY [ab].t* /ab/
COPY d/*/t* /deep/
COPY x[^1] /not
COPY ["odd [[]1].txt", "/odd/"]
{TREE}""",
    "archives": f"""FROM busybox
ADD plain.tar /plain
ADD packed.tar.gz /gz/
ADD packed.tar.bz2 /bz/
ADD packed.tar.xz /xz/
ADD a.txt /file
ADD plain.tar a.txt /both/
COPY plain.tar /kept/
ADD d /dir
{TREE}""",
    "owners": f"""FROM busybox
RUN echo 'who:x:55:66::/:' > /etc/passwd; echo 'them:x:77:' > /etc/group; echo 'who:x:88:' >> /etc/group
COPY --chown=who a.txt /1/
COPY --chown=who:them d /2/3
COPY --chown=5:6 d /4
COPY --chown=9 a.txt /5
ADD --chown=5:6 plain.tar /6/
{TREE}""",
    "links in the image": f"""FROM busybox
RUN mkdir /real /etc2; ln -s /real /ln; ln -s ../../../../etc2 /up; ln -s nowhere /real/dangling; ln -s /real/f /real/fl
COPY a.txt /ln/
COPY a.txt /up/f
COPY a.txt /real/dangling
COPY a.txt /real/fl
COPY d /ln/d
{TREE}""",
    "over what is there": f"""FROM busybox
RUN mkdir -p /o/one /o/sub/two; chmod 1777 /o; echo old > /o/f; chown 3:4 /o /o/sub
COPY d/sub /o/sub
COPY a.txt /o
COPY b.txt /o/f
COPY d/one /o/sub/more
{TREE}""",
    "stages": f"""ARG TAG=latest
FROM busybox:$TAG AS one
RUN echo 1 > /one; chown 3:4 /one; mkdir -p /p/q; ln -s /one /p/l; chown -h 5:6 /p/l
FROM busybox AS unnamed
COPY --from=one /one /two
COPY --from=0 /one /three/
COPY --from=one --chown=8:9 /p /p
COPY --from=one /p /p2/
COPY --from=busybox:latest /etc /s
{TREE}
FROM unnamed
RUN cat /two""",
    "working directories": "FROM busybox\nUSER 5:6\nWORKDIR /a/b\nRUN ls -ldn /a /a/b | cut -c1-40\nWORKDIR /a\nCOPY a.txt .\nCOPY a.txt c/\nUSER 0\nRUN ls -ln /a | cut -c1-40",
    "from nothing": "FROM scratch\nCOPY c.sh /\nENV A=b\nLABEL x=y",
    "arguments": 'FROM busybox\nARG B=1\nARG A\nARG C\nRUN echo "$A $B $C"\nENV B=env\nRUN echo $B',
    "what a program changes": f"""FROM busybox
RUN mkdir -p /d/e /bin2; echo 1 > /d/e/f; echo 2 > /gone; ln /d/e/f /d/hard; mkfifo /p; chmod 4755 /gone
RUN rm /gone; mv /d/e /d/g; touch /d/new; rm -r /d/hard
RUN true
{TREE}""",
    "volumes": "FROM busybox\nRUN mkdir /v; echo 1 > /v/a\nVOLUME /v\nRUN echo 2 > /v/b; ls /v\nRUN ls /v\nCOPY a.txt /v/\nRUN ls /v",
}

WRONG: dict[str, str] = {
    "a program fails": "FROM busybox\nRUN echo before; exit 7",
    "nothing there": "FROM busybox\nCOPY nothing /x",
    "no match": "FROM busybox\nCOPY *.zz /x/",
    "several into one": "FROM busybox\nCOPY *.txt /x",
    "above the context": "FROM busybox\nCOPY ../a /x",
    "a link out of the context": "FROM busybox\nCOPY evil /x",
    "another link out of it": "FROM busybox\nCOPY above /x",
    "not in the stage": "FROM busybox AS one\nFROM busybox\nCOPY --from=one /nope /y",
    "nobody": "FROM busybox\nCOPY --chown=nouser a.txt /",
    "no such group": "FROM busybox\nCOPY --chown=1:nogroup a.txt /",
    "no image": "FROM scratch",
    "killed": "FROM busybox\nRUN kill -9 $$",
}
