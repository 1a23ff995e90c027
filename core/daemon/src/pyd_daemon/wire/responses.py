"""Small bodies that the HTTP face builds itself. What Go clients expect as a list is ``[]``, never ``null``."""

from __future__ import annotations

import msgspec

__all__ = ["AuthResult", "ContainerCreated", "Failure", "IdResponse", "NetworkCreated", "WaitError", "WaitResult"]


class Failure(msgspec.Struct, frozen=True):
    """Every error body."""

    message: str


class ContainerCreated(msgspec.Struct, rename="pascal", frozen=True):
    """``POST /containers/create``."""

    id: str
    warnings: list[str]


class IdResponse(msgspec.Struct, rename="pascal", frozen=True):
    """``POST /containers/{id}/exec``."""

    id: str


class NetworkCreated(msgspec.Struct, rename="pascal", frozen=True):
    """``POST /networks/create``; `warning` is a string, empty if there is none."""

    id: str
    warning: str


class AuthResult(msgspec.Struct, rename="pascal", frozen=True):
    """``POST /auth``."""

    status: str
    identity_token: str


class WaitError(msgspec.Struct, rename="pascal", frozen=True):
    """Why waiting failed."""

    message: str


class WaitResult(msgspec.Struct, rename="pascal", frozen=True, omit_defaults=True):
    """``POST /containers/{id}/wait``; the status is always there, the error only if there is one."""

    status_code: int
    error: WaitError | None = None
