"""The release's image: the pushed pipeline image and, as one layer more, both artifacts. Docker is not needed.

The layers of the base stay where they are in the registry. What is sent is a layer of the artifacts, a configuration
and a manifest, so that a release of the same image and artifacts is the same image, byte by byte.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import re
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from pipeline.artifacts import files_of_both
from pipeline.endpoint.errors import NOT_FOUND, WRONG, PipelineError, found_or_none
from pipeline.endpoint.images import DOCKER_LIST, DOCKER_MANIFEST, URI, delete_images
from pipeline.endpoint.release import CONTRACT_TAG
from pipeline.endpoint.session import Clients
from pipeline.hosts.registry import OCI_INDEX, OCI_MANIFEST, Manifest, Registry, digest_of
from serving import artifact

LAYERS = {
    DOCKER_MANIFEST: "application/vnd.docker.image.rootfs.diff.tar.gzip",
    OCI_MANIFEST: "application/vnd.oci.image.layer.v1.tar+gzip",
}
WHERE = "opt/ml/model"
PUSH = "build and push it: ./build_and_push.sh pipeline"
PLATFORM = {"os": "linux", "architecture": "amd64"}


@dataclass(frozen=True)
class Base:
    """The pipeline image that was pushed, by its tag or digest."""

    host: str
    name: str
    reference: str

    def __str__(self) -> str:
        return f"{self.host}/{self.name}{'@' if self.reference.startswith('sha256:') else ':'}{self.reference}"


@dataclass(frozen=True)
class Layer:
    """Files of an image, compressed."""

    content: bytes

    @cached_property
    def digest(self) -> str:
        return digest_of(self.content)

    @cached_property
    def uncompressed(self) -> str:
        return f"sha256:{hashlib.sha256(gzip.decompress(self.content)).hexdigest()}"


@dataclass(frozen=True)
class ReleaseImage:
    """An image in its registry."""

    host: str
    name: str
    tag: str
    digest: str

    @property
    def by_digest(self) -> str:
        return f"{self.host}/{self.name}@{self.digest}"

    @property
    def by_tag(self) -> str:
        return f"{self.host}/{self.name}:{self.tag}"


@dataclass(frozen=True)
class Composed:
    """An image before it is pushed: what its base lacks."""

    image: ReleaseImage
    manifest: Manifest
    config: bytes
    layer: Layer


def find_base(clients: Clients, prefix: str, tag: str, given: str | None) -> Base:
    """The image `given` by its URI, else `prefix`/pipeline:`tag` of this account. Raises `PipelineError`."""
    if given:
        found = URI.fullmatch(given)
        if not found or "/" not in given:
            raise PipelineError(f"{given!r} is no image URI", "expected HOST/NAME:TAG or HOST/NAME@sha256:...", WRONG)
        return Base(found["host"], found["name"], found["digest"] or found["tag"] or "latest")
    name = f"{prefix}/pipeline"
    described = found_or_none(clients.client("ecr").describe_repositories, repositoryNames=[name])
    if described is None:
        raise PipelineError(f"there is no ECR repository {name} in {clients.region}", PUSH, NOT_FOUND)
    return Base(described["repositories"][0]["repositoryUri"].partition("/")[0], name, tag)


def make_layer(artifacts: Path) -> Layer:
    """Both artifacts where the container looks for them. The same files give the same bytes."""
    files = {f"{WHERE}/{name}": path for name, path in files_of_both(artifacts).items()}
    with tempfile.TemporaryDirectory() as scratch:
        artifact.pack_files(files, Path(scratch) / "layer")
        return Layer((Path(scratch) / "layer").read_bytes())


def owner(service: str, target: str, cluster: str = "") -> str:
    """Who runs a release image, as its tags say it: one image may have tags of several."""
    return ".".join(filter(None, (service, target, cluster)))


def compose(registry: Registry, base: Base, layer: Layer, owner: str, contract: str) -> Composed:
    """The base with the layer on top. Raises `PipelineError` for a base that cannot be served so."""
    manifest = _manifest_of(registry, base)
    content = manifest.parsed
    config = json.loads(registry.blob(base.name, content["config"]["digest"]))
    _check(base, config)
    config["rootfs"]["diff_ids"].append(layer.uncompressed)
    made = {"created": "1970-01-01T00:00:00Z", "created_by": "python -m pipeline deploy", "comment": "artifacts"}
    config.setdefault("history", []).append(made)
    config["config"]["Labels"] = {**(config["config"].get("Labels") or {}), CONTRACT_TAG: contract}
    written = json.dumps(config).encode()
    content["config"] |= {"size": len(written), "digest": digest_of(written)}
    content["layers"].append(
        {"mediaType": LAYERS[manifest.media_type], "size": len(layer.content), "digest": layer.digest}
    )
    new = Manifest(manifest.media_type, json.dumps(content, indent=3).encode())
    return Composed(ReleaseImage(base.host, base.name, tag_of(owner, new.digest), new.digest), new, written, layer)


def push(registry: Registry, composed: Composed) -> None:
    """What the registry has already is not sent. The tag is the last: before it, nobody sees anything."""
    name = composed.image.name
    registry.upload(name, composed.layer.content)
    registry.upload(name, composed.config)
    registry.put(name, composed.image.tag, composed.manifest)


def is_pushed(registry: Registry, image: ReleaseImage) -> bool:
    """Whether the tag is there; then it means this image, whose digest it has in its name."""
    return registry.manifest(image.name, image.tag) is not None


def tag_of(owner: str, digest: str) -> str:
    """Of a release image. ECR's tags are immutable here, so each image has its own."""
    return f"{owner}-{digest.partition(':')[2][:12]}"


