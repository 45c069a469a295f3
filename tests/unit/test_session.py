"""Where requests go, with which credentials, and about which endpoint."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ProfileNotFound

from pipeline.endpoint import runtime, session
from pipeline.endpoint.errors import NOT_FOUND, WRONG, PipelineError
from pipeline.endpoint.session import Clients, default_endpoint, endpoint_name
from tests.aws_api import RELEASE, SAGEMAKER, refused

pytestmark = pytest.mark.usefixtures("descriptions_read_once")
GONE = refused("ValidationException", "Could not find endpoint")
KEYS = {"AWS_ACCESS_KEY_ID": "id", "AWS_SECRET_ACCESS_KEY": "secret", "AWS_SESSION_TOKEN": "token"}


@pytest.fixture(autouse=True)
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The AWS files of somebody with two profiles, and an environment without AWS."""
    for name in (*KEYS, "AWS_PROFILE", "AWS_REGION", "AWS_DEFAULT_REGION"):
        monkeypatch.delenv(name, raising=False)
    (tmp_path / "config").write_text("[default]\nregion = us-west-1\n[profile team]\nregion = eu-west-3\n")
    (tmp_path / "credentials").write_text(
        "[default]\naws_access_key_id = d\naws_secret_access_key = d\n"
        "[team]\naws_access_key_id = t\naws_secret_access_key = t\n"
    )
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))


def clients(env: dict[str, str], region: str | None = None, profile: str | None = None) -> Clients:
    return Clients.of(argparse.Namespace(env=env, region=region, profile=profile))


@pytest.mark.parametrize(
    ("env", "region", "profile", "expected"),
    [
        ({"AWS_REGION": "a", "AWS_DEFAULT_REGION": "b"}, "c", "team", "c"),
        ({"AWS_REGION": "a", "AWS_DEFAULT_REGION": "b"}, None, "team", "a"),
        ({"AWS_DEFAULT_REGION": "b"}, None, "team", "b"),
        ({}, None, "team", "eu-west-3"),
        ({"AWS_PROFILE": "team"}, None, None, "eu-west-3"),
        ({}, None, None, "us-west-1"),
    ],
)
def test_the_region_is_found_as_the_aws_cli_finds_it(
    env: dict[str, str], region: str | None, profile: str | None, expected: str
) -> None:
    assert clients(env, region, profile).region == expected


@pytest.mark.parametrize(
    ("env", "profile", "key", "token"),
    [
        (KEYS, None, "id", "token"),
        ({**KEYS, "AWS_SESSION_TOKEN": ""}, None, "id", None),
        ({**KEYS, "AWS_PROFILE": "team"}, None, "id", "token"),
        (KEYS, "team", "t", None),
        ({"AWS_PROFILE": "team"}, None, "t", None),
        ({}, None, "d", None),
    ],
)
def test_the_credentials_are_the_profiles_that_is_given_or_the_environments(
    env: dict[str, str], profile: str | None, key: str, token: str | None
) -> None:
    credentials = clients(env, "us-east-1", profile).session.get_credentials()

    assert (credentials.access_key, credentials.token or None) == (key, token)


def test_a_profile_that_is_not_there_is_an_error() -> None:
    with pytest.raises(ProfileNotFound):
        clients({}, None, "nobody")


def test_a_client_is_made_once_and_tries_four_times() -> None:
    ours = clients({"AWS_ENDPOINT_URL": "http://127.0.0.1:9", **KEYS}, "us-east-1")

    client = ours.client("s3")

    assert ours.client("s3") is client
    config = client.meta.config
    assert (config.retries["mode"], config.retries["total_max_attempts"]) == ("standard", 4)
    assert config.read_timeout == 70
    assert config.s3 == {"addressing_style": "path"}
    assert client.meta.endpoint_url == "http://127.0.0.1:9"
    assert clients(KEYS, "us-east-1").client("s3").meta.config.s3 != {"addressing_style": "path"}


def test_what_sends_rows_has_a_connection_for_each_request_and_repeats_nothing_itself() -> None:
    config = runtime.new_client(clients(KEYS, "us-east-1"), 37).meta.config

    assert config.max_pool_connections == 37
    assert config.retries["total_max_attempts"] == 1
    assert config.read_timeout == 70


