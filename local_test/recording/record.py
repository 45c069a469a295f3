"""`python -m local_test record`: keep what a running endpoint is asked and answers."""

from __future__ import annotations

import argparse
import socket
import sys
import threading
import uuid
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from local_test import predict
from local_test.plan import HOST
from local_test.recording.capture import read_capture
from local_test.recording.exchanges import Asked, BadRecording, Exchange, Recording, Unwritable, counted
from local_test.recording.targets import Endpoint, Target, Unanswered, Url
from local_test.state import ChainError
from serving.errors import full_disk
from serving.payload import CSV, JSON, JSONLINES

if TYPE_CHECKING:
    from werkzeug.serving import BaseWSGIServer

DESCRIPTION = """\
Keep the requests and answers of a running endpoint in a file, for `replay` to send to another one. With FILEs, these
are sent. Without, it listens where your clients can be pointed at, passes everything on to the endpoint and its answers
back, until Ctrl-C. --capture takes what data capture of a real endpoint has written to S3. The file holds the payloads
as they are and is readable by you alone."""
EXAMPLES = """\
examples:
  python -m local_test record before.jsonl artifacts/test.csv
  python -m local_test record before.jsonl --endpoint houses --region us-east-1 rows.csv --lines 1 --header
  python -m local_test record before.jsonl --listen 8090    # then call http://127.0.0.1:8090/invocations
  aws s3 cp --recursive s3://BUCKET/PREFIX captured/ && python -m local_test record before.jsonl --capture captured/"""


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = commands.add_parser(
        "record",
        help="keep requests and answers of a running endpoint in a file",
        description=DESCRIPTION,
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("recording", type=Path, help="the file to write; it must not be there yet")
    parser.add_argument("files", type=Path, nargs="*", metavar="FILE", help="payloads to send, one request each")
    add_target(parser)
    parser.add_argument("--content-type", help=f"of the FILEs (by suffix: {', '.join(predict.BY_SUFFIX)})")
    parser.add_argument("--accept", default=JSON, help="what the FILEs are to be answered with (%(default)s)")
    parser.add_argument("--lines", type=_count, metavar="N", help="lines of CSV or JSON Lines for each request (all)")
    parser.add_argument("--header", action="store_true", help="each CSV FILE begins with a header: send it each time")
    parser.add_argument("--listen", type=int, default=8090, metavar="PORT", help="on 127.0.0.1 (%(default)s)")
    parser.add_argument("--limit", type=_count, metavar="N", help="stop after so many requests")
    parser.add_argument("--capture", type=Path, metavar="PATH", help="a file or directory of data capture")
    parser.set_defaults(run=run)


def add_target(parser: argparse.ArgumentParser) -> None:
    """Which endpoint is asked."""
    group = parser.add_argument_group("which endpoint")
    group.add_argument("--url", help="its address (http://127.0.0.1:ROUTER_PORT, 8080), or that of any other host")
    group.add_argument("--endpoint", metavar="NAME", help="a SageMaker endpoint, wherever AWS_ENDPOINT_URL points")
    group.add_argument("--region", help="of the endpoint")
    group.add_argument("--profile", help="of ~/.aws/config")


def target_of(arguments: argparse.Namespace, env: Mapping[str, str]) -> Target:
    """Raises `ChainError` for arguments that name none, or two."""
    if arguments.endpoint:
        if arguments.url:
            raise ChainError("expected --url or --endpoint, got both")
        return Endpoint(arguments.endpoint, arguments.region, arguments.profile)
    return Url(arguments.url or f"http://{HOST}:{env.get('ROUTER_PORT') or 8080}")


def run(arguments: argparse.Namespace, env: Mapping[str, str]) -> int:
    try:
        if arguments.capture:
            return _keep(arguments, str(arguments.capture), read_capture(arguments.capture))
        target = target_of(arguments, env)
        if arguments.files:
            payloads = [one for file in arguments.files for one in _payloads(file, arguments)]
            return _keep(arguments, target.name, _sent(target, payloads))
        return _listen(arguments, target)
    except FileExistsError as error:
        raise ChainError(f"{arguments.recording} is there already: give another name, or remove it") from error
    except (BadRecording, Unwritable) as error:
        raise ChainError(str(error)) from error
    except OSError as error:
        raise ChainError(full_disk(error) or f"{error.filename or arguments.recording}: {error.strerror}") from error


def _keep(arguments: argparse.Namespace, source: str, exchanges: Iterable[Exchange]) -> int:
    with Recording(arguments.recording, source) as recording:
        try:
            for exchange in exchanges:
                recording.add(exchange)
                if recording.count == arguments.limit:
                    break
        except Unanswered as error:
            raise ChainError(f"{error}; {counted(recording.count)} recorded") from error
    print(f"Recorded {counted(recording.count)} of {source} in {recording.path}")
    return 0


def _sent(target: Target, payloads: Iterable[Asked]) -> Iterator[Exchange]:
    for asked in payloads:
        yield Exchange(uuid.uuid4().hex, asked, target(asked))


def _listen(arguments: argparse.Namespace, target: Target) -> int:
    from local_test.recording import proxy

    if not 0 <= arguments.listen <= 65535:
        raise ChainError(f"--listen: expected a port from 0 to 65535, got {arguments.listen}")
    try:
        listening = socket.create_server((HOST, arguments.listen))
    except OSError as error:
        raise ChainError(f"--listen {arguments.listen}: {error.strerror}; give another port") from error
    with listening, Recording(arguments.recording, target.name) as recording:
        return _serve(arguments, target, recording, proxy.make(target, recording, listening))


def _serve(arguments: argparse.Namespace, target: Target, recording: Recording, server: BaseWSGIServer) -> int:
    """Until Ctrl-C, the limit, or a disk that is full."""
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        print(f"Recording what {target.name} is asked through http://{HOST}:{server.port}/invocations", file=sys.stderr)
        print(f"or AWS_ENDPOINT_URL_SAGEMAKER_RUNTIME=http://{HOST}:{server.port}, until Ctrl-C", file=sys.stderr)
        while thread.is_alive() and not recording.failed and not 0 < (arguments.limit or 0) <= recording.count:
            thread.join(0.1)
    except KeyboardInterrupt:
        print(file=sys.stderr)
    finally:
        server.shutdown()
        server.server_close()
    if recording.failed:
        raise ChainError(recording.failed)
    print(f"Recorded {counted(recording.count)} of {target.name} in {recording.path}")
    return 0


def _payloads(file: Path, arguments: argparse.Namespace) -> Iterator[Asked]:
    content_type = arguments.content_type or predict.BY_SUFFIX.get(file.suffix)
    if not content_type:
        raise ChainError(f"{file}: expected a file that ends in {', '.join(predict.BY_SUFFIX)}, or --content-type")
    body = file.read_bytes()
    if not arguments.lines:
        yield Asked(content_type, arguments.accept, body)
        return
    if not content_type.startswith((CSV, JSONLINES)):
        raise ChainError(f"--lines: expected CSV or JSON Lines, got {file} of type {content_type}")
    lines = body.splitlines(keepends=True)
    header = lines.pop(0) if arguments.header and lines else b""
    for begin in range(0, len(lines), arguments.lines):
        yield Asked(content_type, arguments.accept, header + b"".join(lines[begin : begin + arguments.lines]))


def _count(text: str) -> int:
    if not text.isascii() or not text.isdigit() or not int(text):
        raise argparse.ArgumentTypeError(f"expected a whole number above 0, got {text}")
    return int(text)
