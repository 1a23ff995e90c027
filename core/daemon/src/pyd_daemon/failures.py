"""The one place that knows how an error of ours is said in HTTP.

Statuses follow moby's `httpstatus.FromError`, except `FailedPrecondition`: Docker's own handlers answer 409 where a
container is in the wrong state, so that is the default here; a route that differs says so in its table row. A disk that
is full stays 500, as in Docker, with the sentence that says so.

A stranger (anything that is not a `PydError`) is a bug: the client gets 500 and a number, the log gets the traceback
under that number. Tracebacks, paths and values never leave through the API.
"""

from __future__ import annotations

import logging
import secrets
from collections.abc import Mapping

from pyd_contracts.errors import (
    AlreadyExists,
    Conflict,
    Declined,
    DriverFault,
    FailedPrecondition,
    InvalidArgument,
    NotFound,
    NotModified,
    PermissionDenied,
    PydError,
    ResourceExhausted,
    Unauthorized,
    Unavailable,
    Unsupported,
)

__all__ = ["STATUSES", "BodyTooLarge", "MethodNotAllowed", "PageNotFound", "Statuses", "describe", "status_of"]

log = logging.getLogger(__name__)

Statuses = Mapping[type[PydError], int]


class PageNotFound(NotFound):
    """No route has this path."""


class MethodNotAllowed(InvalidArgument):
    """The path exists, with other methods."""

    def __init__(self, method: str, path: str, allowed: tuple[str, ...]) -> None:
        super().__init__(f"method {method} is not allowed for {path}: use {' or '.join(allowed)}")
        self.allowed = allowed


class BodyTooLarge(InvalidArgument):
    """The body is longer than this endpoint reads."""


STATUSES: Statuses = {
    InvalidArgument: 400,
    Unauthorized: 401,
    PermissionDenied: 403,
    NotFound: 404,
    AlreadyExists: 409,
    Conflict: 409,
    FailedPrecondition: 409,
    NotModified: 304,
    Unsupported: 501,
    ResourceExhausted: 500,
    Unavailable: 503,
    Declined: 503,
    DriverFault: 500,
    MethodNotAllowed: 405,
    BodyTooLarge: 413,
}


def status_of(error: PydError, overrides: Statuses | None = None) -> int:
    """The HTTP status of *error*: the nearest of its classes in *overrides*, else in the table; 500 if in neither."""
    for table in (overrides, STATUSES) if overrides else (STATUSES,):
        for kind in type(error).__mro__:
            status = table.get(kind)
            if status is not None:
                return status
    return 500


def describe(error: BaseException, doing: str, overrides: Statuses | None = None) -> tuple[int, str]:
    """Status and message for the client; logs what the client may not see.

    *doing* names the request in the log (``"POST /containers/x/start"``).
    """
    if isinstance(error, PydError):
        status = status_of(error, overrides)
        if status == 500:
            log.error("%s: %s", doing, error, exc_info=error if isinstance(error, DriverFault) else None)
        else:
            log.debug("%s: %s: %s", doing, error.kind, error)
        return status, error.message or error.kind
    number = secrets.token_hex(4)
    log.error("%s: internal error %s", doing, number, exc_info=error)
    return 500, f"internal error {number}: the daemon's log has the details under this number"