def test_each_new_client_is_prepared() -> None:
    prepared: list[Any] = []
    ours = Clients("us-east-1", KEYS, prepare=prepared.append)

    assert [ours.client("sts"), ours.client("iam"), ours.client("sts")][:2] == prepared
    assert runtime.new_client(ours, 1) is prepared[2]


@pytest.mark.parametrize(
    ("dataset", "name"),
    [
        ("abalone", "serial-inference-abalone"),
        ("california_housing", "serial-inference-california-housing"),
        ("__Ünder  score--2__", "serial-inference-nder-score-2"),
        ("a" * 46 + "_b", f"serial-inference-{'a' * 46}"),
        ("a" * 45 + "_b", f"serial-inference-{'a' * 45}"),
        ("a" * 99, f"serial-inference-{'a' * 46}"),
    ],
)
def test_an_endpoint_is_named_after_the_data_set_as_sagemaker_allows(dataset: str, name: str) -> None:
    assert default_endpoint(dataset) == name
    assert len(name) <= 63


def test_the_endpoint_is_the_named_one_or_that_of_the_artifacts(untrained: Path, tmp_path: Path) -> None:
    assert endpoint_name(argparse.Namespace(endpoint="houses"), tmp_path) == "houses"
    assert endpoint_name(argparse.Namespace(endpoint=None), untrained) == "serial-inference-abalone"
    with pytest.raises(PipelineError, match="which endpoint") as error:
        endpoint_name(argparse.Namespace(endpoint=None), tmp_path)
    assert error.value.code == WRONG


@pytest.mark.parametrize(
    ("url", "local"),
    [
        ("http://127.0.0.1:1", True),
        ("http://localhost", True),
        ("http://[::1]:1", True),
        ("https://sagemaker.example", False),
        ("", False),
    ],
)
def test_the_stand_in_is_on_this_machine(url: str, local: bool) -> None:
    assert Clients("us-east-1", {"AWS_ENDPOINT_URL_SAGEMAKER": url}).local is local


@pytest.mark.parametrize(
    ("env", "said"),
    [
        ({"": "http://127.0.0.1:4566"}, None),
        ({"": "http://127.0.0.1:4566", "_SAGEMAKER_RUNTIME": "http://127.0.0.1:8080"},
         "SageMaker is asked at http://127.0.0.1:4566, but endpoints are called at http://127.0.0.1:8080; "),
        ({"_SAGEMAKER_RUNTIME": "http://localhost:8080"},
         "SageMaker is asked at AWS, but endpoints are called at http://localhost:8080; "),
        ({"_SAGEMAKER": "http://[::1]:1"}, "SageMaker is asked at http://[::1]:1, but endpoints are called at AWS; "),
        ({"_SAGEMAKER": "https://api.example", "_SAGEMAKER_RUNTIME": "https://runtime.example"}, None),
        ({}, None),
    ],
)  # fmt: skip
def test_who_makes_endpoints_here_and_calls_them_there_is_told(
    capsys: pytest.CaptureFixture[str], env: dict[str, str], said: str | None
) -> None:
    given = {f"AWS_ENDPOINT_URL{name}": url for name, url in env.items()}

    Clients.of(argparse.Namespace(region="us-east-1", profile=None, env=given))

    told = capsys.readouterr().err
    assert told.startswith(said) if said else told == ""


def test_progress_does_not_mix_with_what_a_program_prints(capsys: pytest.CaptureFixture[str]) -> None:
    session.say("on its way")
    session.show_json({"at": Path("x")})

    assert capsys.readouterr() == ('{\n  "at": "x"\n}\n', "on its way\n")


@pytest.mark.parametrize(
    "verb", ["status", "autoscale --max 3 --target 9", "batch s3://b/rows.csv --output s3://b/out"]
)
def test_an_endpoint_that_is_not_there_is_not_found(run: Any, capsys: pytest.CaptureFixture[str], verb: str) -> None:
    code, _ = run(verb, {**SAGEMAKER, "DescribeEndpoint": GONE}, RELEASE)

    assert code == NOT_FOUND
    said = capsys.readouterr().err
    assert "there is no endpoint houses in " in said
    assert "check --endpoint and --region, or make it: python -m pipeline deploy" in said
