"""`batch` from a file or S3 to a directory or S3: what is stored, fetched, listed and removed again."""

from __future__ import annotations

import io
import json
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from pipeline.endpoint import batch_files, release, storage
from pipeline.endpoint.batch_files import Location
from pipeline.endpoint.errors import FAILED, WRONG, PipelineError
from pipeline.endpoint.session import Clients
from tests.aws_api import ACCOUNT, RELEASE, SAGEMAKER, WHEN, Aws, refused
from tests.unit.abalone import HEADER, ROW

BUCKET = f"sagemaker-us-east-1-{ACCOUNT}"
BATCH = "batch ROWS --output OUT"


def params(aws: Aws, operation: str) -> list[dict[str, Any]]:
    return [one["params"] for one in aws.requests if one["operation"] == operation]


@pytest.mark.parametrize(
    ("options", "stored"),
    [("", "1,2\n3,4\n"), ("--header strip", f"{ROW}\n"), ("--header keep", f"{HEADER}\n{ROW}\n")],
)
def test_the_file_goes_to_the_bucket_with_or_without_its_header(
    run: Any, tmp_path: Path, untrained: Path, options: str, stored: str
) -> None:
    bodies: list[bytes] = []
    if options:
        (tmp_path / "rows.csv").write_text(f"{HEADER}\n{ROW}\n")
    answers = {**SAGEMAKER, "PutObject": lambda aws: bodies.append(aws.last["Body"].read()) or {}}

    code, aws = run(f"{BATCH} {options} --artifacts {untrained} --kms-key key", answers, RELEASE)

    (put,), (job,) = params(aws, "PutObject"), params(aws, "CreateTransformJob")
    scratch = f"serial-inference/houses/batch/{job['TransformJobName']}"
    assert code == 0
    assert bodies == [stored.encode()]
    assert {name: put[name] for name in put if name not in ("Body", "ChecksumAlgorithm")} == {
        "Bucket": BUCKET, "Key": f"{scratch}/in/rows.csv", "ExpectedBucketOwner": ACCOUNT,
        "ServerSideEncryption": "aws:kms", "SSEKMSKeyId": "key",
    }  # fmt: skip
    assert job["TransformInput"]["DataSource"]["S3DataSource"]["S3Uri"] == f"s3://{BUCKET}/{scratch}/in/rows.csv"
    assert job["TransformOutput"]["S3OutputPath"] == f"s3://{BUCKET}/{scratch}/out"
    assert {one["Prefix"] for one in params(aws, "ListObjectsV2")} == {f"{scratch}/", f"{scratch}/out/"}
    assert (tmp_path / "out" / RELEASE / "rows.csv.out").read_bytes() == b"1\n3\n"


@pytest.mark.parametrize(
    ("places", "bucket", "source", "target", "uses_scratch"),
    [
        ("s3://theirs/rows/ --output s3://ours/out", "", "s3://theirs/rows/", "s3://ours/out", False),
        ("s3://theirs/rows/ --output OUT --bucket mine", "mine", "s3://theirs/rows/", "s3://mine/SCRATCH/out", True),
        ("ROWS --output s3://ours/out/", BUCKET, f"s3://{BUCKET}/SCRATCH/in/rows.csv", "s3://ours/out/", True),
    ],
)
def test_rows_and_answers_lie_where_they_are_asked_to_and_ours_are_removed(
    run: Any, places: str, bucket: str, source: str, target: str, uses_scratch: bool
) -> None:
    code, aws = run(f"batch {places} --content-type text/csv", SAGEMAKER, RELEASE)

    (job,) = params(aws, "CreateTransformJob")
    scratch = f"serial-inference/houses/batch/{job['TransformJobName']}"
    assert code == 0
    assert job["TransformInput"]["DataSource"]["S3DataSource"]["S3Uri"] == source.replace("SCRATCH", scratch)
    assert job["TransformOutput"]["S3OutputPath"] == target.replace("SCRATCH", scratch)
    assert [one["Bucket"] for one in params(aws, "HeadBucket")] == [bucket] * uses_scratch
    deleted = [[key["Key"] for key in one["Delete"]["Objects"]] for one in params(aws, "DeleteObjects")]
    assert deleted == [[f"{scratch}/{RELEASE}/rows.csv.out"]] * uses_scratch


