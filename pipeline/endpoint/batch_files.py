"""The files of a transform job: the rows that go to S3, and the answers that come back."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime
from itertools import islice
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from pipeline.endpoint.errors import NOT_FOUND, WRONG, PipelineError
from pipeline.endpoint.payloads import cells, csv_records, is_header, read_lines
from pipeline.endpoint.session import Clients, say
from serving.contract import Contract
from serving.errors import BadArtifact
from serving.inside import OutsideError, inside
from serving.payload import CSV

REFUSE, STRIP, KEEP, ABSENT = "refuse", "strip", "keep", "absent"


@dataclass(frozen=True)
class Location:
    """A place in S3."""

    bucket: str
    key: str

    @classmethod
    def of(cls, url: str) -> Location:
        """Raises `PipelineError` for what is no s3:// address."""
        parts = urlsplit(url)
        if parts.scheme != "s3" or not parts.netloc:
            raise PipelineError(f"{url}: expected s3://BUCKET/PREFIX", "correct the address", WRONG)
        return cls(parts.netloc, url.partition(parts.netloc)[2].lstrip("/"))

    @property
    def folder(self) -> str:
        """The key as the beginning of others."""
        return f"{self.key.rstrip('/')}/".lstrip("/")

    def __str__(self) -> str:
        return f"s3://{self.bucket}/{self.key}"


@dataclass(frozen=True)
class Rows:
    """A local file of rows. `first`: its first record with its line end; `header`: the same, when it names columns.

    `bare`: it is known to have no header, from its numbers, or from the contract and the user.
    """

    file: Path
    media: str
    header: bytes = b""
    first: bytes = b""
    bare: bool = False

    @classmethod
    def of(cls, file: Path, media: str, lines: bool) -> Rows:
        """Look at the whole file. `lines`: it will be cut at every line end. Raises `PipelineError`."""
        try:
            with file.open("rb") as stream:
                if media != CSV:
                    return cls(file, media)
                first = list(islice(csv_records(read_lines(stream)), 2))
                stream.seek(0)
                if lines:
                    _refuse_quoted_line_ends(csv_records(read_lines(stream)), file)
        except FileNotFoundError as error:
            raise PipelineError(f"there is no file {file}", "check its name", NOT_FOUND) from error
        except OSError as error:
            raise PipelineError(f"{file}: {error.strerror}", "check its name and permissions", WRONG) from error
        judged = is_header(*first) if len(first) == 2 else None
        return cls(file, media, first[0] if judged else b"", b"".join(first[:1]), judged is False)

    def records(self) -> Iterator[bytes]:
        """The rows, as they are written, without the header and blank lines."""
        with self.file.open("rb") as stream:
            lines = read_lines(stream)
            records = csv_records(lines) if self.media == CSV else lines
            yield from (record for record in islice(records, 1 if self.header else 0, None) if record.strip())

    @contextmanager
    def stripped(self) -> Iterator[Path]:
        """The file without its header."""
        if not self.header:
            yield self.file
            return
        with tempfile.TemporaryDirectory() as scratch, self.file.open("rb") as stream:
            copy = Path(scratch) / self.file.name
            stream.seek(len(self.header))
            with copy.open("wb") as target:
                shutil.copyfileobj(stream, target)
            yield copy


def _refuse_quoted_line_ends(records: Iterator[bytes], file: Path) -> None:
    for number, record in enumerate(records, 1):
        if b"\n" in record.rstrip(b"\r\n"):
            raise PipelineError(
                f"{file}: record {number} has a line end within quotes; Batch Transform cuts records at every one",
                "take line ends out of the fields, or give --split None for a file of one payload",
                WRONG,
            )


