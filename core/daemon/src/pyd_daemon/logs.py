"""The daemon's own log: lines on standard error, one event a line, whatever a message holds.

Messages carry names that clients chose. A line break or an escape sequence in one must not forge a line or reach the
terminal of who reads the log, so control characters are escaped in both formats.
"""

from __future__ import annotations

import json
import logging
import re
import sys
import time
import traceback
from typing import Any, TextIO

__all__ = ["escaped", "set_level", "set_up"]

_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029]")
_OURS = ("pyd", "pyd_daemon", "pyd_engine", "pyd_shim")
_KNOWN = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}


def escaped(text: str) -> str:
    r"""The text without control characters.

    >>> escaped("a\nb\x1b[0m")
    'a\\x0ab\\x1b[0m'
    """
    text = _CONTROL.sub(lambda found: f"\\x{ord(found[0]):02x}", text)
    return text.encode("utf-8", "backslashreplace").decode()


def _time(record: logging.LogRecord) -> str:
    whole = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
    return f"{whole}.{int(record.msecs):03d}Z"


def _trace(record: logging.LogRecord) -> str:
    if not record.exc_info or record.exc_info[1] is None:
        return ""
    return "".join(traceback.format_exception(record.exc_info[1]))


class _Text(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        line = f"{_time(record)} {record.levelname.lower()} {record.name}: {escaped(record.getMessage())}"
        extra = {key: value for key, value in vars(record).items() if key not in _KNOWN}
        line += "".join(f" {key}={escaped(str(value))}" for key, value in extra.items())
        # A traceback is many lines by nature; indented, none of them can be taken for an event.
        return line + "".join(f"\n    {escaped(each)}" for each in _trace(record).splitlines())


class _Json(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        entry: dict[str, Any] = {
            "time": _time(record),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": escaped(record.getMessage()),
        }
        entry |= {key: value for key, value in vars(record).items() if key not in _KNOWN}
        if trace := _trace(record):
            entry["traceback"] = trace
        return json.dumps(entry, default=str)


def set_up(level: str, shape: str, stream: TextIO | None = None) -> logging.Logger:
    """Log *level* and above to *stream* (standard error) as ``text`` or ``json``; return the daemon's logger."""
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(_Json() if shape == "json" else _Text())
    root = logging.getLogger()
    for old in list(root.handlers):
        root.removeHandler(old)
    root.addHandler(handler)
    logging.captureWarnings(True)
    set_level(level)
    return logging.getLogger("pyd")


def set_level(level: str) -> None:
    """Change what is logged. Other libraries' debug lines are never wanted: they may hold headers."""
    logging.getLogger().setLevel(max(logging.INFO, getattr(logging, level.upper())))
    for ours in _OURS:
        logging.getLogger(ours).setLevel(level.upper())
