"""How large an answer may be: what SageMaker would not pass on is refused here, with advice. A limit of 0 is none."""

from __future__ import annotations

from serving.errors import PayloadTooLarge

SHORTEST_NUMBER = 4  # bytes, in every format: a float32, or 0.0 and what follows it


def check_answer(size: int, most: int) -> None:
    """Raises `PayloadTooLarge` (413) for an answer of more than `most` bytes."""
    if 0 < most < size:
        raise _too_large(most, str(size))


def check_numbers(numbers: int, most: int) -> None:
    """The same before anything is computed, for an answer of as many numbers. One that passes may still be larger."""
    if 0 < most < (least := numbers * SHORTEST_NUMBER):
        raise _too_large(most, f"at least {least}")


def _too_large(most: int, got: str) -> PayloadTooLarge:
    message = f"expected an answer of at most {most} bytes, got {got}: send fewer rows in a request"
    return PayloadTooLarge(message, code="response_too_large")
