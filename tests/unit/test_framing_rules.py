"""Requests that a server must refuse by their head."""

from __future__ import annotations

from typing import Any

import pytest

from serving.errors import ServingError
from serving.framing import check_framing

HEAD = {"REQUEST_METHOD": "POST", "SERVER_PROTOCOL": "HTTP/1.1", "HTTP_HOST": "a"}


@pytest.mark.parametrize(
    ("changed", "status"),
    [
        ({"REQUEST_METHOD": "CONNECT"}, 405),
        ({"HTTP_HOST": None}, 400),
        ({"HTTP_TRANSFER_ENCODING": "gzip, chunked"}, 501),
        ({"HTTP_TRANSFER_ENCODING": ""}, 501),
    ],
)
def test_a_head_that_means_no_one_thing_is_refused(changed: dict[str, Any], status: int) -> None:
    check_framing({**HEAD, "HTTP_TRANSFER_ENCODING": " Chunked"})
    check_framing({"REQUEST_METHOD": "POST", "SERVER_PROTOCOL": "HTTP/1.0"})

    with pytest.raises(ServingError) as refused:
        check_framing({name: value for name, value in {**HEAD, **changed}.items() if value is not None})

    assert refused.value.status == status
