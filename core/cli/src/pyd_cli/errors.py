"""The faults a command can end with, each with the text for stderr and the exit status.

Scripts depend on both: 125 says "the engine refused", 126/127 say "the command could not be executed / was not found",
everything else of a `run` is the container's own status.
"""

from __future__ import annotations


class CliError(Exception):
    """A fault that ends the command: `str()` is printed on stderr, `code` is the exit status."""

    def __init__(self, message: str, code: int = 1) -> None:
        super().__init__(message)
        self.code = code


class UsageError(CliError):
    """A flag the command does not know, or whose value makes no sense. The usage line is printed with it."""

    def __init__(self, message: str) -> None:
        super().__init__(message, 125)


class ApiError(CliError):
    """The daemon answered with a status >= 400. `status` is that status, `detail` the daemon's own words."""

    def __init__(self, status: int, detail: str) -> None:
        super().__init__(f"Error response from daemon: {detail}")
        self.status = status
        self.detail = detail


class Unreachable(CliError):
    """Nobody answers at the endpoint, or the connection broke before a response came."""


class Detached(Exception):
    """The user typed the detach keys: the container runs on, the command ends with 0."""
