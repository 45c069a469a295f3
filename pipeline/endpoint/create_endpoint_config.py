"""`create-endpoint-config`: the second of the three steps of `deploy`, on its own."""

from __future__ import annotations

import argparse

from pipeline.endpoint import plan, session, storage
from pipeline.endpoint.create_model import EXAMPLES as EXAMPLES
from pipeline.endpoint.hosting import Hosting
from pipeline.endpoint.hosting import add_arguments as add_hosting_arguments
from pipeline.endpoint.made import made_release
from pipeline.endpoint.session import Clients, say, show_json

HELP = "step 2 of 3: create the endpoint config of a model"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    session.add_arguments(parser)
    parser.add_argument("--release", required=True, metavar="NAME", help="what create-model printed")
    parser.add_argument("--bucket", help="for captured data (default sagemaker-REGION-ACCOUNT)")
    parser.add_argument("--kms-key", metavar="KEY", help="KMS key that encrypts captured data")
    add_hosting_arguments(parser)


def run(arguments: argparse.Namespace) -> int:
    clients, given = Clients.of(arguments), Hosting.of(arguments)
    release = made_release(clients, arguments.release)
    plan.make_config(clients, release, given, arguments.bucket or storage.default_bucket(clients))
    say(f"endpoint config {release.name}")
    if arguments.json:
        show_json({"release": release.name, "endpoint": release.endpoint})
    return 0
