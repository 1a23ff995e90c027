"""The kit, run against the syslog driver, on each transport and in each format."""

from __future__ import annotations

import importlib.util
import shutil
import ssl
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pyd_conformance import LogContract
from pyd_log_syslog.driver import SyslogDriver

_spec = importlib.util.spec_from_file_location("syslog_servers", Path(__file__).with_name("syslog_servers.py"))
assert _spec is not None
assert _spec.loader is not None
servers: Any = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(servers)


class _Syslog(LogContract):
    bad_options = (
        {"syslog-address": "here"}, {"syslog-address": "http://a"}, {"syslog-address": "tcp://a:x"},
        {"syslog-address": "unix:///nowhere/at/all"}, {"syslog-facility": "nothing"}, {"syslog-facility": "24"},
        {"syslog-format": "rfc1"}, {"tag": "{{.Nothing}}"},
        {"syslog-address": "tcp+tls://a:1", "syslog-tls-ca-cert": "/nowhere/at/all"},
    )  # fmt: skip
    precision = 10**9

    def make(self, root: Path, run: Path) -> SyslogDriver:
        return SyslogDriver(patience=0.5)

    def replaced(self, line: bytes) -> bytes:
        return line.replace(b"\0", b" ")


class TestSyslogTcp(_Syslog):
    subject = "syslog tcp"

    @pytest.fixture
    def sink(self) -> Iterator[Any]:
        server = servers.SyslogStream("rfc3164")
        yield server
        server.close()


class TestSyslogUnix(_Syslog):
    subject = "syslog unix"
    precision = 1000

    @pytest.fixture
    def sink(self, tmp_path: Path) -> Iterator[Any]:
        server = servers.SyslogStream("rfc5424micro", tmp_path / "socket")
        yield server
        server.close()


class TestSyslogUnixgram(_Syslog):
    subject = "syslog unixgram"

    @pytest.fixture
    def sink(self, tmp_path: Path) -> Iterator[Any]:
        server = servers.SyslogDatagrams("", tmp_path / "socket")
        yield server
        server.close()


class TestSyslogUdp(_Syslog):
    subject = "syslog udp"
    loses = True

    @pytest.fixture
    def sink(self) -> Iterator[Any]:
        server = servers.SyslogDatagrams("rfc5424")
        yield server
        server.close()


class TestSyslogTls(_Syslog):
    subject = "syslog tls"
    precision = 1000

    @pytest.fixture
    def sink(self, tmp_path: Path) -> Iterator[Any]:
        if shutil.which("openssl") is None:
            pytest.skip("no openssl here to make a certificate with")
        subprocess.run(
            ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "3650",
             "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost", "-keyout", tmp_path / "key",
             "-out", tmp_path / "certificate"],
            check=True, capture_output=True,
        )  # fmt: skip
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(tmp_path / "certificate", tmp_path / "key")
        ca = {"syslog-tls-ca-cert": str(tmp_path / "certificate")}
        server = servers.SyslogStream("rfc5424micro", None, context, **ca)
        yield server
        server.close()
