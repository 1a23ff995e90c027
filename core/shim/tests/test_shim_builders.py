"""Builders: forked ahead of their order, gone afterwards, and told of nothing but what they need."""

from __future__ import annotations

import os
import socket
from pathlib import Path
from typing import Any

import pytest

from pyd_shim import message
from pyd_shim.builders import BuilderProcess


def _answer(orders: socket.socket, order: dict[str, Any], fds: list[int], host_network: int) -> None:
    if order.get("fail"):
        raise ValueError("as asked")
    known = {orders.fileno(), host_network, *fds}
    others = [int(name) for name in os.listdir("/proc/self/fd") if int(name) > 2 and int(name) not in known]
    kept = [fd for fd in others if os.path.exists(f"/proc/self/fd/{fd}")]  # but for the listing's own
    message.send(orders, {"kept": kept, "pid": os.getpid(), "said": os.read(fds[0], 10).decode()})


@pytest.fixture
def builder() -> BuilderProcess:
    network = os.open("/proc/self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    held = os.open("/dev/null", os.O_RDONLY)
    try:
        return BuilderProcess(network, lambda: None, _answer)
    finally:
        os.close(network)
        os.close(held)


def test_one_order_is_answered_and_the_builder_ends(builder: BuilderProcess, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("text")
    fd = os.open(tmp_path / "file", os.O_RDONLY)

    message.send(builder._orders, {}, (fd,))
    answer, _ = message.receive(builder._orders)
    os.close(fd)

    assert answer == {"kept": [], "pid": builder._pid, "said": "text"}
    builder.end()
    builder.end()
    assert not Path(f"/proc/{answer['pid']}").exists()


def test_one_that_is_not_needed_ends(builder: BuilderProcess) -> None:
    pid = builder._pid

    builder.end()

    assert not Path(f"/proc/{pid}").exists()


def test_a_fault_ends_it_without_an_answer(builder: BuilderProcess) -> None:
    pid = builder._pid
    message.send(builder._orders, {"fail": True})

    assert message.receive(builder._orders) == (None, [])
    builder.end()
    assert not Path(f"/proc/{pid}").exists()
