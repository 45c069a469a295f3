"""The router's settings, and what it says of an error."""

from __future__ import annotations

from pathlib import Path

import pytest

from local_test.config import RouterConfig
from local_test.errors import ModelError, shorten
from serving.settings import BadSetting


def test_without_a_setting_the_router_is_abalone_on_the_ports_of_the_chain():
    endpoint = RouterConfig.from_env({}).endpoint()

    assert (endpoint.name, endpoint.limits.seconds) == ("abalone", 60)
    assert (endpoint.variant, endpoint.limits.request, endpoint.limits.between) == ("AllTraffic", 6_291_456, 5_000_000)
    assert [(c.name, c.host, c.port) for c in endpoint.containers] == [
        ("featurizer", "127.0.0.1", 8081),
        ("predictor", "127.0.0.1", 8082),
    ]


def test_containers_are_called_in_the_order_they_are_listed():
    config = RouterConfig.from_env({"CONTAINERS": "b=http://one:81, a=http://two,c=http://[::1]:83/"})

    assert config.containers == (("b", "one", 81), ("a", "two", 80), ("c", "::1", 83))


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("ENDPOINT_NAME", "under_score"),
        ("ENDPOINT_NAME", "-a"),
        ("ENDPOINT_NAME", "a-"),
        ("ENDPOINT_NAME", "a" * 64),
        ("CONTAINERS", "http://127.0.0.1:8081"),
        ("CONTAINERS", "a=https://127.0.0.1:8081"),
        ("CONTAINERS", "a=http://127.0.0.1:8081/path"),
        ("CONTAINERS", "a=http://127.0.0.1:port"),
        ("CONTAINERS", "a=http://127.0.0.1:65536"),
        ("CONTAINERS", "a=http://one,a=http://two"),
        ("CONTAINERS", "a=http://one,"),
        ("CONTAINERS", ",".join(f"c{n}=http://one" for n in range(16))),
        ("INVOCATION_TIMEOUT", "0"),
        ("INVOCATION_TIMEOUT", "-1"),
        ("INVOCATION_TIMEOUT", "nan"),
        ("INVOCATION_TIMEOUT", "10000"),
        ("PAGE_REQUESTS", "10000"),
        ("PAGE_REQUESTS", "-1"),
    ],
)
def test_a_wrong_setting_is_refused_by_the_name_of_its_variable(variable, value):
    with pytest.raises(BadSetting, match=f"^{variable}: expected"):
        RouterConfig.from_env({variable: value})


@pytest.mark.parametrize(
    ("text", "expected"),
    [("short", "short"), ("x" * 12, "xxxxxxx..."), ("ü" * 6, "üüü..."), ("\ud800" * 12, "???????...")],
)
def test_a_shortened_text_never_ends_in_half_a_character(text, expected):
    assert shorten(text, 10) == expected


@pytest.mark.parametrize(
    ("status", "code"),
    [(0, "SERVER"), (200, "SERVER"), (302, "SERVER"), (400, "CLIENT"), (499, "CLIENT"), (500, "SERVER")],
)
def test_only_a_4xx_is_the_clients_error(status, code):
    error = ModelError("message", original_status=status, original="", log_stream="")

    assert error.fields()["ErrorCode"] == f"{code}_ERROR_FROM_MODEL"


@pytest.mark.parametrize(
    ("variable", "value", "field", "expected"),
    [
        ("ENDPOINT_NAME", "a" * 63, "endpoint_name", "a" * 63),
        ("INVOCATION_TIMEOUT", "9999.5", "seconds", 9999.5),
        ("INVOCATION_TIMEOUT", "0.5", "seconds", 0.5),
        ("PAGE_REQUESTS", "9999", "kept_requests", 9999),
        ("PAGE_REQUESTS", "0", "kept_requests", 0),
        ("PAGE_REQUESTS", "", "kept_requests", 100),
        ("PAGE_ARTIFACTS", "a", "artifacts", Path("a")),
        ("PAGE_ARTIFACTS", "", "artifacts", None),
        ("PAGE_LOGS", "b", "logs", Path("b")),
        ("PAGE_LOGS", "", "logs", None),
    ],
)
def test_the_largest_and_smallest_settings_are_taken(variable, value, field, expected):
    assert getattr(RouterConfig.from_env({variable: value}), field) == expected


def test_an_endpoint_may_have_15_containers_and_its_own_time():
    fifteen = ",".join(f"c{n}=http://one" for n in range(15))

    endpoint = RouterConfig.from_env({"CONTAINERS": fifteen, "INVOCATION_TIMEOUT": "7"}).endpoint()

    assert (len(endpoint.containers), endpoint.limits.seconds) == (15, 7)


def test_a_message_is_cut_at_2048_bytes():
    assert shorten("x" * 2048) == "x" * 2048
    assert shorten("x" * 2049) == "x" * 2045 + "..."
