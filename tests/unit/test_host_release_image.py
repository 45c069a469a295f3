"""The artifacts become one layer more of an image that is in a registry, without Docker."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.request import Request

import pytest
from botocore.exceptions import ClientError

from pipeline.endpoint.errors import NOT_FOUND, WRONG, PipelineError
from pipeline.endpoint.session import Clients
from pipeline.hosts import release_image
from pipeline.hosts.registry import OCI_INDEX, OCI_MANIFEST, Registry
from pipeline.hosts.release_image import Base, Composed, Layer
from tests.aws_api import refused
from tests.registry_api import TOKEN, MemoryRegistry, memory_registry

NAME = "serial-inference/pipeline"
INDEX = "application/vnd.docker.distribution.manifest.list.v2+json"


@pytest.fixture
def remote() -> Iterator[MemoryRegistry]:
    with memory_registry() as registry:
        registry.add_image("abc")
        yield registry


@pytest.fixture(scope="module")
def layer(untrained: Path) -> Layer:
    return release_image.make_layer(untrained)


def compose(remote: MemoryRegistry, layer: Layer, reference: str = "abc") -> Composed:
    registry = Registry(remote.host, TOKEN)
    return release_image.compose(registry, Base(remote.host, NAME, reference), layer, "houses", "hash")


def test_the_layer_has_both_artifacts_where_the_container_looks(layer: Layer, untrained: Path) -> None:
    with tarfile.open(fileobj=io.BytesIO(layer.content)) as tar:
        files = {member.name: tar.extractfile(member).read() for member in tar}  # type: ignore[union-attr]

    expected = {
        f"opt/ml/model/{stage}/{path.name}": path.read_bytes()
        for stage in ("featurizer", "predictor")
        for path in (untrained / stage / "model").iterdir()
    }
    assert files == expected


def test_the_same_artifacts_are_the_same_layer(layer: Layer, untrained: Path) -> None:
    again = release_image.make_layer(untrained)

    assert again.content == layer.content
    assert layer.digest == f"sha256:{hashlib.sha256(layer.content).hexdigest()}"
    assert layer.uncompressed == f"sha256:{hashlib.sha256(gzip.decompress(layer.content)).hexdigest()}"


def test_the_image_is_its_base_and_the_layer(remote: MemoryRegistry, layer: Layer) -> None:
    base = json.loads(remote.manifests[remote.tags["abc"]][1])
    registry = Registry(remote.host, TOKEN)

    composed = compose(remote, layer)
    release_image.push(registry, composed)

    media_type, written = remote.manifests[remote.tags[composed.image.tag]]
    manifest = json.loads(written)
    config = json.loads(remote.blobs[manifest["config"]["digest"]])
    assert media_type == manifest["mediaType"] == base["mediaType"]
    assert manifest["layers"][:-1] == base["layers"]
    assert remote.blobs[manifest["layers"][-1]["digest"]] == layer.content
    assert manifest["layers"][-1]["size"] == len(layer.content)
    assert manifest["config"]["size"] == len(remote.blobs[manifest["config"]["digest"]])
    assert config["rootfs"]["diff_ids"][-1] == layer.uncompressed
    assert len(config["rootfs"]["diff_ids"]) == len(config["history"]) == 2
    assert config["history"][-1] == {
        "created": "1970-01-01T00:00:00Z", "created_by": "python -m pipeline deploy", "comment": "artifacts"
    }  # fmt: skip
    assert config["config"]["Cmd"] == ["serve"]
    assert config["config"]["Labels"] == {"kept": "yes", "serial-inference:contract": "hash"}


def test_the_tag_is_the_services_and_the_images_own(remote: MemoryRegistry, layer: Layer) -> None:
    first, second = compose(remote, layer), compose(remote, layer)
    other = compose(remote, Layer(gzip.compress(b"other")))

    assert first == second
    assert first.image.tag == f"houses-{first.image.digest[7:19]}"
    assert first.image.tag != other.image.tag


def test_what_is_there_is_not_sent_again(remote: MemoryRegistry, layer: Layer) -> None:
    registry, composed = Registry(remote.host, TOKEN), compose(remote, layer)
    assert not release_image.is_pushed(registry, composed.image)
    remote.refused = {("PUT", "/manifests/"): 500}
    with pytest.raises(PipelineError):
        release_image.push(registry, composed)
    remote.refused, remote.sent = {}, []

    release_image.push(registry, composed)

    assert remote.sent == [f"PUT /v2/{NAME}/manifests/{composed.image.tag}"]
    assert release_image.is_pushed(registry, composed.image)


@pytest.mark.parametrize("media_type", [INDEX, OCI_INDEX])
def test_of_several_platforms_the_hosts_one_is_taken(remote: MemoryRegistry, layer: Layer, media_type: str) -> None:
    others = [{"digest": "sha256:" + "0" * 64, "platform": {"os": "linux", "architecture": "arm64"}}]
    ours = [{"digest": remote.tags["abc"], "platform": {"os": "linux", "architecture": "amd64"}}]
    remote.add_manifest("several", media_type, {"manifests": [*others, *ours]})
    remote.add_manifest("foreign", media_type, {"manifests": others})

    assert compose(remote, layer, "several") == compose(remote, layer)
    with pytest.raises(PipelineError, match="not for linux/amd64"):
        compose(remote, layer, "foreign")


def test_an_oci_image_stays_one(remote: MemoryRegistry, layer: Layer) -> None:
    remote.add_image("oci", OCI_MANIFEST)

    added = compose(remote, layer, "oci").manifest.parsed["layers"][-1]

    assert added["mediaType"] == "application/vnd.oci.image.layer.v1.tar+gzip"


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"architecture": "arm64"}, "is for linux/arm64"),
        ({"config": {"Env": ["STAGE=featurizer"]}}, "its STAGE is featurizer"),
        ({"config": {}}, "its STAGE is not set"),
    ],
)
def test_an_image_that_could_not_serve_is_refused(
    remote: MemoryRegistry, layer: Layer, changes: dict[str, Any], reason: str
) -> None:
    remote.add_image("wrong", **changes)

    with pytest.raises(PipelineError, match=reason) as caught:
        compose(remote, layer, "wrong")
    assert "build_and_push.sh pipeline" in caught.value.next_step


def test_a_missing_image_says_how_to_push_it(remote: MemoryRegistry, layer: Layer) -> None:
    with pytest.raises(PipelineError, match=f"there is no image {remote.host}/{NAME}:none") as caught:
        compose(remote, layer, "none")

    assert caught.value.code == NOT_FOUND
    assert "build_and_push.sh pipeline" in caught.value.next_step


def test_what_the_registry_refuses_is_said(remote: MemoryRegistry, layer: Layer) -> None:
    composed = compose(remote, layer)
    remote.refused = {("POST", "/uploads/"): 403}

    with pytest.raises(PipelineError, match=r"answered 403 to POST .*: not for you \(DENIED\)") as caught:
        release_image.push(Registry(remote.host, TOKEN), composed)
    assert "docs/iam/build.json" in caught.value.next_step


@pytest.mark.parametrize(
    ("status", "complaint", "reason", "next_step"),
    [
        (403, b"{}", "{}", "docs/iam/build.json"),
        (
            401,
            b'{"errors": [{"code": "X"}, {"code": "Y", "message": "no"}]}',
            r"\(X\); no \(Y\)",
            "docs/iam/build.json",
        ),
        (500, b"out of\n", "out of", "run it again"),
        (500, b'{"errors": null}', r"\{\"errors\": null\}", "run it again"),
        (404, b"", "Not Found", "run it again"),
        (500, b"x" * 300, "x{200}", "run it again"),
    ],
)
def test_any_complaint_of_a_registry_is_one_line(
    remote: MemoryRegistry, layer: Layer, status: int, complaint: bytes, reason: str, next_step: str
) -> None:
    composed = compose(remote, layer)
    remote.refused, remote.complaint = {("POST", "/uploads/"): status}, complaint

    with pytest.raises(PipelineError, match=f"answered {status} to POST [^?]*: {reason}$") as caught:
        release_image.push(Registry(remote.host, TOKEN), composed)

    assert next_step in caught.value.next_step


def test_a_manifest_of_an_unknown_type_is_refused(remote: MemoryRegistry, layer: Layer) -> None:
    remote.add_image("other", "application/vnd.example+json")

    with pytest.raises(PipelineError, match=r"has the manifest type application/vnd\.example\+json") as caught:
        compose(remote, layer, "other")

    assert "build_and_push.sh pipeline" in caught.value.next_step


@pytest.mark.parametrize(
    ("uri", "reference", "written"),
    [
        ("h:5000/a/b:t", "t", "h:5000/a/b:t"),
        ("h/a/b", "latest", "h/a/b:latest"),
        (f"h/a@sha256:{'0' * 64}", f"sha256:{'0' * 64}", f"h/a@sha256:{'0' * 64}"),
        (f"h/a:t@sha256:{'0' * 64}", f"sha256:{'0' * 64}", f"h/a@sha256:{'0' * 64}"),
        ("a", None, ""),
        ("h/a@sha256:0", None, ""),
        ("h/a:", None, ""),
    ],
)
def test_a_base_is_named_by_its_uri(uri: str, reference: str | None, written: str) -> None:
    nobody = Clients("us-east-1", {})

    if reference is None:
        with pytest.raises(PipelineError, match="is no image URI") as caught:
            release_image.find_base(nobody, "p", "t", uri)
        assert caught.value.code == WRONG
    else:
        base = release_image.find_base(nobody, "p", "t", uri)
        assert (base.reference, str(base)) == (reference, written)


def test_the_base_is_the_image_that_was_pushed_to_this_account(run: Any) -> None:
    nobody = Clients("us-east-1", {})
    _, aws = run("status --target lambda")

    assert str(release_image.find_base(nobody, "mine", "t", None)) == (
        "123456789012.dkr.ecr.us-east-1.amazonaws.com/mine/pipeline:t"
    )
    assert aws.requests[-1]["params"] == {"repositoryNames": ["mine/pipeline"]}
    run("status --target lambda", {"DescribeRepositories": refused("RepositoryNotFoundException")})
    with pytest.raises(PipelineError, match="there is no ECR repository mine/pipeline in us-east-1") as caught:
        release_image.find_base(nobody, "mine", "t", None)
    assert caught.value.code == NOT_FOUND
    run("status --target lambda", {"DescribeRepositories": refused("ThrottlingException")})
    with pytest.raises(ClientError):
        release_image.find_base(nobody, "mine", "t", None)


def test_tags_of_releases_are_the_services_own(run: Any) -> None:
    digest = "sha256:" + "a" * 64
    names = ("houses.lambda", "houses.ecs", "villas.lambda", "my-houses.lambda", "houses")
    tags = [
        "houses.lambda-" + "a" * 12,
        "houses.lambda-" + "a" * 11,
        *(f"{name}-{'a' * 12}" for name in names[1:]),
        "abc",
    ]
    _, aws = run("delete --dry-run --target lambda", {"DescribeImages": {"imageDetails": [{"imageTags": tags}, {}]}})
    nobody = Clients("us-east-1", {})

    assert release_image.find_tags(nobody, NAME, "houses.lambda") == tags[:1]
    assert aws.requests[-1]["params"] == {"repositoryName": NAME, "filter": {"tagStatus": "TAGGED"}}
    assert release_image.is_release({"imageDigest": digest, "imageTags": ["abc", tags[0]]})
    assert not release_image.is_release({"imageDigest": digest, "imageTags": ["abc", tags[1]]})
    assert not release_image.is_release({"imageDigest": digest})


def test_many_images_are_deleted_by_the_hundred(run: Any) -> None:
    _, aws = run("delete --dry-run --target lambda", {"DescribeImages": {"imageDetails": []}})

    release_image.remove(Clients("us-east-1", {}), NAME, [str(number) for number in range(201)])

    deleted = [one["params"]["imageIds"] for one in aws.requests if one["operation"] == "BatchDeleteImage"]
    assert [len(images) for images in deleted] == [100, 100, 1]
    assert [image for images in deleted for image in images] == [{"imageTag": str(number)} for number in range(201)]


def test_a_blob_that_is_another_is_refused(remote: MemoryRegistry, layer: Layer) -> None:
    config = json.loads(remote.manifests[remote.tags["abc"]][1])["config"]["digest"]
    remote.blobs[config] = b"{}"

    with pytest.raises(PipelineError, match="another blob"):
        compose(remote, layer)


def test_a_registry_that_is_not_there_is_named(layer: Layer) -> None:
    with memory_registry() as gone:
        pass

    with pytest.raises(PipelineError, match=f"no answer of the registry {gone.host}"):
        compose(gone, layer)


def test_nobody_sees_the_token() -> None:
    assert TOKEN not in repr(Registry("host", TOKEN))


def test_a_registry_that_does_not_answer_is_waited_for_a_minute(monkeypatch: pytest.MonkeyPatch) -> None:
    waited: list[float] = []

    def silent(_: object, __: object, timeout: float) -> None:
        waited.append(timeout)
        raise TimeoutError("timed out")

    monkeypatch.setattr("urllib.request.OpenerDirector.open", lambda *given, timeout: silent(*given, timeout=timeout))

    with pytest.raises(PipelineError, match=r"^no answer of the registry far.example: timed out$") as caught:
        Registry("far.example", TOKEN).manifest(NAME, "abc")

    assert (waited, caught.value.next_step) == ([60.0], "check the network")


def test_a_registry_is_asked_for_every_type_of_manifest_over_https_and_without_encryption_on_this_machine_only(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: list[Request] = []

    def noted(_: object, request: Request, **__: object) -> None:
        asked.append(request)
        raise OSError("no network")

    monkeypatch.setattr("urllib.request.OpenerDirector.open", noted)
    for host in ("far.example", "127.0.0.1:5000", "localhost:5000"):
        with pytest.raises(PipelineError):
            Registry(host, TOKEN).manifest(NAME, "abc")

    assert [one.full_url.partition("/v2/")[0] for one in asked] == [
        "https://far.example", "http://127.0.0.1:5000", "http://localhost:5000"
    ]  # fmt: skip
    assert (asked[0].get_header("Accept") or "").split(", ") == [
        "application/vnd.docker.distribution.manifest.v2+json", INDEX, OCI_MANIFEST, OCI_INDEX
    ]  # fmt: skip
