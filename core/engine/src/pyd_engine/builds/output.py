"""What a build tells its client: the lines of dockerd's builder, as records."""

from __future__ import annotations

import codecs
from collections import deque
from collections.abc import Awaitable, Callable

from pyd_engine.builds.request import BuildFailure, Say
from pyd_engine.images.progress import short_id

__all__ = ["Output", "Streams"]

_MOST_UNTOLD = 10_000


class Output:
    """*quiet*: nothing but the image; when something goes wrong, all the same what was told until then.

    *room* waits until the client has read most of what it was told.
    """

    def __init__(self, say: Say, room: Callable[[], Awaitable[None]], *, quiet: bool) -> None:
        self._say = say
        self._quiet = quiet
        self._untold: deque[dict[str, object]] = deque(maxlen=_MOST_UNTOLD)
        self.room = room
        self.begun = False
        """Something was told: what goes wrong from now on is a record, no status."""

    def line(self, text: str) -> None:
        """One line."""
        self.piece(f"{text}\n")

    def piece(self, text: str) -> None:
        """Text as it comes."""
        self.record({"stream": text})

    def record(self, record: dict[str, object]) -> None:
        """Anything else: progress of a download."""
        self.begun = True
        if self._quiet:
            self._untold.append(record)
        else:
            self._say(record)

    def step(self, number: int, total: int, text: str) -> None:
        """A step begins."""
        self.piece(f"Step {number}/{total} : {text}")
        self.piece("\n")

    def image(self, image: str) -> None:
        """What it gave; empty: nothing."""
        self.line(f" ---> {short_id(image)}")

    def running(self, container: str) -> None:
        """Where it is done."""
        self.line(f" ---> Running in {container[:12]}")

    def removing(self, container: str) -> None:
        """That is gone."""
        self.line(f"Removing intermediate container {container[:12]}")

    def result(self, image: str) -> None:
        """For programs."""
        self.record({"aux": {"ID": image}})

    def finished(self, image: str) -> None:
        """What `quiet` leaves."""
        if self._quiet:
            self.begun = True
            self._say({"stream": f"{image}\n"})
        else:
            self.line(f"Successfully built {short_id(image)}")

    def failed(self, error: Exception) -> None:
        """The last record."""
        for record in self._untold:
            self._say(record)
        detail: dict[str, object] = {"message": str(error)}
        if isinstance(error, BuildFailure):
            detail = {"code": error.code, **detail}
        self._say({"errorDetail": detail, "error": str(error)})


class Streams:
    """A program's output into records: standard error in another colour, characters whole."""

    def __init__(self, output: Output) -> None:
        self._output = output
        decoder = codecs.getincrementaldecoder("utf-8")
        self._decoders = {1: decoder("replace"), 2: decoder("replace")}

    def take(self, stream: int, data: bytes, *, final: bool = False) -> None:
        """Some of it; *stream* is 1 or 2."""
        text = self._decoders[stream].decode(data, final)
        if text:
            self._output.piece(text if stream == 1 else f"\x1b[91m{text}\x1b[0m")

    def end(self) -> None:
        """There is no more."""
        for stream in self._decoders:
            self.take(stream, b"", final=True)
