"""`batch`: Batch Transform on the endpoint's model, from a file or S3 to a directory or S3."""

from __future__ import annotations

import argparse
import contextlib
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from pipeline.endpoint import answers, batch_files, comparison, made, release, session, storage, transform
from pipeline.endpoint.batch_files import ABSENT, KEEP, REFUSE, STRIP, Location, Rows
from pipeline.endpoint.errors import FAILED, WRONG, PipelineError
from pipeline.endpoint.hosting import INSTANCE_TYPE, between
from pipeline.endpoint.payloads import BY_SUFFIX, by_suffix
from pipeline.endpoint.session import Clients, describe_endpoint, say
from pipeline.endpoint.transform import USUAL_MB, Job
from pipeline.endpoint.valid import check_requests
from serving.payload import CSV, JSONLINES

HELP = "answer all rows of a file, or of many in S3, with Batch Transform"
EXAMPLES = """\
A local file goes to the bucket for as long as the job runs; answers lie beside the name of each input as NAME.out, in
the order of the rows. Batch Transform does not remove a header: one that is found is refused, stripped or kept as
--header says, and with `absent` none is looked for (nor in s3://). --compare N sends N rows to the endpoint too and
exits with 1, naming the rows, when an answer is not the same to the bit.

examples:
  python -m pipeline batch rows.csv --header strip --output answers/ --compare 100
  python -m pipeline batch s3://BUCKET/rows/ --output s3://BUCKET/answers/ --instance-count 4
  python -m pipeline batch rows.csv --join input --output-filter '$[0,-1]' --output answers/
  python -m pipeline batch rows.jsonl --model NAME --strategy SingleRecord --output answers/ --dry-run
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("input", metavar="FILE|s3://...", help="a file, or the objects whose keys begin so")
    parser.add_argument("--output", required=True, metavar="DIRECTORY|s3://...", help="where the answers go")
    parser.add_argument("--model", metavar="NAME", help="another model than the endpoint's")
    parser.add_argument("--content-type", help=f"of the input (default by its suffix, {', '.join(BY_SUFFIX)})")
    parser.add_argument("--accept", help="type of the answers (default the content type)")
    parser.add_argument(
        "--header", choices=(REFUSE, STRIP, KEEP, ABSENT), default=REFUSE, help="of CSV (default %(default)s)"
    )
    group = parser.add_argument_group("how it is cut and put together")
    group.add_argument("--split", choices=("Line", "None"), help="SplitType (default Line; None for .json, .npy)")
    group.add_argument("--strategy", choices=("MultiRecord", "SingleRecord"), help="BatchStrategy (as the model says)")
    group.add_argument("--assemble-with", choices=("Line", "None"),
                       help="default None: our answers end their lines; Line for --join and filters")  # fmt: skip
    group.add_argument(
        "--max-payload",
        type=between(1, 100),
        default=0,
        metavar="MB",
        help=f"MaxPayloadInMB (default {USUAL_MB} of lines)",
    )
    group.add_argument("--max-concurrent", type=between(1, 100), default=0, metavar="N",
                       help="MaxConcurrentTransforms of an instance (as the model says)")  # fmt: skip
    group.add_argument("--join", choices=("input",), help="put each answer behind its input")
    group.add_argument(
        "--input-filter", default="", metavar="JSONPATH", help="what the model gets of a record: '$[1:]'"
    )
    group.add_argument("--output-filter", default="", metavar="JSONPATH", help="what is kept of a joined record")
    group = parser.add_argument_group("what it runs on")
    group.add_argument("--instance-type", default=INSTANCE_TYPE, metavar="TYPE", help="default %(default)s")
    group.add_argument("--instance-count", type=between(1, 100), default=1, metavar="N", help="default %(default)s")
    group.add_argument("--bucket", help="for a local file (default sagemaker-REGION-ACCOUNT, made when missing)")
    group.add_argument("--kms-key", metavar="KEY", help="KMS key of input, answers and the instances' disks")
    group.add_argument("--tags", type=release.tag, nargs="+", default=[], metavar="KEY=VALUE", help="for the job")
    group.add_argument("--timeout", type=between(1, 7 * 86400), default=86400, metavar="SECONDS",
                       help="how long it may take (default %(default)s); then it is stopped")  # fmt: skip
    parser.add_argument("--compare", type=between(1, 1_000_000), default=0, metavar="N", help="rows with the endpoint")
    parser.add_argument("--artifacts", type=Path, default=session.ARTIFACTS, metavar="DIR",
                        help="whose contract tells the order of a header's columns (default %(default)s)")  # fmt: skip
    parser.add_argument("--dry-run", action="store_true", help="print the job's request and send nothing")
    session.add_arguments(parser)


@dataclass(frozen=True)
class Places:
    """Where rows and answers lie while the job runs; `scratch` is ours to empty."""

    source: Location
    target: Location
    scratch: Location


def run(arguments: argparse.Namespace) -> int:
    clients = Clients.of(arguments)
    content_type = arguments.content_type or by_suffix(arguments.input)
    rows = _look_at(arguments, answers.media_type(content_type))
    if rows and rows.bare and "header=" not in content_type.lower():
        content_type += "; header=absent"
    model, endpoint, tags = find_model(clients, arguments)
    name = release.new_release(endpoint, "", {}).name
    places = _places(clients, arguments, release.scratch_prefix(endpoint) + name)
    job = job_of(arguments, name, model, content_type, places, tags)
    asked = transform.request(job)
    check_requests(clients, "sagemaker", CreateTransformJob=asked)
    _check_comparison(arguments, job)
    if arguments.dry_run:
        say("dry run: no job was started")
        session.show_json({"service": "sagemaker", "operation": "CreateTransformJob", "params": asked})
        return 0
    return _run(clients, arguments, job, rows, places, endpoint)


def _look_at(arguments: argparse.Namespace, media: str) -> Rows | None:
    """The local file, found to be fit. None for one in S3."""
    if not _in_s3(arguments.output) and not arguments.dry_run:
        batch_files.check_writable(Path(arguments.output))
    if _in_s3(arguments.input):
        if arguments.header == STRIP:
            raise PipelineError(
                "--header strip is for a local file", "store the objects without a header, or give the file", WRONG
            )
        return None
    rows = Rows.of(Path(arguments.input), media, lines=_split(arguments, media) == "Line")
    if next(rows.records(), None) is None:
        raise PipelineError(f"there are no rows in {rows.file}", "give a file with at least one row", WRONG)
    return batch_files.judge_header(rows, arguments.header, arguments.artifacts)


def find_model(clients: Clients, arguments: argparse.Namespace) -> tuple[str, str, dict[str, str]]:
    """The model, the endpoint's name, and the tags of a job. Raises `PipelineError` when one is not there."""
    client = clients.client("sagemaker")
    if arguments.model:
        model = str(arguments.model)
    else:
        described = describe_endpoint(clients, session.endpoint_name(arguments))
        config = client.describe_endpoint_config(EndpointConfigName=described["EndpointConfigName"])
        model = str(config["ProductionVariants"][0]["ModelName"])
    tags = made.tags_of(clients, client.describe_model(ModelName=model)["ModelArn"])
    endpoint = arguments.endpoint or tags.get(release.ENDPOINT_TAG) or session.endpoint_name(arguments)
    own = {release.ENDPOINT_TAG: endpoint, release.RELEASE_TAG: model}
    if contract := tags.get(release.CONTRACT_TAG):
        own[release.CONTRACT_TAG] = contract
    return model, endpoint, {**dict(arguments.tags), **own}


