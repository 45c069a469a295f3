"""Images by digest, deletions that are confirmed, and names and tags as AWS takes them."""

from __future__ import annotations

import argparse
import io
import json
from typing import Any

import pytest

from pipeline.endpoint import release
from pipeline.endpoint.errors import FAILED, NOT_FOUND, WRONG, PipelineError
from tests.aws_api import DELETED, IMAGE, RELEASE, SAGEMAKER, Aws, refused

DIGEST = "sha256:" + "a" * 64
DEPLOY = "deploy --artifacts ARTIFACTS --role Given --single"
LIST = "application/vnd.docker.distribution.manifest.list.v2+json"


def params(aws: Aws, operation: str) -> list[dict[str, Any]]:
    return [one["params"] for one in aws.requests if one["operation"] == operation]


@pytest.mark.parametrize(
    ("uri", "looked_up", "deployed"),
    [
        ("111122223333.dkr.ecr.eu-west-1.amazonaws.com/a/b:t",
         {"repositoryName": "a/b", "imageIds": [{"imageTag": "t"}], "registryId": "111122223333"},
         f"111122223333.dkr.ecr.eu-west-1.amazonaws.com/a/b@{DIGEST}"),
        ("mirror:5000/ab", {"repositoryName": "ab", "imageIds": [{"imageTag": "latest"}]}, f"mirror:5000/ab@{DIGEST}"),
        (f"mirror/ab:t@{DIGEST}", {"repositoryName": "ab", "imageIds": [{"imageDigest": DIGEST}]},
         f"mirror/ab@{DIGEST}"),
    ],
)  # fmt: skip
def test_an_image_is_looked_up_where_its_uri_says_and_deployed_by_its_digest(
    run: Any, uri: str, looked_up: dict[str, Any], deployed: str
) -> None:
    code, aws = run(f"{DEPLOY} --image {uri}", {"DescribeImages": {"imageDetails": [IMAGE]}})

    assert code == 0
    assert params(aws, "DescribeImages") == [looked_up]
    assert params(aws, "CreateModel")[0]["PrimaryContainer"]["Image"] == deployed


@pytest.mark.parametrize(
    ("platforms", "accepted"),
    [
        ([{"os": "linux", "architecture": "arm64"}, {"os": "linux", "architecture": "amd64"}], True),
        ([{"os": "windows", "architecture": "amd64"}], False),
        ([{"os": "linux", "architecture": "arm64"}], False),
        ([], False),
    ],
)
def test_a_list_of_manifests_must_have_one_for_sagemakers_machines(
    run: Any, platforms: list[dict[str, str]], accepted: bool
) -> None:
    manifest = json.dumps({"manifests": [*({"platform": one} for one in platforms), {}]})
    answers = {
        "DescribeImages": {"imageDetails": [{**IMAGE, "imageManifestMediaType": LIST}]},
        "BatchGetImage": {"images": [{"imageManifest": manifest}]},
    }

    code, aws = run(f"{DEPLOY} --image mirror/ab:t", answers)

    assert (code, "CreateModel" in aws.operations) == ((0, True) if accepted else (FAILED, False))
    assert params(aws, "BatchGetImage")[0]["acceptedMediaTypes"] == [LIST]


@pytest.mark.parametrize("operation", ["DescribeRepositories", "DescribeImages"])
def test_an_image_that_is_not_there_is_not_found(run: Any, capsys: pytest.CaptureFixture[str], operation: str) -> None:
    missing = {"DescribeRepositories": "RepositoryNotFoundException", "DescribeImages": "ImageNotFoundException"}

    code, _ = run(f"{DEPLOY} --tag abc", {operation: refused(missing[operation])})

    output = capsys.readouterr().err
    assert code == NOT_FOUND
    assert "serial-inference/pipeline" in output
    assert "or name others by --tag" in output


@pytest.mark.parametrize(("prefix", "repository"), [("", "serial-inference"), ("mine", "mine")])
def test_repositories_are_those_of_the_prefix(run: Any, prefix: str, repository: str) -> None:
    for env, option in (({"REPOSITORY_PREFIX": prefix}, ""), ({}, f"--repository-prefix {prefix}" if prefix else "")):
        _, deployed = run(f"{DEPLOY} --tag abc {option}", env=env)
        _, deleted = run(f"delete --images --dry-run {option}", DELETED, RELEASE, env=env)
        _, hosted = run(f"delete --dry-run --target lambda {option}", {"DescribeImages": {"imageDetails": []}}, env=env)

        assert params(deployed, "DescribeRepositories") == [{"repositoryNames": [f"{repository}/pipeline"]}]
        names = [one["repositoryName"] for one in params(deleted, "DescribeImages")]
        assert names == [f"{repository}/{name}" for name in ("featurizer", "predictor", "pipeline")]
        assert params(hosted, "DescribeImages")[0]["repositoryName"] == f"{repository}/pipeline"


