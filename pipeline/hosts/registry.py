"""A registry's HTTP API: manifests and blobs of images, without Docker."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.parse import urlencode, urljoin
from urllib.request import Request, build_opener

from pipeline.endpoint.errors import PipelineError
from pipeline.endpoint.images import DOCKER_LIST, DOCKER_MANIFEST
from pipeline.endpoint.session import LOOPBACK, Clients

OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
OCI_INDEX = "application/vnd.oci.image.index.v1+json"
MANIFESTS = (DOCKER_MANIFEST, DOCKER_LIST, OCI_MANIFEST, OCI_INDEX)
WITHIN = 60.0  # seconds


@dataclass(frozen=True)
class Answer:
    status: int
    headers: Mapping[str, str]
    body: bytes


@dataclass(frozen=True)
class Manifest:
    """As the registry has it: its digest is that of these bytes."""

    media_type: str
    content: bytes

    @property
    def parsed(self) -> dict[str, Any]:
        parsed: dict[str, Any] = json.loads(self.content)
        return parsed

    @property
    def digest(self) -> str:
        return digest_of(self.content)


@dataclass(frozen=True)
class Registry:
    """The registry on `host`. `token`: the user and the password in base64, as ECR gives them."""

    host: str
    token: str = field(repr=False)

    @classmethod
    def of_ecr(cls, clients: Clients, host: str) -> Registry:
        """With a token of ECR, which lets in wherever the identity may."""
        (given,) = clients.client("ecr").get_authorization_token()["authorizationData"]
        return cls(host, given["authorizationToken"])

    def manifest(self, repository: str, reference: str) -> Manifest | None:
        """By tag or digest; None when there is none."""
        path = f"{repository}/manifests/{reference}"
        answer = self._ask("GET", path, headers={"Accept": ", ".join(MANIFESTS)}, missing=True)
        if answer.status == HTTPStatus.NOT_FOUND:
            return None
        return Manifest(answer.headers["content-type"], answer.body)

    def blob(self, repository: str, digest: str) -> bytes:
        """Raises `PipelineError` also for one that is not what its digest says."""
        content = self._ask("GET", f"{repository}/blobs/{digest}").body
        if digest_of(content) != digest:
            raise PipelineError(f"{self.host} gave another blob than {digest}", "run it again")
        return content

    def upload(self, repository: str, content: bytes) -> str:
        """Store a blob, unless it is there. Returns its digest."""
        digest = digest_of(content)
        if self._ask("HEAD", f"{repository}/blobs/{digest}", missing=True).status == HTTPStatus.OK:
            return digest
        # ECR takes the content by PATCH, as docker sends it, and not with the PUT that ends the upload.
        begun = self._ask("POST", f"{repository}/blobs/uploads/", b"")
        sent = self._ask("PATCH", begun.headers["location"], content)
        place = sent.headers["location"]
        self._ask("PUT", f"{place}{'&' if '?' in place else '?'}{urlencode({'digest': digest})}", b"")
        return digest

    def put(self, repository: str, reference: str, manifest: Manifest) -> None:
        headers = {"Content-Type": manifest.media_type}
        self._ask("PUT", f"{repository}/manifests/{reference}", manifest.content, headers)

    def _ask(
        self,
        method: str,
        path: str,
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        *,
        missing: bool = False,
    ) -> Answer:
        """One request; `missing`: 404 is an answer. Raises `PipelineError` for a refusal."""
        scheme = "http" if self._local else "https"
        url = urljoin(f"{scheme}://{self.host}/v2/", path)
        kind = {} if body is None else {"Content-Type": "application/octet-stream"}
        request = Request(url, body, {**kind, **(headers or {})}, method=method)  # noqa: S310 - of http or https
        # ECR sends who asks for a blob to S3, which refuses a request that brings a token as well.
        request.add_unredirected_header("Authorization", f"Basic {self.token}")
        try:
            with build_opener().open(request, timeout=WITHIN) as response:
                named = {name.lower(): value for name, value in response.headers.items()}
                return Answer(response.status, named, response.read())
        except HTTPError as error:
            with error:
                if missing and error.code == HTTPStatus.NOT_FOUND:
                    return Answer(error.code, {}, b"")
                raise _refusal(self.host, method, path, error) from error
        except (URLError, OSError) as error:
            reason = getattr(error, "reason", error)
            raise PipelineError(f"no answer of the registry {self.host}: {reason}", "check the network") from error

    @property
    def _local(self) -> bool:
        return self.host.partition(":")[0] in LOOPBACK


def digest_of(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


def _refusal(host: str, method: str, path: str, error: HTTPError) -> PipelineError:
    """What the registry says, in one line."""
    text = error.read()
    try:
        told = [f"{one.get('message') or ''} ({one['code']})".strip() for one in json.loads(text)["errors"]]
    except (ValueError, KeyError, TypeError):
        told = []
    reason = "; ".join(told) or text[:200].decode(errors="replace").strip() or error.reason
    entry = error.code in (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN)
    next_step = "let your identity pull and push there: docs/iam/build.json" if entry else "run it again"
    return PipelineError(
        f"registry {host} answered {error.code} to {method} {path.partition('?')[0]}: {reason}", next_step
    )
