"""`delete`: everything that was made for an endpoint, and what a run that died has left."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

from pipeline.endpoint import made, session, storage, transform
from pipeline.endpoint.autoscale import deregister, scaled_variants
from pipeline.endpoint.containers import ENVIRONMENT
from pipeline.endpoint.deploy import TIMEOUT
from pipeline.endpoint.errors import PipelineError, found_or_none
from pipeline.endpoint.hosting import between
from pipeline.endpoint.images import delete_images
from pipeline.endpoint.made import Found
from pipeline.endpoint.release import PREFIX
from pipeline.endpoint.session import Clients, find_endpoint, say, show_json
from pipeline.endpoint.waiting import remove_endpoint
from pipeline.hosts import release_image, verbs
from pipeline.hosts.host import SAGEMAKER, add_target

HELP = "delete an endpoint and all that was made for it"
EXAMPLES = """\
Stops its transform jobs and deletes the scaling target, the endpoint, its endpoint configs and its models, found by
their tags: also what a run that died has left. Data that was captured and logs stay. On a terminal it asks first. Safe
to run twice: when nothing is left it says so. With --target also the release images and the roles that `deploy` made
there.

examples:
  python -m pipeline delete --dry-run
  python -m pipeline delete --endpoint houses --artifacts --yes
  python -m pipeline delete --artifacts --images
  python -m pipeline delete --target lambda
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    session.add_arguments(parser)
    add_target(parser)
    parser.add_argument(
        "--artifacts",
        action="store_true",
        help="also the artifacts of all its releases in S3, and rows of batches that died",
    )
    parser.add_argument("--bucket", help="where they are (default sagemaker-REGION-ACCOUNT)")
    parser.add_argument(
        "--images", action="store_true", help="also all images in ECR that no model and no other host uses"
    )
    parser.add_argument("--repository-prefix", metavar="NAME", help=f"of the ECR repositories (default {PREFIX})")
    parser.add_argument("--yes", action="store_true", help="do not ask")
    parser.add_argument("--dry-run", action="store_true", help="only look: show what would be deleted")
    parser.add_argument("--timeout", type=between(1, 86400), default=TIMEOUT, metavar="SECONDS")


def run(arguments: argparse.Namespace) -> int:
    clients = Clients.of(arguments)
    name = session.endpoint_name(arguments)
    found = list((find if arguments.target == SAGEMAKER else verbs.find)(clients, arguments, name))
    shown = [{"kind": one.kind, "name": one.name} for one in found]
    if not arguments.dry_run:
        if found and not arguments.yes and sys.stdin.isatty():
            _confirm(name, found)
        for one in found:
            say(f"deleting {one.kind} {one.name}")
            one.delete()
    verb = "would delete" if arguments.dry_run else "deleted"
    if arguments.json:
        show_json({"endpoint": name, verb.replace(" ", "_"): shown})
    else:
        print("\n".join(f"{verb} {one['kind']} {one['name']}" for one in shown) or f"nothing is left of {name}")
    return 0


def find(clients: Clients, arguments: argparse.Namespace, name: str) -> Iterator[Found]:
    """All there is to delete, in the order in which it can be deleted."""
    for job in made.find_made(clients, made.JOB, name, StatusEquals="InProgress"):
        yield Found("running transform job", job, partial(transform.stop, clients, job))
    for target in scaled_variants(clients, name):
        yield Found("scaling target", target["ResourceId"], partial(deregister, clients, target))
    if find_endpoint(clients, name):
        yield Found("endpoint", name, partial(remove_endpoint, clients, name, arguments.timeout))
    going = []
    for kind in (made.CONFIG, made.MODEL):
        going = made.find_made(clients, kind, name)
        for one in going:
            yield Found(kind.shown, one, partial(made.remove, clients, kind, one))
    if arguments.artifacts:
        bucket = arguments.bucket or storage.default_bucket(clients)
        if keys := storage.release_keys(clients, bucket, name):
            shown = f"s3://{bucket}/{PREFIX}/{name}/ ({len(keys)} objects)"
            yield Found("artifacts", shown, partial(storage.delete_keys, clients, bucket, keys))
    if arguments.images:
        prefix = arguments.repository_prefix or arguments.env.get("REPOSITORY_PREFIX") or PREFIX
        yield from _unused_images(clients, [f"{prefix}/{stage}" for stage in ENVIRONMENT], going)


def find_images(clients: Clients, repository: str) -> list[dict[str, Any]] | None:
    """What ECR says of all images of a repository. None when there is no such repository."""
    pages = clients.client("ecr").get_paginator("describe_images").paginate(repositoryName=repository)
    return found_or_none(lambda: [image for page in pages for image in page["imageDetails"]])


def _unused_images(clients: Clients, repositories: Sequence[str], going: Sequence[str]) -> Iterator[Found]:
    """The images that nothing uses but the models that go, each repository with them once nothing else is in it.

    A model that may not be described may use all of them. Release images stay: a function or service runs them, and
    `delete --target` deletes them with it.
    """
    found = {name: images for name in repositories if (images := find_images(clients, name)) is not None}
    models = list(made.images_of_models(clients, but=going)) if any(found.values()) else []
    hidden = next((f"model {name}, which you may not describe, may use it" for name, image in models if not image), "")
    used = {image.rpartition("@")[2]: f"model {name} uses it" for name, image in models if image}
    for repository, images in found.items():
        unused = []
        for image in images:
            digest = image["imageDigest"]
            why = "another host uses it" if release_image.is_release(image) else used.get(digest, hidden)
            if why:
                say(f"keeping {repository}@{digest[:19]}: {why}")
            else:
                unused.append({"imageDigest": digest})
        if unused or not images:
            remove = partial(_remove_images, clients, repository, unused, whole=len(unused) == len(images))
            yield Found("images", f"{repository} ({len(unused)} of {len(images)})", remove)


def _remove_images(clients: Clients, repository: str, unused: Sequence[dict[str, str]], *, whole: bool) -> None:
    delete_images(clients, repository, unused)
    if whole:
        clients.client("ecr").delete_repository(repositoryName=repository)


def _confirm(name: str, found: list[Found]) -> None:
    say("\n".join(f"  {one.kind} {one.name}" for one in found))
    print(f"Delete all of this? Type the endpoint's name, {name}: ", end="", file=sys.stderr, flush=True)
    if sys.stdin.readline().strip() != name:
        raise PipelineError("nothing was deleted", "type the name, or add --yes")