def judge_header(rows: Rows, choice: str, artifacts: Path) -> Rows:
    """The rows, once it is settled whether they begin with a header; the contract knows what a header looks like.

    Batch Transform takes a header for a record, and only the first payload has it. Raises `PipelineError`.
    """
    if rows.media != CSV or choice == ABSENT:
        return replace(rows, header=b"", bare=rows.media == CSV)
    named = cells(rows.first.rstrip(b"\r\n"))
    try:
        contract = Contract.load(artifacts / "featurizer" / "model")
    except (BadArtifact, OSError):
        contract = None
    if not rows.header:
        names = {column.name for column in contract.inputs} if contract else set()
        if not contract or not names <= set(named):  # with some of them it is for the model to say
            return replace(rows, bare=rows.bare and bool(contract) and names.isdisjoint(named))
        rows = replace(rows, header=rows.first)
    if rows.header and choice == REFUSE:
        raise PipelineError(
            f"{rows.file} begins with a header, which Batch Transform takes for a record",
            "give --header strip to send the rows without it, keep to send it as it is, or absent if it is data",
            WRONG,
        )
    if rows.header and contract:
        _check_order(rows, named, contract)
    elif rows.header:
        say(f"without a header the columns are taken in training's order; here they are {','.join(named)}")
    return replace(rows, bare=bool(rows.header) and choice == STRIP)


def _check_order(rows: Rows, named: list[str], contract: Contract) -> None:
    orders = [[column.name for column in columns] for columns in (contract.inputs, contract.columns)]
    if named not in orders:
        raise PipelineError(
            f"{rows.file} has its columns in another order than the model, which goes by it without a header",
            f"write them as {','.join(orders[0])}",
            WRONG,
        )


def upload(clients: Clients, file: Path, to: Location, kms_key: str | None) -> None:
    encryption = {"ServerSideEncryption": "aws:kms", "SSEKMSKeyId": kms_key} if kms_key else {}
    more = {"ExpectedBucketOwner": clients.account, **encryption}
    with file.open("rb") as stream:  # by its name boto3 would wrap a refusal in an error of its own
        clients.client("s3").upload_fileobj(stream, to.bucket, to.key, ExtraArgs=more)


def listed(clients: Clients, under: Location, since: datetime | None = None) -> list[str]:
    """The keys below a prefix; with `since`, of what was written from then on."""
    pages = clients.client("s3").get_paginator("list_objects_v2")
    found = pages.paginate(Bucket=under.bucket, Prefix=under.folder, ExpectedBucketOwner=clients.account)
    every = [one for page in found for one in page.get("Contents", ())]
    # S3 rounds its times down to the second
    return [one["Key"] for one in every if since is None or one["LastModified"] >= since.replace(microsecond=0)]


def download(clients: Clients, under: Location, directory: Path) -> list[Path]:
    """All objects below a prefix into a directory, each in its place once it is whole."""
    made = []
    for key in listed(clients, under):
        try:
            target = inside(directory, key.removeprefix(under.folder))
        except OutsideError as error:
            raise PipelineError(
                f"s3://{under.bucket}/{key} would not lie in {directory}: {error}", "fetch it yourself"
            ) from error
        target.parent.mkdir(parents=True, exist_ok=True)
        beside = target.with_name(f".{target.name}.new")
        _fetch(
            clients.client("s3"), {"Bucket": under.bucket, "Key": key, "ExpectedBucketOwner": clients.account}, beside
        )
        beside.replace(target)
        made.append(target)
    return made


def _fetch(s3: Any, asked: dict[str, str], to: Path) -> None:  # noqa: ANN401 - boto3 is untyped
    body = s3.get_object(**asked)["Body"]
    with to.open("wb") as file:
        shutil.copyfileobj(body, file)


def check_writable(directory: Path) -> None:
    """Raise `PipelineError` now, not when the job is done."""
    try:
        directory.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise PipelineError(f"--output {directory}: {error.strerror}", "name a directory to write to", WRONG) from error
    if not os.access(directory, os.W_OK):
        raise PipelineError(f"--output {directory}: it cannot be written", "name another directory", WRONG)
