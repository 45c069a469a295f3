"""What SageMaker's runtime answers when it refuses: the error's name in a header, its fields as JSON."""

from __future__ import annotations

from serving.errors import ServingError

LONGEST = 2048  # bytes of a Message or an OriginalMessage


class RuntimeApiError(ServingError):
    """A refusal in the shape that boto3, the SageMaker SDK and the AWS CLI read."""

    error_type = "InternalFailure"

    def fields(self) -> dict[str, str | int]:
        return {"Message": shorten(self.message)}


class ValidationError(RuntimeApiError):
    """The request breaks a rule of InvokeEndpoint; no container was called."""

    status, code, error_type = 400, "validation_error", "ValidationError"


class RequestTooLarge(ValidationError):
    status, code = 413, "payload_too_large"


class ModelError(RuntimeApiError):
    """A container refused, failed or did not answer. `original_status` is 0 when it gave no status."""

    status, code, error_type = 424, "model_error", "ModelError"

    def __init__(self, message: str, *, original_status: int, original: str, log_stream: str) -> None:
        super().__init__(message)
        self.original_status = original_status
        self.original = original
        self.log_stream = log_stream

    def fields(self) -> dict[str, str | int]:
        client = 400 <= self.original_status < 500
        return {
            "ErrorCode": "CLIENT_ERROR_FROM_MODEL" if client else "SERVER_ERROR_FROM_MODEL",
            **super().fields(),
            "OriginalStatusCode": self.original_status,
            "OriginalMessage": shorten(self.original),
            "LogStreamArn": self.log_stream,
        }


def shorten(text: str, room: int = LONGEST) -> str:
    """At most `room` bytes of `text`, never half a character."""
    raw = text.encode("utf-8", "replace")
    return text if len(raw) <= room else raw[: room - 3].decode("utf-8", "ignore") + "..."
