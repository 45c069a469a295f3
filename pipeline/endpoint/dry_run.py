"""What would be asked of AWS, in order: every request is checked and noted, and none is sent."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

from pipeline.endpoint.errors import PipelineError
from pipeline.endpoint.images import DOCKER_MANIFEST
from pipeline.endpoint.release import VARIANT
from pipeline.endpoint.session import say
from pipeline.endpoint.valid import check_request

ACCOUNT = "000000000000"  # when no role names one
UNKNOWN_DIGEST = f"sha256:{'0' * 64}"
UNKNOWN_COUNT = 2  # instances of an endpoint that nobody asked for
NOTE = (
    "dry run: nothing was sent. 000... stands for what only AWS knows: the account, unless --role names it, and "
    f"digests; an update counts on {UNKNOWN_COUNT} instances, unless --instance-count says how many"
)
Answer = Mapping[str, Any]


@dataclass
class Recorder:
    """Notes requests in AWS's place, and answers as AWS would."""

    region: str = ""
    account: str = ACCOUNT
    config: str | None = None  # of the endpoint; None while there is none
    requests: list[dict[str, Any]] = field(default_factory=list)
    asked: Mapping[str, Any] = field(default_factory=dict)  # the parameters of the last, with what is not shown
    refused: PipelineError | None = None  # the first request that AWS would refuse

    def attach(self, client: Any) -> None:  # noqa: ANN401 - boto3 is untyped
        client.meta.events.register("provide-client-params", self._note)
        client.meta.events.register("before-call", self._answer)

    def _note(self, params: Mapping[str, Any], model: Any, **_: object) -> None:  # noqa: ANN401
        self.asked = params
        shown = {name: _shown(value) for name, value in params.items()}
        service = model.service_model.service_name
        self.requests.append({"service": service, "operation": model.name, "params": shown})

    def _answer(self, model: Any, **_: object) -> tuple[SimpleNamespace, Answer]:  # noqa: ANN401
        """Takes the place of the network. botocore has looked for types and for what is missing by now."""
        try:
            check_request(model, self.asked)
        except PipelineError as error:  # said at the end: there is nothing to undo
            self.refused = self.refused or error
        answer = self._answers(model.name)
        if model.name in ("CreateEndpoint", "UpdateEndpoint"):
            self.config = str(self.requests[-1]["params"]["EndpointConfigName"])
        return SimpleNamespace(status_code=400 if "Error" in answer else 200, headers={}), {
            "ResponseMetadata": {}, **answer,
        }  # fmt: skip

    def _answers(self, operation: str) -> Answer:
        asked = self.requests[-1]["params"]
        if operation == "DescribeEndpoint" and self.config is None:
            return {"Error": {"Code": "ValidationException", "Message": "Could not find endpoint"}}
        if operation == "DescribeRepositories":
            host = f"{self.account}.dkr.ecr.{self.region}.amazonaws.com"
            return {"repositories": [{"repositoryUri": f"{host}/{asked['repositoryNames'][0]}"}]}
        if operation == "DescribeImages":
            digest = asked["imageIds"][0].get("imageDigest", UNKNOWN_DIGEST)
            return {"imageDetails": [{"imageDigest": digest, "imageManifestMediaType": DOCKER_MANIFEST}]}
        answers: dict[str, Answer] = {
            "GetCallerIdentity": {"Account": self.account},
            "GetRole": {"Role": {"Arn": f"arn:aws:iam::{self.account}:role/{asked.get('RoleName')}"}},
            "DescribeAlarms": {"MetricAlarms": [{"AlarmName": one} for one in asked.get("AlarmNames", ())]},
            "DescribeEndpoint": {
                "EndpointStatus": "InService",
                "EndpointConfigName": self.config,
                "ProductionVariants": [{"VariantName": VARIANT, "DesiredInstanceCount": UNKNOWN_COUNT}],
            },
            "DescribeEndpointConfig": {"ProductionVariants": [{"VariantName": VARIANT, "ModelName": "CURRENT-MODEL"}]},
            "ListEndpointConfigs": {"EndpointConfigs": []},
            "ListModels": {"Models": []},
        }
        return answers.get(operation, {})


def account_of(role: str | None) -> str:
    """The account of a role's ARN."""
    found = re.match(r"arn:[\w-]+:iam::(\d{12}):", role or "")
    return found[1] if found else ACCOUNT


def _shown(value: object) -> object:
    return f"<{len(value)} bytes>" if isinstance(value, bytes) else value


def show(recorder: Recorder) -> None:
    """Print the requests as one JSON list. Raises `PipelineError` when AWS would refuse one."""
    if recorder.refused:
        raise recorder.refused
    say(NOTE)
    print(json.dumps(recorder.requests, indent=2, default=str))
