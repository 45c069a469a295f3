"""App Runner and ECS Express Mode, which moto does not have: enough of both to see a service through its life."""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

PLACE = "us-east-1:123456789012"
Given = dict[str, Any]


@dataclass
class HostApis:
    """`busy`: how often a thing is still on its way when it is asked for. `fails`: the next change ends in failure.

    `hidden`: the ARN of a service that is there and not shown.
    """

    url: str = ""
    express: dict[tuple[str, str], Given] = field(default_factory=dict)
    deployments: list[Given] = field(default_factory=list)
    runner: dict[str, Given] = field(default_factory=dict)
    operations: list[Given] = field(default_factory=list)
    scalings: dict[str, Given] = field(default_factory=dict)
    tags: dict[str, list[Given]] = field(default_factory=dict)
    busy: int = 1
    fails: bool = False
    assumable: bool = True
    hidden: str = ""
    waits: dict[str, int] = field(default_factory=dict)

    def answer(self, operation: str, given: Given) -> tuple[int, Given]:
        made = getattr(self, f"_{operation}")(given)
        return (400, made) if "__type" in made else (200, made)

    def _soon(self, what: str) -> bool:
        """Whether it is there by now."""
        self.waits[what] = self.waits.get(what, 0) + 1
        return self.waits[what] > self.busy

    # ECS Express Mode

    def _DescribeServices(self, given: Given) -> Given:
        for name, one in list(self.express.items()):
            if one["status"] == "DRAINING" and self._soon(f"gone {one['serviceArn']}"):
                del self.express[name]
        asked = {name: (given.get("cluster", "default"), name) for name in given["services"]}
        found = [self.express[key] for key in asked.values() if key in self.express]
        missing = [{"arn": name, "reason": "MISSING"} for name, key in asked.items() if key not in self.express]
        return {"services": found, "failures": [{"arn": self.hidden, "reason": "HIDDEN"}] if self.hidden else missing}

    def _CreateExpressGatewayService(self, given: Given) -> Given:
        if not self.assumable:
            self.assumable = True
            return {"__type": "InvalidParameterException", "message": "ECS was unable to assume the role"}
        arn = f"arn:aws:ecs:{PLACE}:service/{given.get('cluster', 'default')}/{given['serviceName']}"
        self.express[given.get("cluster", "default"), given["serviceName"]] = {
            "serviceArn": arn, "serviceName": given["serviceName"], "status": "ACTIVE", "runningCount": 1,
            "desiredCount": 1, "given": given,
        }  # fmt: skip
        self.tags[arn] = given["tags"]
        self._roll_out()
        return {"service": {"serviceArn": arn}}

    def _roll_out(self) -> str:
        revision = f"arn:aws:ecs:{PLACE}:service-revision/{len(self.deployments)}"
        end = "ROLLBACK_SUCCESSFUL" if self.fails else "SUCCESSFUL"
        self.fails = False
        self.deployments.append({"createdAt": len(self.deployments), "targetServiceRevisionArn": revision, "end": end})
        return revision

    def _UpdateExpressGatewayService(self, given: Given) -> Given:
        (service,) = [one for one in self.express.values() if one["serviceArn"] == given["serviceArn"]]
        service["given"] |= given
        return {"service": {"targetConfiguration": {"serviceRevisionArn": self._roll_out()}}}

    def _DescribeExpressGatewayService(self, given: Given) -> Given:
        (service,) = [one for one in self.express.values() if one["serviceArn"] == given["serviceArn"]]
        paths = [{"accessType": "PUBLIC", "endpoint": "houses.ecs.us-east-1.on.aws"}]
        active = {**service["given"], "ingressPaths": paths}
        return {"service": {"serviceArn": given["serviceArn"], "activeConfigurations": [active]}}

    def _ListServiceDeployments(self, _given: Given) -> Given:
        shown = [
            {**one, "status": one["end"] if self._soon(one["targetServiceRevisionArn"]) else "IN_PROGRESS"}
            for one in self.deployments
        ]
        return {"serviceDeployments": shown}

    def _DeleteExpressGatewayService(self, given: Given) -> Given:
        (service,) = [one for one in self.express.values() if one["serviceArn"] == given["serviceArn"]]
        service["status"] = "DRAINING"
        return {}

    def _TagResource(self, given: Given) -> Given:
        arn, added = given.get("resourceArn") or given["ResourceArn"], given.get("tags") or given["Tags"]
        key = "key" if "tags" in given else "Key"
        kept = [one for one in self.tags[arn] if one[key] not in [new[key] for new in added]]
        self.tags[arn] = [*kept, *added]
        return {}

    def _ListTagsForResource(self, given: Given) -> Given:  # App Runner's too
        if "resourceArn" in given:
            return {"tags": self.tags[given["resourceArn"]]}
        return {"Tags": self.tags[given["ResourceArn"]]}

    # App Runner

    def _ListServices(self, _given: Given) -> Given:
        return {"ServiceSummaryList": [self._shown(one) for one in self.runner.values()]}

    def _shown(self, service: Given) -> Given:
        if service["Status"] == "OPERATION_IN_PROGRESS" and self._soon(f"{service['ServiceArn']} {service['Then']}"):
            service["Status"] = service["Then"]
        named = {"Given", "Then"}
        return {**service.get("Given", {}), **{key: one for key, one in service.items() if key not in named}}

    def _DescribeService(self, given: Given) -> Given:
        (found,) = [one for one in self.runner.values() if one["ServiceArn"] == given["ServiceArn"]]
        return {"Service": self._shown(found)}

    def _CreateService(self, given: Given) -> Given:
        name = given["ServiceName"]
        arn = f"arn:aws:apprunner:{PLACE}:service/{name}/{len(self.operations)}"
        self.tags[arn] = given.pop("Tags")
        self.runner[arn] = {"ServiceName": name, "ServiceArn": arn, "ServiceUrl": f"{name}.awsapprunner.com"}
        return self._operate(arn, given, "CREATE_FAILED" if self.fails else "RUNNING")

    def _UpdateService(self, given: Given) -> Given:
        arn = given.pop("ServiceArn")
        former = self.runner[arn]["Given"]
        return self._operate(arn, former if self.fails else {**former, **given}, "RUNNING")

    def _operate(self, arn: str, given: Given, then: str) -> Given:
        summary = {"AutoScalingConfigurationArn": given["AutoScalingConfigurationArn"]}
        given = {**given, "AutoScalingConfigurationSummary": summary}
        self.runner[arn] |= {"Status": "OPERATION_IN_PROGRESS", "Then": then, "Given": given}
        end = "ROLLBACK_SUCCEEDED" if self.fails else "SUCCEEDED"
        self.fails = False
        self.operations.append({"Id": f"operation-{len(self.operations)}", "end": end})
        return {"Service": {"ServiceArn": arn}, "OperationId": self.operations[-1]["Id"]}

    def _ListOperations(self, _given: Given) -> Given:
        shown = [{**one, "Status": one["end"] if self._soon(one["Id"]) else "IN_PROGRESS"} for one in self.operations]
        return {"OperationSummaryList": shown}

    def _DeleteService(self, given: Given) -> Given:
        self.runner[given["ServiceArn"]] |= {"Status": "OPERATION_IN_PROGRESS", "Then": "DELETED"}
        return {}

    def _CreateAutoScalingConfiguration(self, given: Given) -> Given:
        name = given["AutoScalingConfigurationName"]
        revision = len(self.scalings) + 1
        arn = f"arn:aws:apprunner:{PLACE}:autoscalingconfiguration/{name}/{revision}/0"
        self.tags[arn] = given.pop("Tags")
        self.scalings[arn] = {
            **given, "AutoScalingConfigurationArn": arn, "AutoScalingConfigurationRevision": revision,
            "Status": "active",
        }  # fmt: skip
        return {"AutoScalingConfiguration": self.scalings[arn]}

    def _DescribeAutoScalingConfiguration(self, given: Given) -> Given:
        return {"AutoScalingConfiguration": self.scalings[given["AutoScalingConfigurationArn"]]}

    def _ListAutoScalingConfigurations(self, _given: Given) -> Given:
        return {"AutoScalingConfigurationSummaryList": list(self.scalings.values())}

    def _DeleteAutoScalingConfiguration(self, given: Given) -> Given:
        arn = given["AutoScalingConfigurationArn"]
        used = [
            one["Given"]["AutoScalingConfigurationArn"] for one in self.runner.values() if one["Status"] != "DELETED"
        ]
        if arn in used:
            return {"__type": "InvalidRequestException", "message": "a service uses it"}
        return {"AutoScalingConfiguration": self.scalings.pop(arn)}


@contextlib.contextmanager
def host_apis() -> Iterator[HostApis]:
    apis = HostApis()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            status, answer = apis.answer(self.headers["X-Amz-Target"].rpartition(".")[2], json.loads(body))
            text = json.dumps(answer).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/x-amz-json-1.1")
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    apis.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, args=[0.01])
    thread.start()
    try:
        yield apis
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
