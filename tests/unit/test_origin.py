"""Whom the router and the control plane answer, when a browser on this machine asks for somebody else's page."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from flask.testing import FlaskClient

from local_test.container import Container
from local_test.endpoint import Endpoint
from local_test.router import create_app
from tests.scripted_container import ScriptedContainer, answer

PATHS = ("/invocations", "/endpoints/abalone/invocations")


@pytest.fixture
def container() -> Iterator[ScriptedContainer]:
    with ScriptedContainer(answer(b"9.5\n", "text/csv")) as container:
        yield container


@pytest.fixture
def client(container: ScriptedContainer) -> Iterator[FlaskClient]:
    endpoint = Endpoint("abalone", (Container("featurizer", "127.0.0.1", container.port),))
    yield create_app(endpoint).test_client()
    endpoint.close()


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize(
    "headers",
    [
        {"Host": "evil.example"},
        {"Host": "evil.example:8080"},
        {"Host": "127.0.0.1.evil.example:8080"},
        {"Host": "localhost.evil.example"},
        {"Host": "127.0.0.1@evil.example"},
        {"Host": "evil.example."},
        {"Host": "localhost", "Origin": "http://evil.example"},
        {"Host": "localhost", "Origin": "https://localhost"},
        {"Host": "localhost:8080", "Origin": "http://localhost:9090"},
        {"Host": "localhost", "Origin": "null"},
        {"Host": "localhost", "Sec-Fetch-Site": "cross-site"},
        {"Host": "localhost", "Sec-Fetch-Site": "same-site"},
    ],
    ids=str,
)
def test_what_another_sites_page_sends_reaches_no_container(
    client: FlaskClient, container: ScriptedContainer, path: str, headers: dict[str, str]
) -> None:
    response = client.post(path, data=b"M,0.4\n", content_type="text/plain", headers=headers)

    assert (response.status_code, response.json["code"]) == (403, "forbidden")
    assert response.json["request_id"]
    assert response.json["message"] in (
        "expected a Host of this machine: an address, localhost, or a name without dots",
        "expected no request of another site's page",
    )
    assert container.asked == []


def test_another_sites_page_learns_nothing_of_the_containers_health(client: FlaskClient) -> None:
    assert client.get("/ping", headers={"Host": "evil.example"}).status_code == 403


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize(
    "headers",
    [
        {"Host": "127.0.0.1:8080"},
        {"Host": "localhost:8080"},
        {"Host": "endpoint.localhost:8080"},
        {"Host": "[::1]:8080"},
        {"Host": "172.17.0.2:8080"},
        {"Host": "router:8080"},
        {"Host": "localhost:8080", "Origin": "http://localhost:8080", "Sec-Fetch-Site": "same-origin"},
        {"Host": "localhost:8080", "Sec-Fetch-Site": "none"},
    ],
    ids=str,
)
def test_programs_and_pages_of_its_own_are_answered(client: FlaskClient, path: str, headers: dict[str, str]) -> None:
    response = client.post(path, data=b"M,0.4\n", content_type="text/csv", headers=headers)

    assert (response.status_code, response.data) == (200, b"9.5\n")
