"""`invoke`: the rows of a file through an endpoint, in as many requests as they need; the answers in their order."""

from __future__ import annotations

import argparse
import contextlib
import io
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

from pipeline.endpoint import answers, payloads, runtime, session
from pipeline.endpoint.errors import NOT_FOUND, WRONG, PipelineError
from pipeline.endpoint.payloads import BY_SUFFIX, MOST_BYTES, MOST_ROWS, Batch
from pipeline.endpoint.sending import Progress, Sending
from serving.payload import CSV, JSON

HELP = "send the rows of a file to an endpoint and write its answers"
EXAMPLES = f"""\
The content type follows the file's suffix: {", ".join(f"{suffix} is {media}" for suffix, media in BY_SUFFIX.items())}.
CSV, JSON Lines and lists in JSON are cut between rows into requests of at most {MOST_BYTES:,} bytes, with CSV's header
in each; NPY goes whole. What fails in passing (throttling, 5xx, a lost connection) is asked again: a prediction may be
asked for twice. Answers come in the order of the rows, all of them or none.

examples:
  python -m pipeline invoke rows.csv
  python -m pipeline invoke rows.jsonl --output answers.jsonl --concurrency 8
  python -m pipeline invoke rows.csv --accept 'text/csv; output=label' --json --output labels.csv
  tail -n +2 rows.csv | python -m pipeline invoke - --content-type text/csv --header absent
"""
MOST_ATTRIBUTES = 1024  # characters
HEADERS = {"auto": None, "present": True, "absent": False}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", metavar="FILE", help="the rows; - for standard input")
    parser.add_argument("--content-type", help="of the file (default by its suffix)")
    parser.add_argument("--accept", help=f"type of the answers (default by the suffix of --output, else {JSON})")
    parser.add_argument("--output", type=Path, metavar="FILE", help="where the answers go (default standard output)")
    parser.add_argument(
        "--header", choices=HEADERS, default="auto",
        help="whether CSV begins with a header (default auto: no number in the first row, but in the second)",
    )  # fmt: skip
    parser.add_argument(
        "--rows-per-request", type=positive, default=MOST_ROWS, metavar="N", help="at most (default %(default)s)"
    )
    parser.add_argument(
        "--concurrency", type=positive, default=4, metavar="N", help="requests at a time (default %(default)s)"
    )
    parser.add_argument(
        "--retries", type=natural, default=runtime.RETRIES, metavar="N", help="of a request (default %(default)s)"
    )
    parser.add_argument("--target-variant", metavar="NAME", help="the production variant to ask")
    parser.add_argument("--custom-attributes", type=visible, metavar="TEXT", help="X-Amzn-SageMaker-Custom-Attributes")
    session.add_arguments(parser)


def positive(text: str) -> int:
    if not (text.isascii() and text.isdigit() and int(text) > 0):
        raise argparse.ArgumentTypeError(f"expected a whole number from 1, got {text!r}")
    return int(text)


def visible(text: str) -> str:
    if not (text.isascii() and text.isprintable() and 0 < len(text) <= MOST_ATTRIBUTES):
        raise argparse.ArgumentTypeError(f"expected 1 to {MOST_ATTRIBUTES} visible ASCII characters, got {text[:80]!r}")
    return text


def natural(text: str) -> int:
    return 0 if text == "0" else positive(text)


def run(arguments: argparse.Namespace) -> int:
    content_type = arguments.content_type or payloads.by_suffix(arguments.file)
    media = answers.media_type(content_type)
    endpoint = session.endpoint_name(arguments)
    header = header_of(content_type, arguments.header)
    client = runtime.new_client(session.Clients.of(arguments), arguments.concurrency)
    with opened(arguments.file) as file:
        sending = Sending(
            client,
            "standard input" if arguments.file == "-" else arguments.file,
            request(arguments, endpoint, content_type),
            arguments.concurrency,
            arguments.retries,
            judged_header=media == CSV and header is None,
            progress=Progress(_size(arguments.file)) if sys.stderr.isatty() else None,
        )
        limits = payloads.Limits(arguments.rows_per_request)
        took = write(sending, payloads.batches(file, media, limits, header), arguments.output)
    _report(sending.summary(endpoint, took), arguments)
    return 0