def test_of_what_lies_in_s3_only_the_answers_of_this_job_are_named(
    run: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    began = WHEN.replace(microsecond=900_000)
    written = {"before": WHEN - timedelta(seconds=1), "at once": WHEN, "after": WHEN + timedelta(seconds=5)}
    answers = {
        **SAGEMAKER,
        "DescribeTransformJob": {"TransformJobStatus": "Completed", "CreationTime": began},
        "ListObjectsV2": {"Contents": [{"Key": key, "LastModified": at} for key, at in written.items()]},
    }

    assert run("batch s3://b/rows.csv --output s3://b/out --json", answers, RELEASE)[0] == 0

    assert json.loads(capsys.readouterr().out)["outputs"] == ["s3://b/at once", "s3://b/after"]
    run("batch s3://b/rows.csv --output s3://b/out", answers, RELEASE)
    assert capsys.readouterr().out.splitlines()[1:] == ["  s3://b/at once", "  s3://b/after"]


@pytest.mark.parametrize(
    ("command", "message"),
    [
        ("batch s3://b/rows.csv --output OUT --header strip", "--header strip is for a local file"),
        ("batch ROWS --output OUT --max-payload 30 --max-concurrent 4", "is over 100 MB"),
        ("batch ROWS --output OUT --max-payload 101", None),
        ("batch ROWS", None),
        ("batch rows.txt --output OUT", "cannot tell the type of rows.txt"),
        ("batch s3:///rows.csv --output OUT", "expected s3://BUCKET/PREFIX"),
    ],
)
def test_what_cannot_be_done_starts_no_job(
    run: Any, capsys: pytest.CaptureFixture[str], command: str, message: str | None
) -> None:
    if message is None:
        with pytest.raises(SystemExit):
            run(command, SAGEMAKER, RELEASE)
        return

    code, aws = run(command, SAGEMAKER, RELEASE)

    assert (code, "CreateTransformJob" in aws.operations) == (WRONG, False)
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("split", "code", "said"), [("", WRONG, "record 1 has a line end within quotes"), ("--split None", 0, "")]
)
def test_a_line_end_within_quotes_is_refused_where_a_job_would_cut_there(
    run: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str], split: str, code: int, said: str
) -> None:
    (tmp_path / "rows.csv").write_text('"a\nb",1\n')

    assert run(f"{BATCH} {split} --dry-run", SAGEMAKER, RELEASE)[0] == code
    assert said in capsys.readouterr().err


