"""Proxies: none stands before this machine, and what one cannot reach is said."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from botocore.exceptions import ClientError, ProxyConnectionError

from local_test.__main__ import main as local_test
from pipeline.cli import main as pipeline
from pipeline.endpoint.errors import explain
from serving.proxies import advice, spare_loopback
from tests.scripted_container import ScriptedContainer, answer
from tests.servers import free_ports

LOOPBACK = "127.0.0.1,localhost,::1,[::1]"
ADVICE = "it is asked through HTTP_PROXY; to ask a.test itself, name it in NO_PROXY"


@pytest.fixture(autouse=True)
def _no_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.lower().endswith("_proxy")]:
        monkeypatch.delenv(name)


@pytest.mark.parametrize(
    ("env", "spared"),
    [
        ({}, None),
        ({"HTTP_PROXY": "http://p"}, LOOPBACK),
        ({"all_proxy": "http://p"}, LOOPBACK),
        ({"https_proxy": "http://p", "NO_PROXY": "a.test"}, f"a.test,{LOOPBACK}"),
        ({"no_proxy": "a.test", "NO_PROXY": "b.test"}, f"a.test,{LOOPBACK}"),
        ({"HTTP_PROXY": "http://p", "NO_PROXY": "*"}, None),
    ],
)
def test_this_machine_is_spared_beside_what_is_spared_already(env: dict[str, str], spared: str | None) -> None:
    before = dict(env)

    spare_loopback(env)

    assert env == (before | {"NO_PROXY": spared, "no_proxy": spared} if spared else before)


@pytest.mark.parametrize("host", ["127.0.0.1:8080", "localhost", "[::1]:8080", "me@127.0.0.1:80"])
def test_this_machine_is_asked_itself_under_each_of_its_names(host: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://p")
    assert advice(f"http://{host}/")

    spare_loopback(os.environ)

    assert advice(f"http://{host}/") == ""
    assert advice("http://a.test:8080/x") == ADVICE
    assert advice("https://a.test/") == ""


@pytest.mark.parametrize("status", [0, 503])
def test_a_proxy_that_fails_or_answers_itself_is_named(
    status: int, artifacts: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    rows, url = "local_test/payloads/rows.csv", ["--url", "http://a.test:8080"]
    with ScriptedContainer(answer(b"<html>no</html>", "text/html", status)) as proxy:
        port = proxy.port if status else free_ports(1)[0]
        monkeypatch.setenv("HTTP_PROXY", f"http://127.0.0.1:{port}")
        predicted = local_test(["predict", rows, *url]), capsys.readouterr().err
        shown = pipeline(["demo", "--artifacts", str(artifacts), *url]), capsys.readouterr().err

    assert (predicted[0], shown[0]) == (1, 2)
    assert predicted[1].endswith(f"{ADVICE}\n")
    assert shown[1].endswith(f"; {ADVICE}\n")


@pytest.mark.parametrize(
    "error",
    [
        ProxyConnectionError(proxy_url="http://127.0.0.1:9"),
        ClientError({"Error": {"Code": "503", "Message": "Service Unavailable"}}, "DescribeEndpoint"),
    ],
)
def test_what_goes_to_aws_through_a_proxy_that_fails_ends_with_the_variable(error: Exception) -> None:
    assert explain(error).next_step.endswith("; name in NO_PROXY what a proxy must not be asked for")
