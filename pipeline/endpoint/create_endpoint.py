"""`create-endpoint`: the third of the three steps of `deploy`, on its own."""

from __future__ import annotations

import argparse

from pipeline.endpoint import deploy, plan, session
from pipeline.endpoint.create_model import EXAMPLES as EXAMPLES
from pipeline.endpoint.hosting import between
from pipeline.endpoint.made import made_release
from pipeline.endpoint.session import Clients, find_endpoint, show_json

HELP = "step 3 of 3: create the endpoint of an endpoint config and wait until it serves"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    session.add_arguments(parser)
    parser.add_argument("--release", required=True, metavar="NAME", help="what create-model printed")
    parser.add_argument("--timeout", type=between(1, 86400), default=deploy.TIMEOUT, metavar="SECONDS")


def run(arguments: argparse.Namespace) -> int:
    clients = Clients.of(arguments)
    release = made_release(clients, arguments.release)
    deploy.refuse_existing(find_endpoint(clients, release.endpoint))
    plan.make_endpoint(clients, release)
    described = deploy.wait_until_serving(clients, release.endpoint, arguments.timeout)
    if arguments.json:
        show_json({"release": release.name, "endpoint": release.endpoint, "status": described["EndpointStatus"]})
    else:
        print(f"endpoint {release.endpoint} is in service")
    return 0
