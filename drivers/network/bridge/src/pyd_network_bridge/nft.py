"""nftables through libnftables, in this process; through the ``nft`` program where the library is missing.

A change takes 0.1 to 1 ms by the library (libnftables(3)) and 4 ms by the program. The library is loaded at run time
by ctypes. Its context is no friend of threads, so there is one context and one lock. Both speak the language of
nft(8), and a script is one transaction: all of it, or nothing.
"""

from __future__ import annotations

import ctypes
import shutil
import subprocess
import threading
from typing import Protocol

from pyd_contracts.errors import DriverFault, Unavailable

__all__ = ["Library", "Nft", "NftError", "Program", "find"]

_SONAME = "libnftables.so.1"


_PROBE = (
    "add table ip pyd-probe\n"
    "add chain ip pyd-probe probe { type nat hook postrouting priority 100 ; }\n"
    "delete table ip pyd-probe\n"
)
"""One transaction that leaves nothing: some kernels have nf_tables and neither its ip family nor translation."""


class NftError(DriverFault):
    """nftables refused a script; the message holds its own words, with the caret."""


class Nft(Protocol):
    """Something that runs nft(8) scripts."""

    name: str

    def run(self, script: str) -> str:
        """Run *script* as one transaction and return what it printed. Raises NftError."""

    def close(self) -> None:
        """Give resources back; a later run takes them again."""


class Library:
    """libnftables by ctypes."""

    name = "libnftables"

    def __init__(self) -> None:
        self._library = ctypes.CDLL(_SONAME)
        self._library.nft_ctx_new.restype = ctypes.c_void_p
        self._library.nft_ctx_new.argtypes = [ctypes.c_uint32]
        self._library.nft_ctx_free.argtypes = [ctypes.c_void_p]
        self._library.nft_ctx_free.restype = None
        for name in ("nft_ctx_buffer_output", "nft_ctx_buffer_error"):
            getattr(self._library, name).argtypes = [ctypes.c_void_p]
        for name in ("nft_ctx_get_output_buffer", "nft_ctx_get_error_buffer"):
            getattr(self._library, name).argtypes = [ctypes.c_void_p]
            getattr(self._library, name).restype = ctypes.c_char_p
        self._library.nft_run_cmd_from_buffer.argtypes = [ctypes.c_void_p, ctypes.c_char_p]
        self._library.nft_run_cmd_from_buffer.restype = ctypes.c_int
        self._context: int | None = None
        self._lock = threading.Lock()

    def run(self, script: str) -> str:
        """Run *script*; see `Nft.run`."""
        with self._lock:
            context = self._opened()
            failed = self._library.nft_run_cmd_from_buffer(context, script.encode())
            output = self._library.nft_ctx_get_output_buffer(context) or b""
            errors = self._library.nft_ctx_get_error_buffer(context) or b""
        if failed:
            raise NftError(f"nftables: {_first(errors.decode(errors='replace'))}")
        return str(output.decode(errors="replace"))

    def close(self) -> None:
        """Free the context and its socket."""
        with self._lock:
            if self._context is not None:
                self._library.nft_ctx_free(self._context)
                self._context = None

    def _opened(self) -> int:
        if self._context is None:
            context = self._library.nft_ctx_new(0)
            if not context:
                raise Unavailable("libnftables gives no context: out of memory or of descriptors")
            self._library.nft_ctx_buffer_output(context)
            self._library.nft_ctx_buffer_error(context)
            self._context = int(context)
        return self._context


class Program:
    """``nft -f -``, one child a script."""

    name = "nft"

    def __init__(self, path: str) -> None:
        self._path = path

    def run(self, script: str) -> str:
        """Run *script*; see `Nft.run`."""
        try:
            done = subprocess.run(
                [self._path, "-f", "-"], input=script, capture_output=True, text=True, timeout=30, check=False
            )
        except subprocess.TimeoutExpired as error:
            raise Unavailable(f"{self._path} did not end within 30 seconds: another program holds nftables") from error
        except OSError as error:
            raise NftError(f"run {self._path}: {error}") from error
        if done.returncode:
            raise NftError(f"nftables: {_first(done.stderr)}")
        return done.stdout

    def close(self) -> None:
        """Nothing is held."""


def find() -> tuple[Nft | None, str]:
    """What runs nft scripts here, or None and the reason in words for people."""
    reason = ""
    nft: Nft | None = None
    try:
        nft = Library()
    except OSError:
        path = shutil.which("nft")
        nft = Program(path) if path else None
    if nft is None:
        return None, "libnftables1 is not installed, and no nft program"
    try:
        nft.run(_PROBE)
    except (NftError, Unavailable) as error:
        reason = f"nf_tables does not work here ({error})"
        nft.close()
        return None, reason
    return nft, ""


def _first(said: str) -> str:
    """The first of nft's complaints, without the script it quotes; the others mostly follow from it."""
    complaints = [line.removeprefix("Error: ") for line in said.splitlines() if line.startswith("Error: ")]
    if not complaints:
        return said.strip() or "refused without a word"
    more = f" (and {len(complaints) - 1} more)" if len(complaints) > 1 else ""
    return complaints[0] + more
