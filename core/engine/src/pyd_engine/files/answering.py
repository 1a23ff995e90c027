"""How a process that works on files takes its one request and answers it."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from typing import Any

from pyd_engine.files.paths import Refused, prepare
from pyd_engine.layers.streams import StreamError, preload
from pyd_engine.layers.tar import TarError
from pyd_shim import kernel

__all__ = ["say", "serve"]


def serve(operations: Mapping[str, Callable[[dict[str, Any]], None]]) -> None:
    """Read the request, work, answer, and end."""
    os.umask(0)
    kernel.prctl(1, 9)  # PR_SET_PDEATHSIG: with the daemon
    kernel.prctl(kernel.PR_SET_NO_NEW_PRIVS, 1)
    request: dict[str, Any] = json.loads(_line())
    prepare()
    preload()
    try:
        operations[request["op"]](request)
    except Refused as error:
        say({"failed": error.kind, "message": str(error)})
    except (TarError, StreamError) as error:
        say({"failed": "invalid-argument", "message": str(error)})
    except BrokenPipeError:
        pass  # nobody wants the rest
    except OSError as error:
        say({"failed": "system", "message": (error.strerror or str(error)).lower(), "errno": error.errno or 0})
    os._exit(0)


def say(answer: dict[str, object]) -> None:
    """One line of JSON."""
    data = json.dumps(answer).encode("ascii") + b"\n"
    while data:
        data = data[os.write(1, data) :]


def _line() -> bytes:
    """The first line of standard input, no byte more: an archive may follow."""
    line = bytearray()
    while not line.endswith(b"\n"):
        byte = os.read(0, 1)
        if not byte:
            os._exit(1)
        line += byte
    return bytes(line)
