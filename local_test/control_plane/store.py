"""The SageMaker resources that were created: by kind and name, with their tags, as Describe and List show them."""

from __future__ import annotations

import math
import re
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from aws.validation import seconds_of
from local_test.control_plane.errors import ApiError

Fields = dict[str, Any]
ACCOUNT = "123456789012"
T = TypeVar("T")
_PAGE = 100  # resources, when a request does not say
_SHOWN = 100


@dataclass(frozen=True)
class Kind:
    """A kind of resource: the word in its ARN, and the API's names for its name, ARN, status and list."""

    word: str  # "endpoint-config"
    name: str  # "EndpointConfigName"
    arn: str  # "EndpointConfigArn"
    listed: str  # "EndpointConfigs"
    status: str = ""  # "EndpointStatus"; none for what has no life of its own

    @property
    def spoken(self) -> str:
        """As AWS calls it in messages."""
        return "endpoint configuration" if self.word == "endpoint-config" else self.word


MODEL = Kind("model", "ModelName", "ModelArn", "Models")
CONFIG = Kind("endpoint-config", "EndpointConfigName", "EndpointConfigArn", "EndpointConfigs")
ENDPOINT = Kind("endpoint", "EndpointName", "EndpointArn", "Endpoints", "EndpointStatus")
TRANSFORM_JOB = Kind(
    "transform-job", "TransformJobName", "TransformJobArn", "TransformJobSummaries", "TransformJobStatus"
)
TRAINING_JOB = Kind("training-job", "TrainingJobName", "TrainingJobArn", "TrainingJobSummaries", "TrainingJobStatus")
KINDS = (MODEL, CONFIG, ENDPOINT, TRANSFORM_JOB, TRAINING_JOB)


@dataclass
class Resource:
    """One resource. `fields` is what Describe answers; `tags` what ListTags answers."""

    kind: Kind
    fields: Fields
    tags: dict[str, str] = field(default_factory=dict)

    @property
    def name(self) -> str:
        return str(self.fields[self.kind.name])

    @property
    def arn(self) -> str:
        return str(self.fields[self.kind.arn])

    def summary(self) -> Fields:
        """What List answers of it: its name, ARN, times and status."""
        shown = (self.kind.name, self.kind.arn, "CreationTime", "LastModifiedTime", self.kind.status)
        return {name: self.fields[name] for name in shown if name in self.fields}


class Store:
    """All resources. Every change holds `lock`, which whoever must look and then change takes himself."""

    def __init__(self, region: str) -> None:
        self.region = region
        self.lock = threading.RLock()
        self._kept: dict[Kind, dict[str, Resource]] = {kind: {} for kind in KINDS}
        self._removed: dict[tuple[Kind, str], Resource] = {}

    def add(self, kind: Kind, given: Mapping[str, Any]) -> Resource:
        """Keep what a Create request gave. Raises `ApiError` when the name is taken."""
        name = given[kind.name]
        with self.lock:
            if name in self._kept[kind]:
                raise ApiError(f'Cannot create already existing {kind.spoken} "{self._arn(kind, name)}".')
            now = time.time()
            fields = {key: value for key, value in given.items() if key != "Tags"}
            fields |= {kind.arn: self._arn(kind, name), "CreationTime": now, "LastModifiedTime": now}
            made = Resource(kind, fields, {tag["Key"]: tag["Value"] for tag in given.get("Tags", ())})
            self._kept[kind][name] = made
            return made

    def find(self, kind: Kind, name: str) -> Resource:
        """Raises `ApiError` in AWS's words when there is none."""
        with self.lock:
            if found := self._kept[kind].get(name):
                return found
        raise ApiError(f'Could not find {kind.spoken} "{self._arn(kind, name)}".')

    def get(self, kind: Kind, name: str) -> Resource | None:
        with self.lock:
            return self._kept[kind].get(name)

    def remove(self, kind: Kind, name: str) -> Resource:
        with self.lock:
            found = self.find(kind, name)
            self._removed[kind, name] = found
            return self._kept[kind].pop(name)

    def recall(self, kind: Kind, name: str) -> Resource:
        """The resource, also when it was removed: what runs from it is started from it again. Raises `ApiError`."""
        with self.lock:
            return self.get(kind, name) or self._removed.get((kind, name)) or self.find(kind, name)

    def all(self, kind: Kind) -> list[Resource]:
        """In the order of their creation."""
        with self.lock:
            return list(self._kept[kind].values())

    def by_arn(self, arn: str) -> Resource:
        with self.lock:
            for kind in KINDS:
                for found in self._kept[kind].values():
                    if found.arn == arn:
                        return found
        raise ApiError(f"Could not find resource {arn}.")

    def change(self, resource: Resource, **changed: Any) -> None:  # noqa: ANN401 - the API's own shapes
        """Set fields; a value of None removes one."""
        with self.lock:
            for name, value in changed.items():
                if value is None:
                    resource.fields.pop(name, None)
                else:
                    resource.fields[name] = value
            resource.fields["LastModifiedTime"] = time.time()

    def list(self, kind: Kind, asked: Mapping[str, Any], keep: Callable[[Resource], bool] = lambda _: True) -> Fields:
        """A page of List: NameContains, StatusEquals, SortOrder, MaxResults and NextToken as the API has them."""
        found = [one for one in self._matching(kind, asked) if keep(one)]
        if (by := asked.get("SortBy", "CreationTime")) in ("Name", "Status"):  # they are in the order of their creation
            found.sort(key=lambda one: str(one.fields[kind.name if by == "Name" else kind.status]))
        if asked.get("SortOrder", "Descending") == "Descending":
            found.reverse()
        page, rest = page_of(found, asked.get("NextToken"), asked.get("MaxResults"))
        return {kind.listed: [one.summary() for one in page]} | ({"NextToken": rest} if rest else {})

    def _matching(self, kind: Kind, asked: Mapping[str, Any]) -> Iterator[Resource]:
        part, status = asked.get("NameContains", "").lower(), asked.get("StatusEquals")
        for one in self.all(kind):
            listed = part in one.name.lower() and (not status or one.fields.get(kind.status) == status)
            if listed and _is_between(one, asked):
                yield one

    def _arn(self, kind: Kind, name: str) -> str:
        return f"arn:aws:sagemaker:{self.region}:{ACCOUNT}:{kind.word}/{name}"


def page_of(found: Sequence[T], token: str | None, most: int | None) -> tuple[Sequence[T], str]:
    """A page of a list, and the token of the next one; none at the end. Raises `ApiError` for a token that is none."""
    if token and not re.fullmatch("[0-9]{1,9}", token):
        raise ApiError(f"Invalid pagination token: {ascii(token[:_SHOWN])[1:-1]}")
    begin = int(token or 0)
    end = begin + (most or _PAGE)
    return found[begin:end], str(end) if end < len(found) else ""


def _is_between(resource: Resource, asked: Mapping[str, Any]) -> bool:
    """Whether its times are those that a List asks for."""
    for time_of in ("CreationTime", "LastModifiedTime"):
        at = float(resource.fields[time_of])
        after, before = asked.get(f"{time_of}After", 0), asked.get(f"{time_of}Before", math.inf)
        if at <= seconds_of(after) or at >= seconds_of(before):
            return False
    return True
