"""Names of images, as far as their form goes; whose images they are is the engine's business."""

from __future__ import annotations

import re

from pyd_frontend_dockerfile.mistakes import Mistake
from pyd_frontend_dockerfile.quoting import quoted

__all__ = ["read_reference"]

_PART = r"[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*"
_HOST = r"(?:[A-Za-z0-9](?:[A-Za-z0-9.-]*[A-Za-z0-9])?|\[[0-9A-Fa-f:.]+\])(?::[0-9]+)?"
_NAME = re.compile(
    rf"(?:{_HOST}/)?{_PART}(?:/{_PART})*(?::[A-Za-z0-9_][A-Za-z0-9_.-]{{0,127}})?(?:@[A-Za-z][A-Za-z0-9+._-]*:[0-9a-fA-F]{{32,}})?"
)


def read_reference(text: str, what: str = "") -> str:
    """*text*, which looks like the name of an image; *what* it is for begins the message otherwise."""
    if len(text) > 1024 or not _NAME.fullmatch(text):
        fitting = len(text) <= 1024 and _NAME.fullmatch(text.lower())
        reason = "invalid reference format" + (": repository name must be lowercase" if fitting else "")
        raise Mistake(f"{what}{reason}: {quoted(text[:200])}")
    return text
