"""`deploy`: artifacts and images become an endpoint that answers, or nothing at all."""

from __future__ import annotations

import argparse
from functools import partial
from typing import Any

from pipeline.endpoint import hosting, made, plan, session, update
from pipeline.endpoint.dry_run import Recorder, show
from pipeline.endpoint.errors import PipelineError
from pipeline.endpoint.hosting import Hosting, between
from pipeline.endpoint.plan import Plan
from pipeline.endpoint.session import Clients, find_endpoint, say, show_json
from pipeline.endpoint.undo import Undo, leaving_nothing
from pipeline.endpoint.waiting import last_words, remove_endpoint, wait_until_settled
from pipeline.hosts import host, verbs

HELP = "deploy the artifacts and images as a SageMaker endpoint, or on another host, or update one"
EXAMPLES = """\
The artifacts of `train` go to S3, the images that ./build_and_push.sh pushed are taken by digest, and one model of two
containers, or with --single of one that has both stages, serves on one endpoint. When it does not come up, the reason
and the containers' last words are shown, and all that was made is deleted again. --update replaces what a live endpoint
serves without losing a request.

examples:
  python -m pipeline deploy --role arn:aws:iam::123456789012:role/SageMakerServing
  python -m pipeline deploy --role SageMakerServing --dry-run
  python -m pipeline deploy --endpoint houses --artifacts artifacts/houses --instance-count 2 --data-capture 10
  ./build_and_push.sh pipeline && python -m pipeline deploy --single
  python -m pipeline deploy --update
  python -m pipeline deploy --update --strategy canary --wait 300 --bake 600 --alarm serial-inference-houses-5xx

--target puts both stages in one container elsewhere: `deploy` appends the artifacts to the pipeline image in ECR,
without Docker, and run again it updates what is there. docs/hosting.md compares the hosts. App Runner is closed to new
customers since 2026-04-30; AWS recommends ECS Express Mode, which is --target ecs.
  ./build_and_push.sh pipeline
  python -m pipeline deploy --target lambda --dry-run
  python -m pipeline deploy --target lambda --api http
  python -m pipeline deploy --target ecs --cpu 1024 --memory 2048 --most 10
"""
TIMEOUT = 1800


def add_arguments(parser: argparse.ArgumentParser) -> None:
    session.add_arguments(parser)
    parser.add_argument("--dry-run", action="store_true", help="print every request as JSON and send none")
    parser.add_argument(
        "--timeout", type=between(1, 86400), default=TIMEOUT, metavar="SECONDS",
        help="how long it may take to be in service (default %(default)s)",
    )  # fmt: skip
    plan.add_model_arguments(parser)
    hosting.add_arguments(parser)
    update.add_arguments(parser)
    host.add_arguments(parser)


def run(arguments: argparse.Namespace) -> int:
    verbs.refuse_strangers(arguments)
    if arguments.target != host.SAGEMAKER:
        return verbs.deploy(arguments)
    rollout = update.Rollout.of(arguments)
    recorder = Recorder(config="CURRENT-CONFIG" if arguments.update else None) if arguments.dry_run else None
    clients = plan.clients_of(arguments, recorder)
    release = plan.release_for(arguments)
    current = find_endpoint(clients, release.endpoint)
    if arguments.update:
        ready, described = update.run(arguments, clients, release, current, rollout, build)
    else:
        refuse_existing(current)
        ready = plan.make_plan(arguments, clients, release, Hosting.of(arguments))
        described = create(ready, arguments.timeout)
    if recorder:
        show(recorder)
    elif arguments.json:
        show_json(plan.summary(ready, described))
    else:
        print(how_to_call(ready, clients))
    return 0


def refuse_existing(current: dict[str, Any] | None) -> None:
    if current is None:
        return
    name, status = current["EndpointName"], current["EndpointStatus"]
    change = "replace what it serves: python -m pipeline deploy --update"
    delete = "delete it first: python -m pipeline delete"
    raise PipelineError(
        f"endpoint {name} exists already and is {status}",
        f"{delete if status in ('Failed', 'Deleting') else change} --endpoint {name}",
    )


def create(ready: Plan, timeout: float) -> dict[str, Any]:
    """Make everything and wait until it serves. Whatever goes wrong, Ctrl-C too, nothing is left."""
    name = ready.release.endpoint
    with leaving_nothing() as undo:
        build(ready, undo)
        undo(f"endpoint {name}", partial(_remove_own_endpoint, ready, timeout), uses=True)
        say(f"creating endpoint {name}")
        plan.make_endpoint(ready.clients, ready.release)
        return wait_until_serving(ready.clients, name, timeout)


def wait_until_serving(clients: Clients, name: str, timeout: float) -> dict[str, Any]:
    """Describe the endpoint once it is in service. Raises `PipelineError`, with the containers' last words shown."""
    described = wait_until_settled(clients, name, timeout)
    if described["EndpointStatus"] == "InService":
        return described
    say(last_words(clients, name))
    reason = described.get("FailureReason", "no reason given")
    raise PipelineError(
        f"endpoint {name} is {described['EndpointStatus']}: {reason}",
        "see the containers' last words above; docs/deploy.md says what each reason means",
    )


def build(ready: Plan, undo: Undo) -> None:
    """Artifacts, model and endpoint config of the release. `undo` is told of each before it is made."""
    name = ready.release.name
    say(f"release {name}: artifacts to s3://{ready.bucket}/")
    undo("artifacts", partial(plan.remove_artifacts, ready))
    model_data = plan.store_artifacts(ready)
    undo(f"model {name}", partial(made.remove, ready.clients, made.MODEL, name))
    say(f"creating model {name}")
    plan.make_model(ready, model_data)
    undo(f"endpoint config {name}", partial(made.remove, ready.clients, made.CONFIG, name))
    plan.make_config(ready.clients, ready.release, ready.hosting, ready.bucket)


def _remove_own_endpoint(ready: Plan, timeout: float) -> None:
    """Not one of the same name that somebody else was quicker to make."""
    current = find_endpoint(ready.clients, ready.release.endpoint)
    if current and current.get("EndpointConfigName") == ready.release.name:
        remove_endpoint(ready.clients, ready.release.endpoint, timeout)


def how_to_call(ready: Plan, clients: Clients) -> str:
    name, where = ready.release.endpoint, f"--region {clients.region}"
    return f"""
Endpoint {name} is in service: release {ready.release.name}.

  python -m pipeline invoke --endpoint {name} {where} {ready.artifacts / "test.csv"}

  aws sagemaker-runtime invoke-endpoint --endpoint-name {name} {where} \\
    --content-type text/csv --body fileb://{ready.artifacts / "test.csv"} answers.json

  import boto3
  runtime = boto3.client("sagemaker-runtime", region_name="{clients.region}")
  rows = open("{ready.artifacts / "test.csv"}", "rb").read()
  print(runtime.invoke_endpoint(EndpointName="{name}", ContentType="text/csv", Body=rows)["Body"].read())

It costs money until it is deleted: python -m pipeline delete --endpoint {name} {where}"""
