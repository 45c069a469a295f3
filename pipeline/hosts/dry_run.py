"""What would be asked of AWS by a host, where nothing of the service is there yet."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pipeline.endpoint.dry_run import UNKNOWN_DIGEST, Answer, Recorder
from pipeline.hosts.release_image import Base, Layer, ReleaseImage, tag_of

NOWHERE = "0000000000"  # stands for the ids that AWS makes
MISSING = {"GetFunctionUrlConfig", "GetPolicy", "GetRolePolicy", "GetMethod", "GetStage"}


@dataclass
class HostRecorder(Recorder):
    """`role`: the name of a role that is given, and therefore there."""

    role: str | None = None
    made: frozenset[str] = frozenset()

    def note_image(self, base: Base, layer: Layer, service: str) -> ReleaseImage:
        """The requests to the registry are not AWS's API: noted as the one step that they are."""
        image = ReleaseImage(base.host, base.name, tag_of(service, UNKNOWN_DIGEST), UNKNOWN_DIGEST)
        params = {"base": str(base), "layer": layer.digest, "bytes": len(layer.content), "image": image.by_tag}
        self.requests.append({"service": "registry", "operation": "AppendLayer", "params": params})
        return image

    def _answers(self, operation: str) -> Answer:
        asked = self.requests[-1]["params"]
        if operation.startswith("Create"):
            self.made |= {operation.removeprefix("Create")}
        if operation in MISSING or (operation == "GetFunction" and "Function" not in self.made):
            return _missing("ResourceNotFoundException")
        if operation == "GetRole" and asked["RoleName"] != self.role:
            return _missing("NoSuchEntity")
        if operation == "CreateRole":
            return {"Role": {"Arn": f"arn:aws:iam::{self.account}:role/{asked['RoleName']}"}}
        answers = {**self._of_gateway(), **self._of_apprunner(), **self._of_ecs(asked)}
        return answers[operation] if operation in answers else super()._answers(operation)

    def _of_gateway(self) -> Mapping[str, Answer]:
        address = f"https://{NOWHERE}.execute-api.{self.region}.amazonaws.com"
        return {
            "CreateFunctionUrlConfig": {"FunctionUrl": f"https://{NOWHERE}.lambda-url.{self.region}.on.aws/"},
            "GetFunctionConfiguration": {"State": "Active", "LastUpdateStatus": "Successful"},
            "GetApis": {"Items": []},
            "CreateApi": {"ApiId": NOWHERE, "ApiEndpoint": address},
            "CreateIntegration": {"IntegrationId": NOWHERE},
            "GetRestApis": {"items": []},
            "CreateRestApi": {"id": NOWHERE},
            "GetResources": {"items": [{"path": "/", "id": NOWHERE}]},
            "CreateResource": {"id": NOWHERE},
        }

    def _of_apprunner(self) -> Mapping[str, Answer]:
        arn = f"arn:aws:apprunner:{self.region}:{self.account}"
        service = {"ServiceArn": f"{arn}:service/{NOWHERE}"}
        return {
            "ListServices": {"ServiceSummaryList": []},
            "ListAutoScalingConfigurations": {"AutoScalingConfigurationSummaryList": []},
            "CreateAutoScalingConfiguration": {
                "AutoScalingConfiguration": {
                    "AutoScalingConfigurationArn": f"{arn}:autoscalingconfiguration/{NOWHERE}/1/{NOWHERE}"
                }
            },
            "CreateService": {"Service": service, "OperationId": NOWHERE},
            "ListOperations": {"OperationSummaryList": [{"Id": NOWHERE, "Status": "SUCCEEDED"}]},
        }

    def _of_ecs(self, asked: Mapping[str, Any]) -> Mapping[str, Answer]:
        cluster = asked.get("cluster", "default")
        service = {"serviceArn": f"arn:aws:ecs:{self.region}:{self.account}:service/{cluster}/{NOWHERE}"}
        return {
            "DescribeServices": {"services": []},
            "CreateExpressGatewayService": {"service": service},
            "ListServiceDeployments": {"serviceDeployments": [{"status": "SUCCESSFUL"}]},
        }


def _missing(code: str) -> Answer:
    return {"Error": {"Code": code, "Message": "not there yet"}}
