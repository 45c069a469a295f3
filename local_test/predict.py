"""`python -m local_test predict`: send a file to the local endpoint and print what it answers."""

from __future__ import annotations

import argparse
import json
import sys
import urllib.error
import urllib.request
from collections.abc import Mapping
from pathlib import Path

from local_test.terminal import printable
from serving.payload import CSV, JSON, JSONLINES, NPY
from serving.proxies import advice

BY_SUFFIX = {".csv": CSV, ".json": JSON, ".jsonl": JSONLINES, ".npy": NPY}
EXAMPLES = """\
examples:
  python -m local_test predict local_test/payloads/rows.csv
  python -m local_test predict local_test/payloads/rows.json --accept text/csv
  python -m local_test predict local_test/payloads/features.npy --url http://127.0.0.1:8082   # the predictor alone"""


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = commands.add_parser(
        "predict",
        help="send a file to the endpoint, or to one container, and print the answer",
        description="Send a file to the endpoint, or to one container, and print the answer. Exits with 1 when it is "
        "refused and says by whom and why.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("file", type=Path, help="the payload")
    parser.add_argument("--content-type", help=f"of the payload (by its suffix: {', '.join(BY_SUFFIX)})")
    parser.add_argument(
        "--header", choices=("present", "absent"), help="whether CSV begins with one (the endpoint judges)"
    )
    parser.add_argument("--accept", default=JSON, help="what to answer (%(default)s)")
    parser.add_argument("--url", help="where to (http://127.0.0.1:ROUTER_PORT, 8080)")
    parser.add_argument("--endpoint", help="call it by name, as SageMaker's runtime API does")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace, env: Mapping[str, str]) -> int:
    content_type = arguments.content_type or BY_SUFFIX.get(arguments.file.suffix)
    if not content_type:
        print(f"expected a file that ends in {', '.join(BY_SUFFIX)}, or --content-type", file=sys.stderr)
        return 2
    if arguments.header:
        content_type += f"; header={arguments.header}"
    try:
        body = arguments.file.read_bytes()
    except OSError as error:
        print(f"{arguments.file}: {error.strerror}", file=sys.stderr)
        return 2
    url = (arguments.url or f"http://127.0.0.1:{env.get('ROUTER_PORT') or 8080}").rstrip("/")
    if not url.startswith(("http://", "https://")):
        print(f"--url: expected http://HOST:PORT, got {url}", file=sys.stderr)
        return 2
    path = f"/endpoints/{arguments.endpoint}/invocations" if arguments.endpoint else "/invocations"
    headers = {"Content-Type": content_type, "Accept": arguments.accept}
    return _send(urllib.request.Request(url + path, body, headers))  # noqa: S310 - http, checked above


def _send(request: urllib.request.Request) -> int:
    # A little longer than the endpoint's own 60 seconds, so that it is the one to say what was slow.
    try:
        with urllib.request.urlopen(request, timeout=70) as response:  # noqa: S310
            answer = response.read()
    except urllib.error.HTTPError as refusal:
        with refusal:
            name = refusal.headers.get("x-amzn-ErrorType", "refused")
            said = explain(refusal.code, name, refusal.read())
        undecided = "say --header present or --header absent" if "bad_header" in said else ""
        print(said, *filter(None, [undecided, advice(request.full_url)]), sep="\n", file=sys.stderr)
        return 1
    except OSError as error:
        reason = getattr(error, "reason", error)
        next_step = advice(request.full_url) or "start the chain with `make up`"
        print(f"no answer from {request.full_url} ({reason}): {next_step}", file=sys.stderr)
        return 1
    sys.stdout.flush()
    sys.stdout.buffer.write(answer if answer.endswith(b"\n") else answer + b"\n")
    sys.stdout.buffer.flush()
    return 0


def explain(status: int, name: str, body: bytes) -> str:
    """A refusal in full: of the endpoint, or through it of the container that the message names."""
    text = body.decode("utf-8", "replace")
    try:
        error = json.loads(text)
    except (ValueError, RecursionError):
        error = None
    if not isinstance(error, dict):
        return printable(f"{status}: {text}")
    code = error.get("ErrorCode") or error.get("code") or name
    lines = [f"{status} {code}: {error.get('Message') or error.get('message') or text}"]
    if "OriginalStatusCode" in error:
        lines.append(f"the container answered {error['OriginalStatusCode']}: {error.get('OriginalMessage')}")
        lines.append(f"its log: {error.get('LogStreamArn')}")
    return "\n".join(map(printable, lines))
