"""What is special to json-file: the bytes, rotation, compression, torn files, a full disk."""

from __future__ import annotations

import errno
import gzip
import json
import os
import time
from pathlib import Path

import pytest

from pyd_contracts.errors import ResourceExhausted
from pyd_contracts.values import LogRecord, LogSource
from pyd_log_json_file.driver import JsonFileDriver
from pyd_log_json_file.encoding import Encoder, rfc3339nano

ID = "ab" * 32
WHEN = 1_793_000_000_120_000_000


def opened(place: Path, **options: str) -> tuple[JsonFileDriver, Path]:
    named = {key.replace("_", "-"): value for key, value in options.items()}
    source = LogSource(
        ID, "web", "busybox", f"sha256:{'1' * 64}", 0, ("sh",), place, ("A=1",), {"team": "blue"}, named, "pyd"
    )
    driver = JsonFileDriver()
    driver.log_open(source)
    return driver, driver.log_path(source)


def lines(path: Path) -> list[str]:
    data = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    return [json.loads(line)["log"] for line in data.splitlines()]


def test_the_bytes_are_dockers() -> None:
    encoder = Encoder({"tag": "web", "b": "2"})
    assert encoder.encode(LogRecord(WHEN, 1, b'a "b" <c>\\\t\r\n\xff\n')) == (
        b'{"log":"a \\"b\\" \\u003cc\\u003e\\\\\\u0009\\r\\n","stream":"stdout","attrs":{"b":"2","tag":"web"},'
        b'"time":"2026-10-26T07:33:20.12Z"}\n'
        b'{"log":"\xef\xbf\xbd\\n","stream":"stdout","attrs":{"b":"2","tag":"web"},"time":"2026-10-26T07:33:20.12Z"}\n'
    )
    assert Encoder({}).encode(LogRecord(10**9, 2, b"no end")) == (
        b'{"log":"no end","stream":"stderr","time":"1970-01-01T00:00:01Z"}\n'
    )


@pytest.mark.parametrize(
    "data", [bytes(range(256)), os.urandom(5000), "caf\xe9 \u2028 \u2029 \U0001f433 \\u2028".encode()]
)
def test_whatever_is_encoded_is_decoded(data: bytes) -> None:
    encoded = Encoder({}).encode(LogRecord(WHEN, 1, data))
    said = "".join(json.loads(line)["log"] for line in encoded.splitlines())
    assert said == data.decode("utf-8", "replace")
    assert b"\xe2\x80\xa8" not in encoded


def test_times_have_no_zeros_at_the_end() -> None:
    assert rfc3339nano(1_000_000_120) == "1970-01-01T00:00:01.00000012Z"


def test_selected_attributes_go_along(tmp_path: Path) -> None:
    driver, path = opened(tmp_path, labels="team", env="A", tag="{{.Name}}/{{.ID}}")
    driver.log_write(ID, [LogRecord(WHEN, 1, b"x\n")])
    assert json.loads(path.read_text())["attrs"] == {"team": "blue", "A": "1", "tag": f"web/{ID[:12]}"}


def test_full_files_are_turned(tmp_path: Path) -> None:
    driver, _path = opened(tmp_path, max_size="1k", max_file="3")
    for number in range(100):
        driver.log_write(ID, [LogRecord(WHEN, 1, b"line %d\n" % number)])
    files = sorted(tmp_path.iterdir())
    assert [each.name for each in files] == [f"{ID}-json.log", f"{ID}-json.log.1", f"{ID}-json.log.2"]
    assert all(each.stat().st_size <= 1024 for each in files)
    found = [line for each in reversed(files) for line in lines(each)]
    assert found == [f"line {number}\n" for number in range(100 - len(found), 100)]
    assert len(found) > 20


def test_one_batch_may_fill_many_files_and_one_line_a_whole_one(tmp_path: Path) -> None:
    driver, _path = opened(tmp_path, max_size="1k", max_file="9")
    text = b"".join(b"%04d\n" % number for number in range(60)) + b"x" * 3000 + b"\nend\n"
    driver.log_write(ID, [LogRecord(WHEN, 1, text)])
    found = [line for each in sorted(tmp_path.iterdir(), reverse=True) for line in lines(each)]
    assert "".join(found).encode() == text


def test_a_single_file_begins_anew(tmp_path: Path) -> None:
    driver, path = opened(tmp_path, max_size="1k")
    for number in range(100):
        driver.log_write(ID, [LogRecord(WHEN, 1, b"line %d\n" % number)])
    assert [each.name for each in tmp_path.iterdir()] == [path.name]
    assert lines(path)[-1] == "line 99\n"


def test_older_files_are_packed(tmp_path: Path) -> None:
    driver, path = opened(tmp_path, max_size="1k", max_file="3", compress="true")
    for number in range(100):
        driver.log_write(ID, [LogRecord(WHEN, 1, b"line %d\n" % number)])
    wanted = [path.name, f"{path.name}.1.gz", f"{path.name}.2.gz"]
    deadline = time.monotonic() + 30
    while sorted(each.name for each in tmp_path.iterdir()) != wanted:
        assert time.monotonic() < deadline, sorted(tmp_path.iterdir())
        time.sleep(0.01)
    found = [line for name in reversed(wanted) for line in lines(tmp_path / name)]
    assert found == [f"line {number}\n" for number in range(100 - len(found), 100)]


def test_a_torn_line_is_taken_back(tmp_path: Path) -> None:
    driver, path = opened(tmp_path)
    driver.log_write(ID, [LogRecord(WHEN, 1, b"one\n")])
    whole = path.read_bytes()
    path.write_bytes(whole + b'{"log":"tw' + b"o" * 200_000)
    opened(tmp_path)
    assert path.read_bytes() == whole
    path.write_bytes(b'{"log":"never whole')
    opened(tmp_path)
    assert path.read_bytes() == b""


def test_a_full_disk_leaves_whole_lines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    driver, path = opened(tmp_path)
    driver.log_write(ID, [LogRecord(WHEN, 1, b"one\n")])
    whole = path.read_bytes()
    write = os.write

    def half(fd: int, data: bytes) -> int:
        if len(data) > 100:
            return write(fd, data[:100])
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "write", half)
    with pytest.raises(ResourceExhausted, match="no space left"):
        driver.log_write(ID, [LogRecord(WHEN, 1, b"x" * 150 + b"\n")])
    assert path.read_bytes() == whole
