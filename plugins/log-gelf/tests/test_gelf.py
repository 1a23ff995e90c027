"""What is special to GELF: the fields, and how long messages are cut."""

from __future__ import annotations

import json
from pathlib import Path

from pyd_contracts.values import LogSource
from pyd_log_gelf.messages import CHUNK, chunks, head, message, packed

SOURCE = LogSource(
    "ab" * 32, "web", "busybox:1", f"sha256:{'1' * 64}", 1_793_000_000_000_000_000, ("sh", "-c", "x"), Path("/"), ("A=1",),
    {"team": "blue"}, {"labels": "team", "env": "A", "tag": "{{.Name}}"},
)  # fmt: skip


def test_fields_are_dockers() -> None:
    document = json.loads(message(head(SOURCE), 2, 1_793_000_000_123_456_789, b"text"))
    host = document.pop("host")
    assert host
    assert document == {
        "version": "1.1", "short_message": "text", "timestamp": 1793000000.123456, "level": 3,
        "_container_id": "ab" * 32, "_container_name": "web", "_image_id": f"sha256:{'1' * 64}",
        "_image_name": "busybox:1", "_command": "sh -c x", "_tag": "web", "_created": "2026-10-26T07:33:20Z",
        "_team": "blue", "_A": "1",
    }  # fmt: skip


def test_chunks() -> None:
    assert list(chunks(b"x" * CHUNK)) == [b"x" * CHUNK]
    data = bytes(range(256)) * 20
    parts = list(chunks(data))
    assert {each[:10] for each in parts} == {parts[0][:10]}
    assert [(each[10], each[11]) for each in parts] == [(number, len(parts)) for number in range(len(parts))]
    assert b"".join(each[12:] for each in parts) == data
    assert all(len(each) <= CHUNK for each in parts)


def test_what_cannot_be_put_together_is_cut() -> None:
    assert len(list(chunks(b"x" * 1_000_000))) == 128


def test_packing_can_be_undone() -> None:
    import gzip
    import zlib

    assert gzip.decompress(packed(b"x" * 100, "gzip", -1)) == b"x" * 100
    assert zlib.decompress(packed(b"x" * 100, "zlib", 9)) == b"x" * 100
    assert packed(b"x", "none", 1) == b"x"