def test_many_images_go_by_the_hundred_and_the_repository_with_the_last(run: Any) -> None:
    images = [{"imageDigest": f"sha256:{number:064x}", "imageTags": [str(number)]} for number in range(201)]

    def deleted(listed: list[dict[str, Any]]) -> tuple[list[int], int]:
        _, aws = run("delete --images --yes", {**SAGEMAKER, "DescribeImages": {"imageDetails": listed}}, RELEASE)
        counts = [len(one["imageIds"]) for one in params(aws, "BatchDeleteImage")]
        return counts, len(params(aws, "DeleteRepository"))

    assert deleted(images[1:]) == ([100, 100] * 3, 3)
    assert deleted(images) == ([100, 100, 1] * 3, 3)  # the model of the first one goes too
    assert deleted([]) == ([], 3)


def test_repositories_that_are_not_there_are_not_to_be_deleted(run: Any, capsys: pytest.CaptureFixture[str]) -> None:
    gone = {**SAGEMAKER, "DescribeImages": refused("RepositoryNotFoundException")}

    assert run("delete --images --dry-run", gone, RELEASE)[0] == 0

    assert "images" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("typed", "options", "code", "asks"),
    [
        ("houses\n", "", 0, True),
        ("house\n", "", FAILED, True),
        ("", "", FAILED, True),
        ("", "--yes", 0, False),
        ("", "--dry-run", 0, False),
    ],
)
def test_on_a_terminal_the_name_must_be_typed(
    run: Any, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, typed: str, options: str, code: int,
    asks: bool,
) -> None:  # fmt: skip
    terminal = io.StringIO(typed)
    terminal.isatty = lambda: True  # type: ignore[method-assign]
    monkeypatch.setattr("sys.stdin", terminal)

    ended, aws = run(f"delete {options}", SAGEMAKER, RELEASE)

    output = capsys.readouterr().err
    assert ended == code
    assert ("Type the endpoint's name, houses: " in output) == asks
    assert ("  endpoint houses\n" in output) == asks
    assert ("pipeline: nothing was deleted\n" in output) == (code == FAILED)
    assert ("DeleteEndpoint" in aws.operations) == (code == 0 and options != "--dry-run")


@pytest.mark.parametrize(
    ("text", "tag"),
    [
        ("team=a", ("team", "a")),
        ("a b.:/=+@-_=x=y", ("a b.:/", "+@-_=x=y")),
        ("k=", ("k", "")),
        ("k" * 128 + "=" + "v" * 256, ("k" * 128, "v" * 256)),
        *((wrong, None) for wrong in ("team", "=x", "k" * 129 + "=v", "k=" + "v" * 257, "k!=v", "k=v!", "aws:k=v",
                                      "serial-inference:k=v")),
    ],
)  # fmt: skip
def test_a_tag_is_as_aws_takes_it_and_nobody_elses(text: str, tag: tuple[str, str] | None) -> None:
    if tag:
        assert release.tag(text) == tag
    else:
        with pytest.raises(argparse.ArgumentTypeError):
            release.tag(text)


@pytest.mark.parametrize("name", ["a", "a-b", "A9", "a" * 63])
def test_an_endpoints_name_is_as_sagemaker_takes_it(name: str) -> None:
    new = release.new_release(name, "c", {str(number): "" for number in range(7)})

    assert new.endpoint == name
    assert release.is_release_of(name, new.name)
    assert len(new.name) <= 63


@pytest.mark.parametrize("name", ["", "-a", "a-", "a_b", "a" * 64, "\u00fc", "a\n"])
def test_other_names_are_wrong_arguments(name: str) -> None:
    with pytest.raises(PipelineError, match="expected letters, digits and hyphens") as refusal:
        release.new_release(name, "c", {})

    assert refusal.value.code == WRONG


def test_images_are_deleted_by_the_hundred(run: Any) -> None:
    found = [{"imageDigest": f"sha256:{number:064x}", "imageTags": ["abc"]} for number in range(1, 202)]

    code, aws = run("delete --images --yes", {**DELETED, "DescribeImages": {"imageDetails": found}}, RELEASE)

    sent = [one["params"] for one in aws.requests if one["operation"] == "BatchDeleteImage"]
    digests = [{"imageDigest": one["imageDigest"]} for one in found]
    assert code == 0
    assert [one["imageIds"] for one in sent] == [digests[:100], digests[100:200], digests[200:]] * 3


def test_what_was_made_is_looked_for_by_its_name_newest_first(run: Any) -> None:
    _, aws = run("delete --dry-run", SAGEMAKER, RELEASE)

    asked = {one["operation"]: one["params"] for one in aws.requests if one["operation"].startswith("List")}
    newest_first = {"NameContains": "houses", "SortBy": "CreationTime", "SortOrder": "Descending"}
    assert asked["ListTransformJobs"] == {**newest_first, "StatusEquals": "InProgress"}
    assert asked["ListEndpointConfigs"] == asked["ListModels"] == newest_first
