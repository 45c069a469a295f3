"""What a caller can get wrong. Each error carries the status and the code that the caller is answered with."""

from __future__ import annotations

import errno
from http import HTTPStatus

SHOWN = 64  # characters of a caller's value that an error repeats
_RENAMED = {413: "payload_too_large", 414: "uri_too_long"}


class ServingError(Exception):
    """A refusal. `row` counts data rows from 1; `column` is a column's name."""

    status = 500
    code = "internal_error"

    def __init__(self, message: str, *, code: str = "", row: int | None = None, column: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.code = code or self.code
        self.row = row
        self.column = column

    def as_dict(self) -> dict[str, str | int]:
        where = {"row": self.row, "column": None if self.column is None else cut(self.column)}
        return {"code": self.code, "message": self.message} | {k: v for k, v in where.items() if v is not None}


class BadPayload(ServingError):
    status, code = 400, "bad_payload"


class NotAcceptable(ServingError):
    status, code = 406, "not_acceptable"


class ContractMismatch(ServingError):
    """The features were made by another training run than the model was."""

    status, code = 409, "contract_mismatch"


class PayloadTooLarge(ServingError):
    status, code = 413, "payload_too_large"


class UnsupportedMediaType(ServingError):
    status, code = 415, "unsupported_media_type"


class BadArtifact(Exception):
    """A model directory that must not be served: a file is missing, damaged or of another run."""


def full_disk(error: OSError) -> str:
    """What to say of a full disk; empty for another error."""
    if error.errno not in (errno.ENOSPC, errno.EDQUOT):
        return ""
    written = error.filename2 or error.filename  # of a copy, where it goes
    where = f" for {written}" if written else ""
    return f"no space is left on the disk{where}: free some, or put the output, or TMPDIR, on another one"


def code_of(status: int) -> str:
    """The code of a refusal that has no other. Python's names of two statuses changed with its versions."""
    return _RENAMED.get(status) or HTTPStatus(status).name.lower()


def cut(value: object, most: int = SHOWN) -> str:
    """A caller's value, short enough to repeat in an error."""
    text = str(value)
    return text if len(text) <= most else text[: most - 1] + "…"