def header_of(content_type: str, given: str) -> bool | None:
    """Whether CSV has a header, from --header or the content type's own parameter; None: nobody says."""
    stated = content_type.lower().replace(" ", "").replace('"', "").partition(";header=")[2].partition(";")[0]
    return HEADERS[given] if given != "auto" else HEADERS.get(stated)


def request(arguments: argparse.Namespace, endpoint: str, content_type: str) -> dict[str, Any]:
    """InvokeEndpoint's arguments, but the body."""
    if arguments.header != "auto" and answers.media_type(content_type) == CSV and "header=" not in content_type.lower():
        content_type = f"{content_type}; header={arguments.header}"
    suffix = arguments.output.suffix if arguments.output else ""
    optional = {"TargetVariant": arguments.target_variant, "CustomAttributes": arguments.custom_attributes}
    return {
        "EndpointName": endpoint,
        "ContentType": content_type,
        "Accept": arguments.accept or BY_SUFFIX.get(suffix, JSON),
        **{name: value for name, value in optional.items() if value},
    }


@contextlib.contextmanager
def opened(file: str) -> Iterator[BinaryIO]:
    """The file, or standard input for `-`. Raises `PipelineError` when it cannot be read."""
    if file == "-":
        yield sys.stdin.buffer
        return
    try:
        with Path(file).open("rb") as stream:
            yield stream
    except FileNotFoundError as error:
        raise PipelineError(f"there is no file {file}", "check its name", NOT_FOUND) from error
    except OSError as error:
        raise PipelineError(f"{file}: {error.strerror}", "check its name and permissions", WRONG) from error


def _size(file: str) -> int:
    return 0 if file == "-" else Path(file).stat().st_size


def write(sending: Sending, batches: Iterator[Batch], output: Path | None) -> float:
    """Send all and write the whole answer, or nothing of it. Returns how many seconds it took."""
    started = time.monotonic()
    with _scratch(output) as scratch:
        try:
            for piece in _pieces(sending, batches):
                scratch.write(piece)
        finally:
            if sending.progress and sending.seconds:
                sending.progress.end()
        took = time.monotonic() - started
        scratch.flush()
        if output:
            Path(scratch.name).replace(output)
        else:
            _print(scratch)
    return took


def _pieces(sending: Sending, batches: Iterator[Batch]) -> Iterator[bytes]:
    """The first answer says of which type they all are."""
    bodies = sending.bodies(batches)
    first = next(bodies)

    def every() -> Iterator[bytes]:
        yield first
        yield from bodies

    return answers.joined(every(), sending.media)


@contextlib.contextmanager
def _scratch(output: Path | None) -> Iterator[Any]:
    """A file to write, beside the output so that it can take its name; gone when that did not happen."""
    if output is None:
        with tempfile.TemporaryFile() as unnamed:
            yield unnamed
        return
    if output.is_dir():
        raise PipelineError(f"--output {output}: it is a directory", "name a file", WRONG)
    beside = output.with_name(f".{output.name}.new")
    try:
        file = beside.open("wb")
    except OSError as error:
        raise PipelineError(f"--output {output}: {error.strerror}", "name a file that can be written", WRONG) from error
    try:
        with file:
            yield file
    finally:
        beside.unlink(missing_ok=True)


def _print(answer: BinaryIO) -> None:
    answer.seek(0)
    sys.stdout.flush()
    shutil.copyfileobj(answer, sys.stdout.buffer)
    if answer.tell() and _last_byte(answer) != b"\n" and sys.stdout.isatty():
        sys.stdout.buffer.write(b"\n")
    sys.stdout.buffer.flush()


def _last_byte(answer: BinaryIO) -> bytes:
    answer.seek(-1, io.SEEK_END)
    return answer.read(1)


def _report(summary: dict[str, Any], arguments: argparse.Namespace) -> None:
    """--json: on standard output, unless the answers are there."""
    if arguments.json:
        with contextlib.redirect_stdout(sys.stdout if arguments.output else sys.stderr):
            session.show_json(summary)
    elif arguments.output:
        times = ", ".join(f"{name} {value:.0f} ms" for name, value in summary["latency_ms"].items())
        counts = f"{summary['rows']:,} answers to {summary['requests']:,} requests in {summary['seconds']:.1f} s"
        session.say(f"wrote {arguments.output}: {counts} ({times}; {summary['retries']} retries)")
