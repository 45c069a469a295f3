"""AddTags, ListTags and DeleteTags, for every kind of resource."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from local_test.control_plane.errors import ApiError
from local_test.control_plane.plane import Operation, Plane
from local_test.control_plane.store import Fields, Resource

MOST = 50


def add_tags(plane: Plane, asked: Mapping[str, Any]) -> Fields:
    with plane.store.lock:
        found = plane.store.by_arn(asked["ResourceArn"])
        tags = found.tags | {tag["Key"]: tag["Value"] for tag in asked["Tags"]}
        if len(tags) > MOST:
            raise ApiError(f"A resource may have {MOST} tags, got {len(tags)}.", "ResourceLimitExceeded")
        found.tags = tags
        return {"Tags": _listed(found)}


def list_tags(plane: Plane, asked: Mapping[str, Any]) -> Fields:
    with plane.store.lock:
        return {"Tags": _listed(plane.store.by_arn(asked["ResourceArn"]))}


def delete_tags(plane: Plane, asked: Mapping[str, Any]) -> Fields:
    with plane.store.lock:
        found = plane.store.by_arn(asked["ResourceArn"])
        found.tags = {key: value for key, value in found.tags.items() if key not in asked["TagKeys"]}
    return {}


def _listed(resource: Resource) -> list[Fields]:
    return [{"Key": key, "Value": value} for key, value in resource.tags.items()]


OPERATIONS: dict[str, Operation] = {"AddTags": add_tags, "ListTags": list_tags, "DeleteTags": delete_tags}
