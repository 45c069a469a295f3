"""`deploy`, `status` and `delete` with --target: what they do on every host, around what each host does."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import fields
from functools import partial
from typing import Any
from urllib.parse import urlsplit
from urllib.request import urlopen

from pipeline.endpoint.dry_run import account_of, show
from pipeline.endpoint.errors import NOT_FOUND, WRONG, PipelineError
from pipeline.endpoint.hosting import Hosting
from pipeline.endpoint.made import Found
from pipeline.endpoint.release import (
    CONTRACT_TAG,
    PREFIX,
    RELEASE_TAG,
    Release,
    commit_tag,
    new_release,
    sound_contract,
)
from pipeline.endpoint.session import LOOPBACK, Clients, default_endpoint, say, show_json
from pipeline.endpoint.undo import Undo, leaving_nothing
from pipeline.hosts import on_apprunner, on_ecs, on_lambda, release_image, sizes
from pipeline.hosts.dry_run import HostRecorder
from pipeline.hosts.host import OWN, SAGEMAKER, Answering, Host, Ready, Wanted
from pipeline.hosts.registry import Registry

WITHIN = 5.0  # seconds for a server on this machine to say what it is
HOSTS: Mapping[str, Host] = {"lambda": on_lambda, "ecs": on_ecs, "apprunner": on_apprunner}
# What `deploy` takes for SageMaker only
_SAGEMAKERS = (
    *(
        "update",
        "strategy",
        "step",
        "wait",
        "bake",
        "alarm",
        "featurizer_image",
        "predictor_image",
        "bucket",
    ),
    *(each.name for each in fields(Hosting) if each.name not in OWN["ecs"]),
)
_OTHERS = ("cluster", *(each.name for each in fields(Wanted)))


def refuse_strangers(arguments: argparse.Namespace) -> None:
    """Nothing that is asked for is ignored. Raises `PipelineError`."""
    shared = {"role", "subnets", "security_groups"}
    strange = [name for name in _OTHERS if name not in shared] if arguments.target == SAGEMAKER else _SAGEMAKERS
    for name in strange:
        if getattr(arguments, name, None) not in (None, False, []):
            raise PipelineError(f"--{name.replace('_', '-')} is not for {arguments.target}", "leave it out", WRONG)


def refuse_stand_in(clients: Clients, target: str) -> None:
    """Raise `PipelineError` where the local control plane would be asked, which hosts for SageMaker only."""
    url = clients.endpoint_url(target) or ""
    if urlsplit(url).hostname not in LOOPBACK:
        return
    with suppress(OSError), urlopen(f"{url}/_control_plane", timeout=WITHIN):  # noqa: S310 - of this machine
        raise PipelineError(
            f"{url} is the local control plane, which stands in for SageMaker and not for {target}",
            "unset AWS_ENDPOINT_URL to do this on AWS; without AWS run the image, as docs/hosting.md says",
            WRONG,
        )


def deploy(arguments: argparse.Namespace) -> int:
    wanted = Wanted.of(arguments)
    recorder = HostRecorder(role=arguments.role) if arguments.dry_run else None
    clients = Clients.of(arguments, recorder.attach if recorder else None)
    if recorder:
        recorder.region, recorder.account = clients.region, account_of(arguments.role)
    else:
        refuse_stand_in(clients, arguments.target)
    contract = sound_contract(arguments.artifacts)
    name = arguments.endpoint or default_endpoint(contract.dataset)
    checked = new_release(name, contract.hash, dict(arguments.tags))
    sizes.refuse_name(arguments.target, name)
    with leaving_nothing() as undo:
        image = _image(arguments, clients, checked, undo, recorder)
        release = Release(name, image.tag, contract.hash, checked.more_tags)
        ready = Ready(clients, release, image, wanted, arguments.timeout)
        answering = HOSTS[arguments.target].deploy(ready, undo)
    if recorder:
        show(recorder)
    elif arguments.json:
        show_json({"target": arguments.target, **_summary(ready, answering)})
    else:
        print(_how_to_go_on(arguments.target, ready, answering))
    return 0


def _image(
    arguments: argparse.Namespace, clients: Clients, release: Release, undo: Undo, recorder: HostRecorder | None
) -> release_image.ReleaseImage:
    """The release's image, in the registry when this returns."""
    tag = arguments.tag or ("" if arguments.image else commit_tag())
    base = release_image.find_base(clients, _prefix(arguments), tag, arguments.image)
    layer = release_image.make_layer(arguments.artifacts)
    owner = release_image.owner(release.endpoint, arguments.target, on_ecs.other_cluster(arguments.cluster))
    if recorder:
        return recorder.note_image(base, layer, owner)
    registry = Registry.of_ecr(clients, base.host)
    composed = release_image.compose(registry, base, layer, owner, release.contract)
    image = composed.image
    if release_image.is_pushed(registry, image):
        say(f"image {image.by_tag} is there already")
    else:
        say(f"pushing {image.by_tag}: {base} and {len(layer.content)} bytes of artifacts")
        undo(f"image {image.by_tag}", partial(release_image.remove, clients, image.name, [image.tag]))
        release_image.push(registry, composed)
    return image


def find(clients: Clients, arguments: argparse.Namespace, name: str) -> Iterator[Found]:
    """All there is to delete, in the order in which it can be deleted: the service, its roles, its release images."""
    for option in ("artifacts", "images", "bucket"):
        if getattr(arguments, option):
            raise PipelineError(f"--{option} is not for {arguments.target}", "leave it out", WRONG)
    refuse_stand_in(clients, arguments.target)
    yield from HOSTS[arguments.target].find(clients, name, arguments.cluster or "", arguments.timeout)
    repository = f"{_prefix(arguments)}/pipeline"
    owner = release_image.owner(name, arguments.target, on_ecs.other_cluster(arguments.cluster))
    if tags := release_image.find_tags(clients, repository, owner):
        shown = f"{repository}:{owner}-... ({len(tags)})"
        yield Found("release images", shown, partial(release_image.remove, clients, repository, tags))


def look(clients: Clients, arguments: argparse.Namespace, name: str) -> dict[str, Any]:
    """All there is to say of a service. Raises `PipelineError` (code 3) when there is none."""
    refuse_stand_in(clients, arguments.target)
    found = HOSTS[arguments.target].look(clients, name, arguments.cluster or "")
    if found is None:
        raise PipelineError(
            f"there is no {name} on {arguments.target} in {clients.region}",
            f"check --endpoint and --region, or make it: python -m pipeline deploy --target {arguments.target}",
            NOT_FOUND,
        )
    tags = found.pop("tags")
    named = {"endpoint": name, "target": arguments.target}
    return {**named, **found, "release": tags.get(RELEASE_TAG), "contract": tags.get(CONTRACT_TAG)}


def _prefix(arguments: argparse.Namespace) -> str:
    return str(arguments.repository_prefix or arguments.env.get("REPOSITORY_PREFIX") or PREFIX)


def _summary(ready: Ready, answering: Answering) -> dict[str, Any]:
    return {
        "endpoint": ready.name,
        "url": answering.url,
        "release": ready.release.name,
        "contract": ready.release.contract,
        "image": ready.image.by_digest,
    }


def _how_to_go_on(target: str, ready: Ready, answering: Answering) -> str:
    where = f"--target {target} --endpoint {ready.name} --region {ready.clients.region}"
    if ready.wanted.cluster:
        where += f" --cluster {ready.wanted.cluster}"
    return f"""
{ready.name} serves on {target}: release {ready.release.name}.
{answering.how}
  python -m pipeline status {where}

Delete it with all that was made for it: python -m pipeline delete {where}"""
