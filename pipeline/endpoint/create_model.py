"""`create-model`: the first of the three steps of `deploy`, on its own."""

from __future__ import annotations

import argparse
from functools import partial

from pipeline.endpoint import plan, session
from pipeline.endpoint.hosting import Hosting
from pipeline.endpoint.hosting import add_arguments as add_hosting_arguments
from pipeline.endpoint.session import say, show_json
from pipeline.endpoint.undo import leaving_nothing

HELP = "step 1 of 3: upload the artifacts and create the model"
EXAMPLES = """\
Prints the release's name, which the next two steps want. Containers and network are the model's; instances are
the config's.

examples:
  release=$(python -m pipeline create-model --role SageMakerServing)
  python -m pipeline create-endpoint-config --release $release --instance-type ml.m5.xlarge
  python -m pipeline create-endpoint --release $release
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    session.add_arguments(parser)
    plan.add_model_arguments(parser)
    add_hosting_arguments(parser)


def run(arguments: argparse.Namespace) -> int:
    clients = plan.clients_of(arguments, None)
    ready = plan.make_plan(arguments, clients, plan.release_for(arguments), Hosting.of(arguments))
    with leaving_nothing() as undo:
        undo("artifacts", partial(plan.remove_artifacts, ready))
        model_data = plan.store_artifacts(ready)
        plan.make_model(ready, model_data)
    say(f"model {ready.release.name} for endpoint {ready.release.endpoint}")
    if arguments.json:
        show_json({"release": ready.release.name, "endpoint": ready.release.endpoint, "images": ready.images})
    else:
        print(ready.release.name)
    return 0
