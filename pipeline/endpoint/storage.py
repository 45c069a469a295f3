"""The artifacts in S3. Every call names the account that must own the bucket: nobody else's is ever written."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from pipeline.artifacts import STAGES, files_of_both
from pipeline.endpoint.errors import PipelineError, code_of
from pipeline.endpoint.release import PREFIX, Release, is_release_of, scratch_prefix
from pipeline.endpoint.session import Clients
from serving import artifact

AT_ONCE = 1000  # keys that DeleteObjects takes


def default_bucket(clients: Clients) -> str:
    """The bucket that the SageMaker SDK uses too."""
    return f"sagemaker-{clients.region}-{clients.account}"


def ensure_bucket(clients: Clients, bucket: str) -> None:
    """Make the bucket when there is none: private and encrypted. Raises `PipelineError` when it is another's."""
    from botocore.exceptions import ClientError

    s3, owner = clients.client("s3"), {"Bucket": bucket, "ExpectedBucketOwner": clients.account}
    try:
        s3.head_bucket(**owner)
        return
    except ClientError as error:
        if code_of(error) in ("403", "AccessDenied"):
            raise PipelineError(
                f"bucket {bucket} is not owned by account {clients.account}, or you may not use it",
                "give your own with --bucket",
            ) from error
        if code_of(error) not in ("404", "NoSuchBucket"):
            raise
    # The API wants no location for the one region that had S3 first
    where = {"LocationConstraint": clients.region}
    s3.create_bucket(Bucket=bucket, **({} if clients.region == "us-east-1" else {"CreateBucketConfiguration": where}))
    blocked = ("BlockPublicAcls", "IgnorePublicAcls", "BlockPublicPolicy", "RestrictPublicBuckets")
    s3.put_public_access_block(**owner, PublicAccessBlockConfiguration=dict.fromkeys(blocked, True))
    encryption = {"Rules": [{"ApplyServerSideEncryptionByDefault": {"SSEAlgorithm": "AES256"}}]}
    s3.put_bucket_encryption(**owner, ServerSideEncryptionConfiguration=encryption)


def upload(
    clients: Clients, release: Release, artifacts: Path, names: Iterable[str], bucket: str, kms_key: str | None
) -> dict[str, str]:
    """Store the archive of each container under the release's name. Returns their s3:// addresses by container."""
    encryption = {"ServerSideEncryption": "aws:kms", "SSEKMSKeyId": kms_key} if kms_key else {}
    for name in names:
        clients.client("s3").put_object(
            Bucket=bucket, Key=release.key(name), Body=_packed(artifacts, name),
            ExpectedBucketOwner=clients.account, ContentType="application/gzip", Tagging=urlencode(release.tags),
            **encryption,
        )  # fmt: skip
    return {name: f"s3://{bucket}/{release.key(name)}" for name in names}


def _packed(artifacts: Path, name: str) -> bytes:
    """The files that were verified, not a model.tar.gz of some other day beside them."""
    with tempfile.TemporaryDirectory() as scratch:
        archive = Path(scratch) / "model.tar.gz"
        if name in STAGES:
            artifact.pack(artifacts / name / "model", archive)
        else:
            artifact.pack_files(files_of_both(artifacts), archive)
        return archive.read_bytes()


def release_keys(clients: Clients, bucket: str, endpoint: str) -> list[str]:
    """The keys of all artifacts of the endpoint's releases, and of what batch runs that died have left."""
    from botocore.exceptions import ClientError

    prefix = f"{PREFIX}/{endpoint}/"
    pages = clients.client("s3").get_paginator("list_objects_v2")
    try:
        found = [
            one["Key"]
            for page in pages.paginate(Bucket=bucket, Prefix=prefix, ExpectedBucketOwner=clients.account)
            for one in page.get("Contents", ())
        ]
    except ClientError as error:
        if code_of(error) == "NoSuchBucket":
            return []
        raise
    whole = [key.removeprefix(scratch_prefix(endpoint)).removeprefix(prefix) for key in found]
    return [key for key, rest in zip(found, whole, strict=True) if is_release_of(endpoint, rest.partition("/")[0])]


def delete_keys(clients: Clients, bucket: str, keys: list[str]) -> None:
    """Delete objects; one that is gone already is no error. Raises `PipelineError` for one that stays."""
    for begin in range(0, len(keys), AT_ONCE):
        some = [{"Key": key} for key in keys[begin : begin + AT_ONCE]]
        answer: Mapping[str, Any] = clients.client("s3").delete_objects(
            Bucket=bucket, Delete={"Objects": some, "Quiet": True}, ExpectedBucketOwner=clients.account
        )
        for refused in answer.get("Errors", ()):
            raise PipelineError(
                f"S3 kept s3://{bucket}/{refused['Key']}: {refused['Message']}",
                "allow s3:DeleteObject and run it again",
            )
