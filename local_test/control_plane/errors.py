"""What the AWS APIs refuse, in their words."""

from __future__ import annotations


class ApiError(Exception):
    """A refusal of an AWS API: its code, the HTTP status, and a message as AWS words it."""

    def __init__(self, message: str, code: str = "ValidationException", status: int = 400) -> None:
        super().__init__(message)
        self.message = message
        self.code = code
        self.status = status


class NotFound(ApiError):
    """A resource that is not there where the API says so with a code of its own."""

    def __init__(self, message: str) -> None:
        super().__init__(message, "ResourceNotFound")


class InUse(ApiError):
    """A name that is taken, or a resource that another one needs."""

    def __init__(self, message: str) -> None:
        super().__init__(message, "ResourceInUse")


class LimitExceeded(ApiError):
    """More than this machine, standing in for an account, can host."""

    def __init__(self, message: str) -> None:
        super().__init__(message, "ResourceLimitExceeded")
