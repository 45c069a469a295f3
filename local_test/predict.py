"""`predict`: send a file to the local endpoint and print what it answers."""

from __future__ import annotations

import argparse
import sys
import urllib.error
import urllib.request
from collections.abc import Mapping
from pathlib import Path

from serving.payload import CSV, JSON, JSONLINES, NPY

HELP = "send a file to the endpoint, or to one container, and print the answer"
BY_SUFFIX = {".csv": CSV, ".json": JSON, ".jsonl": JSONLINES, ".npy": NPY}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", type=Path, help="the payload, such as local_test/payloads/abalone.csv")
    parser.add_argument("--content-type", help="of the payload (default: by the file's suffix)")
    parser.add_argument("--accept", default="", help="what to answer, such as text/csv")
    parser.add_argument("--url", help="default http://127.0.0.1:ROUTER_PORT, or 8080")


def run(arguments: argparse.Namespace, env: Mapping[str, str]) -> int:
    content_type = arguments.content_type or BY_SUFFIX.get(arguments.file.suffix)
    if not content_type:
        print(f"expected a file that ends in {', '.join(BY_SUFFIX)}, or --content-type", file=sys.stderr)
        return 2
    url = arguments.url or f"http://127.0.0.1:{env.get('ROUTER_PORT') or 8080}"
    try:
        body = arguments.file.read_bytes()
    except OSError as error:
        print(f"{arguments.file}: {error.strerror}", file=sys.stderr)
        return 2
    headers = {"Content-Type": content_type} | ({"Accept": arguments.accept} if arguments.accept else {})
    return _send(urllib.request.Request(f"{url}/invocations", body, headers))  # noqa: S310 - the user's own address


def _send(request: urllib.request.Request) -> int:
    try:
        with urllib.request.urlopen(request, timeout=70) as response:  # noqa: S310
            answer = response.read()
    except urllib.error.HTTPError as refusal:
        print(f"{refusal.code}: {refusal.read().decode('utf-8', 'replace')}", file=sys.stderr)
        return 1
    except OSError as error:
        print(f"no answer from {request.full_url}: {error}; start the chain with: make up", file=sys.stderr)
        return 1
    sys.stdout.buffer.write(answer if answer.endswith(b"\n") else answer + b"\n")
    return 0
