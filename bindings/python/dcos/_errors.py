"""What can go wrong. Every error of this package is a `DcosError`."""

from __future__ import annotations


class DcosError(Exception):
    """The base of all errors of this package."""


class UnreachableError(DcosError, ConnectionError):
    """Nobody answered at the address."""


class DefinitionError(DcosError, ValueError):
    """A definition says not even what it defines."""


class ApiError(DcosError):
    """The other side refused a request.

    `status` is the HTTP status code, `message` what it said.
    """

    def __init__(self, status: int, message: str) -> None:
        super().__init__(f"{message} (status {status})" if message else f"status {status}")
        self.status = status
        self.message = message


class NotFoundError(ApiError, LookupError):
    """What was asked for is not there."""


class RefusedError(DcosError):
    """The master wants nothing of this framework."""


class DeploymentError(DcosError, TimeoutError):
    """A deployment did not end in time; the message says what it waits for."""


class RunTimeoutError(DcosError, TimeoutError):
    """A run of a job did not end in time; the message says how it stands."""
