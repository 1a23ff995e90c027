"""The one family of errors that may cross a contract. Each class tells the caller what to do next.

PydError
├── InvalidArgument      change the request
├── Unauthorized         say who you are (registry credentials)
├── PermissionDenied     not allowed, whoever asks
├── NotFound             no such thing
├── AlreadyExists        the name is taken
├── Conflict             something else uses it; change that first
├── FailedPrecondition   the state does not allow it; change the state first
├── NotModified          it already is so
├── Unsupported          not in this driver, or not in this kernel
├── ResourceExhausted    disk, memory, addresses, descriptors: free some
├── Unavailable          later, or elsewhere
├── Declined             a driver cannot work on this host (only while it is being made)
└── DriverFault          our bug or the kernel's

Messages say what was tried, on what, why not, and what helps. `OSError` never crosses a contract: drivers translate it
where the system call is made, with `from_oserror`. Transport codes (HTTP) are known in the daemon only.
"""

from __future__ import annotations

import errno
import os
from typing import ClassVar

__all__ = [
    "AlreadyExists",
    "Conflict",
    "Declined",
    "DriverFault",
    "FailedPrecondition",
    "InvalidArgument",
    "NotFound",
    "NotModified",
    "PermissionDenied",
    "PydError",
    "ResourceExhausted",
    "Unauthorized",
    "Unavailable",
    "Unsupported",
    "from_oserror",
]


class PydError(Exception):
    """Base of every error that may cross a contract."""

    kind: ClassVar[str] = "unknown"

    @property
    def message(self) -> str:
        """The sentence for people."""
        return str(self)


class InvalidArgument(PydError):
    """The request can never work: change it."""

    kind = "invalid-argument"


class Unauthorized(PydError):
    """Credentials are missing or wrong."""

    kind = "unauthorized"


class PermissionDenied(PydError):
    """Not allowed."""

    kind = "permission-denied"


class NotFound(PydError):
    """No such thing."""

    kind = "not-found"


class AlreadyExists(PydError):
    """The name or key is taken."""

    kind = "already-exists"


class Conflict(PydError):
    """Something else uses the thing: change that first."""

    kind = "conflict"


class FailedPrecondition(PydError):
    """The state does not allow it: change the state first."""

    kind = "failed-precondition"


class NotModified(PydError):
    """It already is as asked."""

    kind = "not-modified"


class Unsupported(PydError):
    """This driver or this kernel cannot do it."""

    kind = "unsupported"


class ResourceExhausted(PydError):
    """Disk, memory, addresses or descriptors ran out: free some and repeat."""

    kind = "resource-exhausted"


class Unavailable(PydError):
    """Not now or not here: repeat later."""

    kind = "unavailable"


class Declined(PydError):
    """A driver cannot work on this host; raised only while it is being made."""

    kind = "declined"


class DriverFault(PydError):
    """A bug of ours or of the kernel's."""

    kind = "internal"


_BY_ERRNO: dict[int, type[PydError]] = {
    errno.ENOENT: NotFound,
    errno.ESRCH: NotFound,
    errno.EEXIST: AlreadyExists,
    errno.EBUSY: Conflict,
    errno.ENOTEMPTY: Conflict,
    errno.EADDRINUSE: Conflict,
    errno.EACCES: PermissionDenied,
    errno.EPERM: PermissionDenied,
    errno.EROFS: PermissionDenied,
    errno.EINVAL: InvalidArgument,
    errno.ENAMETOOLONG: InvalidArgument,
    errno.ELOOP: InvalidArgument,
    errno.ENOTDIR: InvalidArgument,
    errno.EISDIR: InvalidArgument,
    errno.EOPNOTSUPP: Unsupported,
    errno.ENOSYS: Unsupported,
    errno.ENODEV: Unsupported,
    errno.EDQUOT: ResourceExhausted,
    errno.ENOSPC: ResourceExhausted,
    errno.EMFILE: ResourceExhausted,
    errno.ENFILE: ResourceExhausted,
    errno.ENOMEM: ResourceExhausted,
    errno.EAGAIN: Unavailable,
    errno.ETIMEDOUT: Unavailable,
}


def from_oserror(error: OSError, doing: str) -> PydError:
    """Say in contract terms what the kernel said in errno terms; raise the result `from error`.

    *doing* is a phrase without a final stop: ``"mount overlay at /x"``.
    """
    number = error.errno or 0
    reason = os.strerror(number).lower() if number else str(error)
    where = f" ({os.fsdecode(error.filename)})" if error.filename and os.fsdecode(error.filename) not in doing else ""
    return _BY_ERRNO.get(number, DriverFault)(f"{doing}: {reason}{where}")
