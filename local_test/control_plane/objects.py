"""The objects in S3 that a job reads: below a prefix, or named by a manifest file."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

from local_test.control_plane.hosting import HostingError

_URL = re.compile(r"s3://([^/]+)/?(.*)")
S3 = Any  # boto3 is untyped


@dataclass(frozen=True)
class Found:
    """An object, and its name within what was asked for."""

    bucket: str
    key: str
    name: str

    @property
    def url(self) -> str:
        return f"s3://{self.bucket}/{self.key}"

    def read(self, s3: S3) -> bytes:
        """Raises `HostingError`."""
        from botocore.exceptions import ClientError

        try:
            content: bytes = s3.get_object(Bucket=self.bucket, Key=self.key)["Body"].read()
        except ClientError as error:
            raise HostingError(f"ClientError: Data download failed:{self.url}: {error}") from error
        return content


def split_url(url: str) -> tuple[str, str]:
    """Bucket and key, or prefix, of an `s3://` URL. Raises `HostingError`."""
    if not (found := _URL.fullmatch(url)):
        raise HostingError(f"ClientError: expected a URL like s3://bucket/prefix, got {url}")
    return found[1], found[2]


def find(s3: S3, source: Mapping[str, Any]) -> list[Found]:
    """The objects of an S3DataSource. Raises `HostingError` when there are none, in the platform's words."""
    url = source["S3Uri"]
    bucket, prefix = split_url(url)
    listed = source["S3DataType"] == "ManifestFile"
    found = list(_of_manifest(s3, Found(bucket, prefix, "")) if listed else _below(s3, bucket, prefix))
    if not found:
        raise HostingError(
            f'ClientError: Data download failed:No S3 objects found under S3 URL "{url}" given in input data source. '
            "Please ensure that the bucket exists, that objects exist under that S3 prefix, and that the role has "
            f'"s3:ListBucket" permissions on bucket "{bucket}".'
        )
    return found


def _below(s3: S3, bucket: str, prefix: str) -> Iterator[Found]:
    """A prefix is one of names, not of directories: `in/a` has `in/abc` too."""
    from botocore.exceptions import ClientError

    try:
        for page in s3.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix):
            for one in page.get("Contents", ()):
                if not one["Key"].endswith("/"):
                    yield Found(bucket, one["Key"], _name(one["Key"], prefix))
    except ClientError as error:
        raise HostingError(f"ClientError: Data download failed:s3://{bucket}/{prefix}: {error}") from error


def _name(key: str, prefix: str) -> str:
    """The key from the prefix's last whole part on."""
    if key.startswith(f"{prefix.rstrip('/')}/"):
        return key[len(prefix.rstrip("/")) + 1 :] if prefix else key
    return key[prefix.rfind("/") + 1 :]


def _of_manifest(s3: S3, manifest: Found) -> Iterator[Found]:
    """`[{"prefix": "s3://bucket/in/"}, "a.csv", ...]`."""
    problem = HostingError(f"ClientError: {manifest.url} is no manifest: expected a prefix and a list of names in JSON")
    try:
        head, *names = json.loads(manifest.read(s3))
        bucket, prefix = split_url(head["prefix"])
    except (ValueError, TypeError, KeyError) as error:
        raise problem from error
    for name in names:
        if not isinstance(name, str) or ".." in PurePosixPath(name).parts:
            raise problem
        yield Found(bucket, prefix + name, name)
