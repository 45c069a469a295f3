"""When garbage is looked for, and that a refusal or a crash leaves it looked for again."""

from __future__ import annotations

import gc
from collections.abc import Iterator

import pytest

from serving.app import create_app
from serving.errors import BadPayload
from serving.garbage import LARGE, left_alone
from serving.payload import Payload


def stage(payload: Payload) -> Payload:
    if payload.content_type == "text/refused":
        raise BadPayload("expected another, got this")
    if payload.content_type == "text/crash":
        raise RuntimeError
    return Payload(b"looked for" if gc.isenabled() else b"left alone", "text/plain")


@pytest.fixture(autouse=True)
def on_again() -> Iterator[None]:
    yield
    gc.enable()


@pytest.mark.parametrize(
    ("size", "kind", "status", "said"),
    [
        (LARGE - 1, "text/csv", 200, b"looked for"),
        (LARGE, "text/csv", 200, b"left alone"),
        (LARGE, "text/refused", 400, b""),
        (LARGE, "text/crash", 500, b""),
    ],
)
def test_garbage_is_left_alone_while_a_large_body_is_answered(size: int, kind: str, status: int, said: bytes) -> None:
    response = create_app(stage).test_client().post("/invocations", data=b"x" * size, content_type=kind)

    assert (response.status_code, gc.isenabled()) == (status, True)
    assert said in response.data


def test_who_has_turned_the_search_off_keeps_it_off() -> None:
    gc.disable()

    with left_alone():
        pass

    assert not gc.isenabled()
