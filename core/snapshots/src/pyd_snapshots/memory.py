"""What a driver found out about this kernel by trying, kept in its run directory, which a reboot empties."""

from __future__ import annotations

import contextlib
import json
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

__all__ = ["remembered"]


def remembered(place: Path, question: dict[str, Any], find: Callable[[], Any]) -> Any:
    """The answer to *question* in the file *place*, or what *find* says, which is written there. Both are JSON values.

    The question holds all that the answer depends on (a path, its device, the kernel's release, options): a file with
    another question is as good as none, and so is one that cannot be read. What *find* raises is not remembered. OSError.
    """
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
        known = json.loads(place.read_text(encoding="ascii"))
        if known["asked"] == question:
            return known["answer"]
    answer = find()
    draft = place.with_name(f".{place.name}.{os.getpid()}.{threading.get_ident()}")
    draft.write_text(json.dumps({"asked": question, "answer": answer}), encoding="ascii")
    draft.rename(place)
    return answer
