"""One release of an endpoint: its name, its tags, and where its artifacts lie. Everything made carries them."""

from __future__ import annotations

import argparse
import re
import secrets
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from pipeline.artifacts import verify_both
from pipeline.endpoint.errors import WRONG, PipelineError
from serving.contract import Contract
from serving.errors import BadArtifact

ROOT = Path(__file__).resolve().parents[2]
PREFIX = "serial-inference"
VARIANT = "AllTraffic"
ENDPOINT_TAG, RELEASE_TAG, CONTRACT_TAG = (f"{PREFIX}:{word}" for word in ("endpoint", "release", "contract"))
LONGEST_NAME = 63
MOST_TAGS = 7
NAME = re.compile(r"[a-zA-Z0-9](-*[a-zA-Z0-9])*")
STAMP = re.compile(r"-\d{8}-\d{6}-[0-9a-f]{4}")
LENGTH_OF_STAMP = len("-20260101-000000-abcd")


@dataclass(frozen=True)
class Release:
    """`name` is the name of its model and of its endpoint config."""

    endpoint: str
    name: str
    contract: str
    more_tags: Mapping[str, str]

    @property
    def tags(self) -> dict[str, str]:
        own = {ENDPOINT_TAG: self.endpoint, RELEASE_TAG: self.name, CONTRACT_TAG: self.contract}
        return {**self.more_tags, **own}

    def key(self, container: str) -> str:
        """Of the container's archive in the bucket."""
        return f"{PREFIX}/{self.endpoint}/{self.name}/{container}/model.tar.gz"


def new_release(endpoint: str, contract: str, more_tags: Mapping[str, str]) -> Release:
    """A release whose name was never used: SageMaker keeps what a name first meant. Raises `PipelineError`."""
    if len(endpoint) > LONGEST_NAME or not NAME.fullmatch(endpoint):
        raise PipelineError(
            f"--endpoint {endpoint!r}: expected letters, digits and hyphens between them, {LONGEST_NAME} at most",
            "give another name",
            WRONG,
        )
    if len(more_tags) > MOST_TAGS:
        raise PipelineError(f"{len(more_tags)} tags", f"give {MOST_TAGS} at most: S3 takes ten, three are ours", WRONG)
    stamp = f"{datetime.now(UTC):-%Y%m%d-%H%M%S}-{secrets.token_hex(2)}"
    return Release(endpoint, cut(endpoint) + stamp, contract, more_tags)


def cut(endpoint: str) -> str:
    """As much of the endpoint's name as a release's name has room for."""
    return endpoint[: LONGEST_NAME - LENGTH_OF_STAMP].rstrip("-")


def is_release_of(endpoint: str, name: str) -> bool:
    """Whether a model or config has the name of a release of this endpoint; the tags know for sure."""
    return name.startswith(cut(endpoint)) and STAMP.fullmatch(name.removeprefix(cut(endpoint))) is not None


def scratch_prefix(endpoint: str) -> str:
    """Below it in the bucket lies, by the name of each batch run, what the run removes when it ends."""
    return f"{PREFIX}/{endpoint}/batch/"


def as_tags(tags: Mapping[str, str]) -> list[dict[str, str]]:
    """Tags as AWS wants them."""
    return [{"Key": key, "Value": value} for key, value in tags.items()]


def tag(text: str) -> tuple[str, str]:
    """The argument of --tags: KEY=VALUE."""
    key, equals, value = text.partition("=")
    if not equals or not re.fullmatch(r"[\w .:/=+@-]{1,128}", key) or not re.fullmatch(r"[\w .:/=+@-]{0,256}", value):
        raise argparse.ArgumentTypeError(f"expected KEY=VALUE as AWS allows in tags, got {text!r}")
    if key.startswith(("aws:", f"{PREFIX}:")):
        raise argparse.ArgumentTypeError(f"{key}: tags that begin with aws: or {PREFIX}: are not for you to set")
    return key, value


def sound_contract(artifacts: Path) -> Contract:
    """The contract that both artifacts share, once all their files are found undamaged. Raises `PipelineError`."""
    try:
        return verify_both(artifacts)
    except (BadArtifact, OSError) as error:
        retrain = f"train again: python -m pipeline train --out {artifacts}"
        raise PipelineError(f"artifacts: {error}", retrain, WRONG) from error


def commit_tag(root: Path = ROOT) -> str:
    """The tag that build_and_push.sh gives to images of this tree. Raises `PipelineError` outside of a checkout."""
    commit = _git(root, ["rev-parse", "HEAD"])[:12]
    return f"{commit}-dirty" if _git(root, ["status", "--porcelain"]) else commit


def _git(root: Path, arguments: Sequence[str]) -> str:
    try:
        return subprocess.run(
            ["git", "-C", str(root), *arguments], capture_output=True, text=True, check=True, timeout=60
        ).stdout.strip()
    except (OSError, subprocess.SubprocessError) as error:
        raise PipelineError(
            f"which images? {root} is no git checkout", "give --tag, as build_and_push.sh printed it", WRONG
        ) from error
