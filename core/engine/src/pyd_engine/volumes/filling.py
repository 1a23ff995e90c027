"""Asking the worker to fill empty volumes (`pyd_engine.volumes.worker`)."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import pyd_engine
import pyd_shim
from pyd_contracts.errors import DriverFault, Unavailable
from pyd_contracts.values import Mount

__all__ = ["fill"]

_BOOT = "import sys; sys.path[:0] = {path}; from pyd_engine.volumes.worker import main; main()"


def fill(mounts: Sequence[Mount], copies: Sequence[tuple[str, Path]], run: Path) -> list[str]:
    """Mount a root file system and copy directories of it into volumes; one of the worker's words for each copy.

    *run* is a directory for an empty one to mount on. Raises DriverFault, or Unavailable when the worker was killed.
    """
    path = list(dict.fromkeys(str(Path(str(module.__file__)).parent.parent) for module in (pyd_engine, pyd_shim)))
    with tempfile.TemporaryDirectory(dir=run, prefix="filling-") as target:
        request = {
            "mounts": [[each.type, each.source, each.options] for each in mounts],
            "target": target,
            "copies": [[place, str(volume)] for place, volume in copies],
        }
        ended = subprocess.run(
            [sys.executable, "-I", "-S", "-B", "-c", _BOOT.format(path=path)],
            input=json.dumps(request).encode() + b"\n",
            capture_output=True, env={"LC_ALL": "C.UTF-8"}, cwd="/", start_new_session=True, check=False,
        )  # fmt: skip
    if ended.returncode < 0:
        raise Unavailable(f"fill volumes from the image: the worker was killed by signal {-ended.returncode}")
    if ended.returncode:
        said = ended.stderr[-2000:].decode(errors="replace").strip()
        raise DriverFault(f"fill volumes from the image: the worker ended with status {ended.returncode}: {said}")
    answer = json.loads(ended.stdout)
    if "failed" in answer:
        raise DriverFault(f"fill volumes from the image: {answer['failed']}")
    words: list[str] = answer["done"]
    return words