def test_a_file_that_is_not_there_is_not_found(run: Any, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("batch nowhere.csv --output OUT", SAGEMAKER, RELEASE)[0] == 3

    assert "there is no file nowhere.csv" in capsys.readouterr().err


def test_a_dry_run_starts_no_job_and_makes_no_directory(
    run: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, aws = run(f"{BATCH} --dry-run", SAGEMAKER, RELEASE)

    output = capsys.readouterr()
    shown = json.loads(output.out)
    assert (code, "CreateTransformJob" in aws.operations) == (0, False)
    assert not (tmp_path / "out").exists()
    assert (shown["service"], shown["operation"]) == ("sagemaker", "CreateTransformJob")
    assert (shown["params"]["ModelName"], shown["params"]["MaxPayloadInMB"]) == (RELEASE, 4)
    assert output.err == "dry run: no job was started\n"


@pytest.mark.parametrize(
    ("options", "model", "endpoint"), [("", RELEASE, "houses"), ("--model other", "other", "houses")]
)
def test_the_job_is_of_the_endpoints_model_or_of_another(run: Any, options: str, model: str, endpoint: str) -> None:
    _, aws = run(f"{BATCH} {options} --tags team=a", SAGEMAKER, RELEASE)

    (job,) = params(aws, "CreateTransformJob")
    assert job["ModelName"] == model
    assert {one["Key"]: one["Value"] for one in job["Tags"]} == {
        "team": "a", "serial-inference:endpoint": endpoint, "serial-inference:release": model,
        "serial-inference:contract": "c",
    }  # fmt: skip


@pytest.fixture
def clients() -> Clients:
    return Clients("us-east-1", {"AWS_ACCESS_KEY_ID": "local", "AWS_SECRET_ACCESS_KEY": "local"})


@pytest.fixture
def ask(run: Any) -> Any:
    """Let what is asked for without a verb meet these answers, too."""
    return lambda answers: run("logs", {"FilterLogEvents": {"events": []}, **answers})[1]


def test_an_object_that_would_lie_elsewhere_is_not_fetched(ask: Any, clients: Clients, tmp_path: Path) -> None:
    aws = ask({"ListObjectsV2": {"Contents": [{"Key": "out/../../x"}]}, "GetObject": {"Body": io.BytesIO(b"x")}})

    with pytest.raises(PipelineError, match="would not lie in"):
        batch_files.download(clients, Location("b", "out"), tmp_path / "here")

    assert "GetObject" not in aws.operations


@pytest.mark.parametrize(
    ("region", "more"),
    [("us-east-1", {}), ("eu-west-1", {"CreateBucketConfiguration": {"LocationConstraint": "eu-west-1"}})],
)
@pytest.mark.parametrize("code", ["404", "NoSuchBucket"])
def test_a_missing_bucket_is_made_in_the_region_private_and_encrypted(
    ask: Any, clients: Clients, region: str, more: dict[str, Any], code: str
) -> None:
    aws = ask({"HeadBucket": refused(code)})

    storage.ensure_bucket(Clients(region, clients.env), "b")

    owner = {"Bucket": "b", "ExpectedBucketOwner": ACCOUNT}
    private = ("BlockPublicAcls", "IgnorePublicAcls", "BlockPublicPolicy", "RestrictPublicBuckets")
    rule = {"ApplyServerSideEncryptionByDefault": {"SSEAlgorithm": "AES256"}}
    assert params(aws, "HeadBucket") == [owner]
    assert params(aws, "CreateBucket") == [{"Bucket": "b", **more}]
    assert params(aws, "PutPublicAccessBlock") == [
        {**owner, "PublicAccessBlockConfiguration": dict.fromkeys(private, True)}
    ]
    assert params(aws, "PutBucketEncryption") == [{**owner, "ServerSideEncryptionConfiguration": {"Rules": [rule]}}]


@pytest.mark.parametrize(("code", "message"), [("403", "is not owned by account"), ("AccessDenied", "is not owned by"),
                                            ("301", "AWS refused HeadBucket: no (301)")])  # fmt: skip
def test_a_bucket_that_is_not_ours_is_neither_made_nor_used(
    run: Any, capsys: pytest.CaptureFixture[str], code: str, message: str
) -> None:
    ended, aws = run(BATCH, {**SAGEMAKER, "HeadBucket": refused(code)}, RELEASE)

    assert ended == FAILED
    assert message in capsys.readouterr().err
    assert {"CreateBucket", "PutObject"} & set(aws.operations) == set()


def test_many_keys_are_deleted_by_the_thousand(ask: Any, clients: Clients) -> None:
    aws = ask({})
    keys = [str(number) for number in range(2001)]

    storage.delete_keys(clients, "b", keys)

    sent = params(aws, "DeleteObjects")
    assert [len(one["Delete"]["Objects"]) for one in sent] == [1000, 1000, 1]
    assert [key["Key"] for one in sent for key in one["Delete"]["Objects"]] == keys
    assert {(one["ExpectedBucketOwner"], one["Delete"]["Quiet"]) for one in sent} == {(ACCOUNT, True)}


def test_an_object_that_s3_keeps_is_an_error(ask: Any, clients: Clients) -> None:
    ask({"DeleteObjects": {"Errors": [{"Key": "a", "Message": "locked"}]}})

    with pytest.raises(PipelineError, match="S3 kept s3://b/a: locked"):
        storage.delete_keys(clients, "b", ["a"])


def test_of_the_bucket_only_the_endpoints_own_releases_and_batches_are_removed(ask: Any, clients: Clients) -> None:
    place = "serial-inference/houses"
    own = [f"{place}/{RELEASE}/featurizer/model.tar.gz", f"{place}/batch/{RELEASE}/in/rows.csv"]
    other = [f"{place}/notes.txt", f"{place}/batch/notes.txt", f"{place}/villas-20260101-000000-abcd/model.tar.gz"]
    aws = ask({"ListObjectsV2": {"Contents": [{"Key": key} for key in (*own, *other)]}})

    assert storage.release_keys(clients, "b", "houses") == own
    assert params(aws, "ListObjectsV2") == [{"Bucket": "b", "Prefix": f"{place}/", "ExpectedBucketOwner": ACCOUNT}]


def test_where_there_is_no_bucket_nothing_of_a_release_is_left(ask: Any, clients: Clients) -> None:
    ask({"ListObjectsV2": refused("NoSuchBucket")})

    assert storage.release_keys(clients, "b", "houses") == []


@pytest.mark.parametrize("key", ["", "alias/k"])
def test_archives_are_encrypted_by_the_key_that_is_given(ask: Any, clients: Clients, untrained: Path, key: str) -> None:
    aws = ask({})
    new = release.Release("houses", RELEASE, "c", {"team": "a b"})

    places = storage.upload(clients, new, untrained, ["featurizer", "pipeline"], "b", key or None)

    sent = params(aws, "PutObject")
    assert list(places.values()) == [f"s3://b/{one['Key']}" for one in sent]
    for one in sent:
        assert (one["ContentType"], one["ExpectedBucketOwner"]) == ("application/gzip", ACCOUNT)
        assert one["Tagging"].startswith("team=a+b&serial-inference%3Aendpoint=houses&")
        assert one.get("SSEKMSKeyId", "") == key
        assert one.get("ServerSideEncryption") == ("aws:kms" if key else None)