def find_tags(clients: Clients, repository: str, owner: str) -> list[str]:
    """The tags of all release images of an owner; none where there is no such repository."""
    pages = clients.client("ecr").get_paginator("describe_images")
    listed = pages.paginate(repositoryName=repository, filter={"tagStatus": "TAGGED"})
    images = found_or_none(lambda: [image for page in listed for image in page["imageDetails"]]) or []
    tags = [tag for image in images for tag in image.get("imageTags", ())]
    return [tag for tag in tags if re.fullmatch(re.escape(owner) + "-[0-9a-f]{12}", tag)]


def is_release(image: Mapping[str, Any]) -> bool:
    """Whether ECR describes an image that `push` made: it has a tag that ends with its own digest."""
    mark = tag_of("", image["imageDigest"])
    return any(tag.endswith(mark) for tag in image.get("imageTags", ()))


def remove(clients: Clients, repository: str, tags: list[str]) -> None:
    """Delete images by their tags; an image stays for as long as it has a tag of somebody else."""
    delete_images(clients, repository, [{"imageTag": tag} for tag in tags])


def _manifest_of(registry: Registry, base: Base) -> Manifest:
    found = registry.manifest(base.name, base.reference)
    if found and found.media_type in (DOCKER_LIST, OCI_INDEX):
        fitting = [one for one in found.parsed["manifests"] if PLATFORM.items() <= one.get("platform", {}).items()]
        if not fitting:
            raise PipelineError(f"image {base} is not for linux/amd64", PUSH)
        found = registry.manifest(base.name, fitting[0]["digest"])
    if found is None:
        raise PipelineError(f"there is no image {base}", f"{PUSH}; or name another by --tag or --image", NOT_FOUND)
    if found.media_type not in LAYERS:
        raise PipelineError(f"image {base} has the manifest type {found.media_type}", f"{PUSH} (it makes another)")
    return found


def _check(base: Base, config: Mapping[str, Any]) -> None:
    """A wrong image is found here, not by a host that cannot start it."""
    platform = {name: config.get(name) for name in PLATFORM}
    if platform != PLATFORM:
        raise PipelineError(f"image {base} is for {platform['os']}/{platform['architecture']}", PUSH)
    variables = dict(each.split("=", 1) for each in config.get("config", {}).get("Env") or ())
    if variables.get("STAGE") != "pipeline":
        stage = variables.get("STAGE")
        raise PipelineError(f"image {base} is not of the single container: its STAGE is {stage or 'not set'}", PUSH)