def job_of(
    arguments: argparse.Namespace, name: str, model: str, content_type: str, places: Places, tags: dict[str, str]
) -> Job:
    """The job as the arguments have it."""
    looks = bool(arguments.join or arguments.output_filter)
    split = _split(arguments, answers.media_type(content_type))
    return Job(
        name=name,
        model=model,
        source=str(places.source),
        target=str(places.target),
        content_type=content_type,
        accept=arguments.accept or answers.media_type(content_type),
        split=split,
        strategy=arguments.strategy or "",
        # Our batch answers end each line: Line, which ends each payload once more, is for what it takes apart itself.
        assemble=arguments.assemble_with or ("Line" if looks else "None"),
        payload_mb=arguments.max_payload or (USUAL_MB if split == "Line" else 0),
        concurrent=arguments.max_concurrent,
        join=bool(arguments.join),
        input_filter=arguments.input_filter,
        output_filter=arguments.output_filter,
        instance_type=arguments.instance_type,
        instance_count=arguments.instance_count,
        kms_key=arguments.kms_key or "",
        tags=tags,
    )


def _places(clients: Clients, arguments: argparse.Namespace, scratch: str) -> Places:
    local = not _in_s3(arguments.input) or not _in_s3(arguments.output)
    bucket = (arguments.bucket or storage.default_bucket(clients)) if local else Location.of(arguments.input).bucket
    ours = Location(bucket, scratch)
    given = _in_s3(arguments.input)
    source = Location.of(arguments.input) if given else Location(bucket, f"{scratch}/in/{Path(arguments.input).name}")
    target = Location.of(arguments.output) if _in_s3(arguments.output) else Location(bucket, f"{scratch}/out")
    return Places(source, target, ours)


