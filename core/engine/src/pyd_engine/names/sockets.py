"""The resolver's sockets in a container's network namespace: 127.0.0.11, port 53 as far as programs in it can tell."""

from __future__ import annotations

import ctypes
import os
import re
import socket
import threading
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from pyd_contracts.errors import PydError, Unavailable, from_oserror
from pyd_shim import kernel

__all__ = ["ADDRESS", "open_in"]

ADDRESS = "127.0.0.11"
_PORT = 53
_RULES = """
add table ip pyd-names
delete table ip pyd-names
add table ip pyd-names
add chain ip pyd-names output {{ type nat hook output priority -100; policy accept; }}
add rule ip pyd-names output ip daddr {address} udp dport 53 dnat to {address}:{udp}
add rule ip pyd-names output ip daddr {address} tcp dport 53 dnat to {address}:{tcp}
"""
_LED = re.compile(rf"\b(udp|tcp) dport (?:53|domain) dnat to {re.escape(ADDRESS)}:([0-9]+)")
T = TypeVar("T")


def open_in(netns: Path) -> tuple[socket.socket, socket.socket]:
    """(UDP, listening TCP) sockets in the namespace *netns*.

    They have ports of the kernel's choice, and a rule in the container leads port 53 there: a name server in the container can
    have that port on all addresses. Opened again, they have the ports of before, if these are free: a program that asks from
    one socket all its life is led where its first question went. Where there is no libnftables they take port 53 itself.
    """
    try:
        fd = os.open(netns, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        raise from_oserror(error, f"open the network namespace {netns}") from error
    try:
        return _inside(fd, _open)
    finally:
        os.close(fd)


def _open() -> tuple[socket.socket, socket.socket]:
    library = _library()
    if library is None:
        return _bound((_PORT, _PORT))
    pair = _bound_as_before(library) or _bound((0, 0))
    try:
        _run(library, _RULES.format(address=ADDRESS, udp=pair[0].getsockname()[1], tcp=pair[1].getsockname()[1]))
    except PydError:
        for each in pair:
            each.close()
        return _bound((_PORT, _PORT))
    return pair


def _bound_as_before(library: ctypes.CDLL) -> tuple[socket.socket, socket.socket] | None:
    """On the ports where the rules lead that are there; None where that cannot be."""
    try:
        known = dict(_LED.findall(_run(library, "list table ip pyd-names")))
        return _bound((int(known["udp"]), int(known["tcp"])))
    except (PydError, KeyError):  # there are none, or people's own; or somebody has the ports
        return None


def _bound(ports: tuple[int, int]) -> tuple[socket.socket, socket.socket]:
    udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    tcp = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    try:
        for each, port in zip((udp, tcp), ports, strict=True):
            each.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            each.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)  # those of before are closed a moment later
            each.bind((ADDRESS, port))
        tcp.listen(64)
    except OSError as error:
        udp.close()
        tcp.close()
        raise from_oserror(error, f"bind the resolver to {ADDRESS}, ports {ports}, in the container") from error
    return udp, tcp


def _inside(namespace: int, work: Callable[[], T]) -> T:
    """Run *work* on a thread that enters the namespace and ends there."""
    done: list[T] = []
    failed: list[BaseException] = []

    def run() -> None:
        try:
            kernel.setns(namespace, kernel.CLONE_NEWNET)
            done.append(work())
        except BaseException as error:  # noqa: BLE001 - told to who waits
            failed.append(error)

    thread = threading.Thread(target=run, name="pyd-names")
    thread.start()
    thread.join()
    if failed:
        raise failed[0]
    return done[0]


def _library() -> ctypes.CDLL | None:
    try:
        library = ctypes.CDLL("libnftables.so.1")
    except OSError:
        return None
    library.nft_ctx_new.restype = ctypes.c_void_p
    library.nft_ctx_new.argtypes = [ctypes.c_uint32]
    for name in ("nft_ctx_free", "nft_ctx_buffer_error", "nft_ctx_buffer_output"):
        getattr(library, name).argtypes = [ctypes.c_void_p]
    for name in ("nft_ctx_get_error_buffer", "nft_ctx_get_output_buffer"):
        getattr(library, name).argtypes = [ctypes.c_void_p]
        getattr(library, name).restype = ctypes.c_char_p
    library.nft_run_cmd_from_buffer.argtypes = [ctypes.c_void_p, ctypes.c_char_p]
    return library


def _run(library: ctypes.CDLL, script: str) -> str:
    """Run an nft(8) script here and now (libnftables(3)); what it prints. The context is this namespace's alone."""
    context = library.nft_ctx_new(0)
    if not context:
        raise Unavailable("libnftables gives no context: out of memory or of descriptors")
    try:
        library.nft_ctx_buffer_error(context)
        library.nft_ctx_buffer_output(context)
        if library.nft_run_cmd_from_buffer(context, script.encode()):
            said = (library.nft_ctx_get_error_buffer(context) or b"").decode(errors="replace")
            raise Unavailable(f"lead port 53 of {ADDRESS} to the resolver: {said.strip()}")
        return str((library.nft_ctx_get_output_buffer(context) or b"").decode(errors="replace"))
    finally:
        library.nft_ctx_free(context)
