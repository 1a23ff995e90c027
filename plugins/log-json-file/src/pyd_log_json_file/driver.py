"""The json-file driver: Docker's format, in Docker's place, for whoever reads it there.

`docker logs` does not: it reads the engine's spool. The files are for people and for programs that follow them (Fluent Bit,
Promtail, …).
"""

from __future__ import annotations

import contextlib
import re
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path

from pyd_contracts.errors import FailedPrecondition, InvalidArgument, PydError, from_oserror
from pyd_contracts.log_details import DETAILS, FAILED, attributes, boolean, check_details, check_known, size_of, tag
from pyd_contracts.markers import hookimpl
from pyd_contracts.values import LogRecord, LogSource
from pyd_log_json_file.encoding import Encoder
from pyd_log_json_file.files import Files, named

__all__ = ["JsonFileDriver"]

_KNOWN = DETAILS | {"max-size", "max-file", "compress"}


class JsonFileDriver:
    """One file a container. *bound* bytes is how much is kept of one that does not say; 0: everything."""

    capabilities = frozenset({"files"})

    def __init__(self, bound: int = 512 << 20) -> None:
        self._bound = bound
        self._open: dict[str, tuple[Files, Encoder]] = {}
        self._lock = threading.Lock()

    @hookimpl
    def log_validate(self, options: Mapping[str, str]) -> None:
        """See the contract; the texts are dockerd's."""
        check_known("json-file", options, _KNOWN)
        check_details(options)
        _files(options, self._bound)

    @hookimpl
    def log_open(self, source: LogSource) -> None:
        """See the contract."""
        self.log_end(source.container)
        attrs = attributes(source)
        if source.options.get("tag"):
            attrs["tag"] = tag(source)
        files = Files(named(source.place, source.container), *_files(source.options, self._bound))
        with self._lock:
            self._open[source.container] = files, Encoder(attrs)

    @hookimpl
    def log_write(self, container: str, records: Sequence[LogRecord]) -> int:
        """See the contract."""
        with self._lock:
            found = self._open.get(container)
        if found is None:
            raise FailedPrecondition(f"write the log of {container[:12]}: it is not open")
        files, encoder = found
        done = 0
        try:
            # Together, as long as it is no more than a write(2) takes at once: a frame of a busy container is 64 KiB.
            for first in range(0, len(records), 16):
                some = records[first : first + 16]
                files.append(b"".join([encoder.encode(record) for record in some]))
                done += len(some)
        except PydError:
            if not done:
                raise
        return done

    @hookimpl
    def log_end(self, container: str) -> None:
        """See the contract."""
        with self._lock:
            found = self._open.pop(container, None)
        if found is not None:
            found[0].close()

    @hookimpl
    def log_remove(self, source: LogSource) -> None:
        """See the contract."""
        self.log_end(source.container)
        path = named(source.place, source.container)
        pattern = re.compile(re.escape(path.name) + r"(\.[0-9]+(\.gz|\.new)?)?")
        try:
            for each in list(source.place.iterdir()):
                if pattern.fullmatch(each.name):
                    each.unlink(missing_ok=True)
        except FileNotFoundError:
            return
        except OSError as error:
            raise from_oserror(error, f"remove the log of {source.name}") from error

    @hookimpl
    def log_path(self, source: LogSource) -> Path:
        """See the contract."""
        return named(source.place, source.container)

    @hookimpl
    def log_close(self) -> None:
        """See the contract."""
        for container in list(self._open):
            with contextlib.suppress(PydError):
                self.log_end(container)


def _files(options: Mapping[str, str], bound: int) -> tuple[int, int, bool]:
    """max-size in bytes, max-file, compress. Raises InvalidArgument."""
    size, count = bound // 2, 2
    if "max-size" in options:
        try:
            size = size_of(options["max-size"])
        except ValueError as error:
            raise InvalidArgument(f"{FAILED}: {error}") from error
        count = 1
        if size <= 0:
            size, count = bound // 2, 2
    if "max-file" in options:
        text = options["max-file"]
        if not re.fullmatch(r"[+-]?[0-9]{1,18}", text):
            raise InvalidArgument(f'{FAILED}: strconv.Atoi: parsing "{text}": invalid syntax')
        if int(text) < 1:
            raise InvalidArgument(f"{FAILED}: max-file cannot be less than 1")
        if "max-size" in options:
            count = int(text)
    compress = boolean(options, "compress", doing=f"{FAILED}: ")
    if compress and (count == 1 or "max-size" not in options):
        raise InvalidArgument(
            f"{FAILED}: compress cannot be true when max-file is less than 2 or max-size is not set"
        )  # fmt: skip
    return size, count, compress