def _run(
    clients: Clients, arguments: argparse.Namespace, job: Job, rows: Rows | None, places: Places, endpoint: str
) -> int:
    began = time.monotonic()
    with _scratch(clients, places, rows is not None or not _in_s3(arguments.output)):
        if rows:
            say(f"uploading {rows.file} to {places.source}")
            with rows.stripped() if arguments.header == STRIP else contextlib.nullcontext(rows.file) as file:
                batch_files.upload(clients, file, places.source, arguments.kms_key)
        done = transform.run(clients, transform.request(job), arguments.timeout)
        outputs = _outputs(clients, arguments, places, done["CreationTime"])
        shown = {"job": job.name, "model": job.model, "seconds": round(time.monotonic() - began, 3), "outputs": outputs}
        differences = []
        if rows and arguments.compare:
            output = next(Path(one) for one in outputs if one.endswith(f"{rows.file.name}.out"))
            differences = comparison.compare(clients, endpoint, rows, output, job.accept, arguments.compare)
            compared = min(arguments.compare, sum(1 for _ in rows.records()))
            shown["compared"] = comparison.summary(differences, compared)
    _report(shown, differences, arguments)
    return FAILED if differences else 0


@contextlib.contextmanager
def _scratch(clients: Clients, places: Places, used: bool) -> Iterator[None]:
    """The bucket is there before, and what we put there is gone after."""
    if used:
        storage.ensure_bucket(clients, places.scratch.bucket)
    try:
        yield
    finally:
        if used:
            storage.delete_keys(clients, places.scratch.bucket, batch_files.listed(clients, places.scratch))


def _outputs(clients: Clients, arguments: argparse.Namespace, places: Places, since: datetime) -> list[str]:
    """What the job wrote; the place may have had other answers before."""
    if not _in_s3(arguments.output):
        return [str(path) for path in batch_files.download(clients, places.target, Path(arguments.output))]
    return [f"s3://{places.target.bucket}/{key}" for key in batch_files.listed(clients, places.target, since)]


def _check_comparison(arguments: argparse.Namespace, job: Job) -> None:
    if not arguments.compare:
        return
    types = {answers.media_type(kind) for kind in (job.content_type, job.accept)}
    fit = not _in_s3(arguments.input) and not _in_s3(arguments.output) and types <= {CSV, JSONLINES}
    if not fit or job.looks_into_answers or job.input_filter:
        raise PipelineError(
            "--compare needs a local FILE and DIRECTORY, CSV or JSON Lines, and neither filters nor --join",
            "leave out one or the other",
            WRONG,
        )


def _report(shown: dict[str, Any], differences: list[comparison.Difference], arguments: argparse.Namespace) -> None:
    if arguments.json:
        session.show_json(shown)
    else:
        print(f"job {shown['job']} of model {shown['model']} is complete after {shown['seconds']:.0f} s:")
        for output in shown["outputs"]:
            print(f"  {output}")
    if arguments.compare and not differences and not arguments.json:
        print(f"the endpoint gives the same answers to {shown['compared']['rows']} rows, to the bit")
    for one in differences[: comparison.SHOWN]:
        say(f"DIFFERENT {one}")
    if differences:
        say(f"{len(differences)} of {shown['compared']['rows']} rows differ; is the endpoint's model {shown['model']}?")


def _split(arguments: argparse.Namespace, media: str) -> str:
    return str(arguments.split or ("Line" if media in (CSV, JSONLINES) else "None"))


def _in_s3(place: str) -> bool:
    return place.startswith("s3://")
