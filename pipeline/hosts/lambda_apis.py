"""What stands before a function: a Function URL, an HTTP API or a REST API. Each keeps the body as it was sent."""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import partial
from typing import Any

from pipeline.endpoint.errors import found_or_none
from pipeline.endpoint.made import Found
from pipeline.endpoint.release import ENDPOINT_TAG
from pipeline.endpoint.session import Clients, say
from pipeline.endpoint.undo import Undo
from pipeline.hosts.host import Answering, Ready, Wanted
from pipeline.hosts.roles import partition

STAGE = "prod"  # of a REST API, which has one in its path
ROUTE = "ANY /{proxy+}"
MOST = {"http": 30, "rest": 29}  # seconds that API Gateway waits for a function
# A public URL needs both since October 2025.
PUBLIC: dict[str, dict[str, Any]] = {
    "public-url": {"Action": "lambda:InvokeFunctionUrl", "FunctionUrlAuthType": "NONE"},
    "public-url-invoke": {"Action": "lambda:InvokeFunction", "InvokedViaFunctionUrl": True},
}


def note_timeout(wanted: Wanted) -> None:
    """Say so when the API gives up before the function does."""
    most = MOST.get(wanted.api or "url")
    if most and (wanted.request_timeout or 0) > most:
        say(
            f"note: API Gateway waits {most} s for a function, whatever it may take: --request-timeout "
            f"{wanted.request_timeout} holds only for calls that do not go through --api {wanted.api}"
        )


def ensure(ready: Ready, api: str, undo: Undo) -> Answering:
    """The API of that kind, made or changed to what is wanted. Others that are there stay."""
    if api == "none":
        return Answering(None, _how_to_invoke(ready))
    makers = {"url": _function_url, "http": _http_api, "rest": _rest_api}
    url = makers[api](ready, undo).rstrip("/")
    return Answering(url, _how_to_call(ready, api, url) + _how_to_invoke(ready))


def _function_url(ready: Ready, undo: Undo) -> str:
    client, name = ready.clients.client("lambda"), ready.name
    wanted = "NONE" if ready.wanted.public else "AWS_IAM"
    found = found_or_none(client.get_function_url_config, FunctionName=name)
    if found is None:
        undo(
            f"the URL of function {name}", partial(found_or_none, client.delete_function_url_config, FunctionName=name)
        )
        say(f"creating the URL of function {name}")
        found = client.create_function_url_config(FunctionName=name, AuthType=wanted, InvokeMode="BUFFERED")
    elif found["AuthType"] != wanted:
        back = partial(client.update_function_url_config, FunctionName=name, AuthType=found["AuthType"])
        undo(f"who may call the URL of function {name}", back)
        client.update_function_url_config(FunctionName=name, AuthType=wanted)
    for statement, allowed in PUBLIC.items():
        if ready.wanted.public:
            _permit(ready, statement, undo, Principal="*", **allowed)
        elif statement in _statements(ready.clients, name):
            client.remove_permission(FunctionName=name, StatementId=statement)
    return str(found["FunctionUrl"])


def _http_api(ready: Ready, undo: Undo) -> str:
    client, name = ready.clients.client("apigatewayv2"), ready.name
    api = _find_http(ready.clients, name)
    if api is None:
        undo(f"HTTP API {name}", partial(_remove, ready.clients, name, "HTTP API"))
        say(f"creating HTTP API {name}")
        api = client.create_api(Name=name, ProtocolType="HTTP", Tags=ready.release.tags)
    which = {"ApiId": api["ApiId"]}
    routes = client.get_routes(**which).get("Items", [])
    authorization = {"AuthorizationType": "NONE" if ready.wanted.public else "AWS_IAM"}
    if not routes:
        made = client.create_integration(
            **which, IntegrationType="AWS_PROXY", IntegrationUri=_arn(ready), PayloadFormatVersion="2.0",
            TimeoutInMillis=MOST["http"] * 1000,
        )  # fmt: skip
        target = f"integrations/{made['IntegrationId']}"
        client.create_route(**which, RouteKey=ROUTE, Target=target, **authorization)
    elif routes[0].get("AuthorizationType") != authorization["AuthorizationType"]:
        client.update_route(**which, RouteId=routes[0]["RouteId"], **authorization)
    if not client.get_stages(**which).get("Items"):
        client.create_stage(**which, StageName="$default", AutoDeploy=True)
    _permit_gateway(ready, f"http-api-{api['ApiId']}", api["ApiId"], undo)
    return str(api["ApiEndpoint"])


def _rest_api(ready: Ready, undo: Undo) -> str:
    client, name = ready.clients.client("apigateway"), ready.name
    api = _find_rest(ready.clients, name)
    if api is None:
        undo(f"REST API {name}", partial(_remove, ready.clients, name, "REST API"))
        say(f"creating REST API {name}")
        api = client.create_rest_api(
            name=name, binaryMediaTypes=["*/*"], endpointConfiguration={"types": ["REGIONAL"]}, tags=ready.release.tags
        )
    which = {"restApiId": api["id"]}
    changed = _ensure_method(ready, client, which)
    deployed = found_or_none(client.get_stage, **which, stageName=STAGE)
    if changed or deployed is None:
        client.create_deployment(**which, stageName=STAGE)
    _permit_gateway(ready, f"rest-api-{api['id']}", api["id"], undo)
    return f"https://{api['id']}.execute-api.{ready.clients.region}.{_suffix(ready.clients)}/{STAGE}"


def _ensure_method(ready: Ready, client: Any, which: dict[str, str]) -> bool:  # noqa: ANN401 - boto3 is untyped
    """Every method on every path is the function's. Whether anything had to be changed for that."""
    resources = {one["path"]: one["id"] for one in client.get_resources(**which)["items"]}
    resource = resources.get("/{proxy+}") or client.create_resource(
        **which, parentId=resources["/"], pathPart="{proxy+}"
    )["id"]  # fmt: skip
    place = {**which, "resourceId": resource, "httpMethod": "ANY"}
    authorization = "NONE" if ready.wanted.public else "AWS_IAM"
    method = found_or_none(client.get_method, **place)
    if method and method["authorizationType"] == authorization and method.get("methodIntegration"):
        return False
    if method:  # callers notice nothing before the deployment that follows
        client.delete_method(**place)
    client.put_method(**place, authorizationType=authorization)
    path = f"lambda:path/2015-03-31/functions/{_arn(ready)}/invocations"
    client.put_integration(
        **place, type="AWS_PROXY", integrationHttpMethod="POST", timeoutInMillis=MOST["rest"] * 1000,
        uri=f"arn:{partition(ready.clients)}:apigateway:{ready.clients.region}:{path}",
    )  # fmt: skip
    return True


def _permit_gateway(ready: Ready, statement: str, api: str, undo: Undo) -> None:
    where = f"arn:{partition(ready.clients)}:execute-api:{ready.clients.region}:{ready.clients.account}:{api}/*/*"
    given = {"Principal": "apigateway.amazonaws.com", "Action": "lambda:InvokeFunction", "SourceArn": where}
    _permit(ready, statement, undo, **given)


def _permit(ready: Ready, statement: str, undo: Undo, **given: Any) -> None:  # noqa: ANN401
    client, which = ready.clients.client("lambda"), {"FunctionName": ready.name, "StatementId": statement}
    if statement not in _statements(ready.clients, ready.name):
        undo(f"permission {statement}", partial(found_or_none, client.remove_permission, **which))
        client.add_permission(**which, **given)


def _statements(clients: Clients, name: str) -> list[str]:
    """The permissions that others have on the function."""
    found = found_or_none(clients.client("lambda").get_policy, FunctionName=name)
    return [one["Sid"] for one in json.loads(found["Policy"])["Statement"]] if found else []


def find(clients: Clients, name: str) -> Iterator[Found]:
    """The APIs that were made for a function; its URL is its own."""
    if http := _find_http(clients, name):
        delete = partial(clients.client("apigatewayv2").delete_api, ApiId=http["ApiId"])
        yield Found("HTTP API", f"{name} ({http['ApiId']})", partial(found_or_none, delete))
    if rest := _find_rest(clients, name):
        delete = partial(clients.client("apigateway").delete_rest_api, restApiId=rest["id"])
        yield Found("REST API", f"{name} ({rest['id']})", partial(found_or_none, delete))


def _remove(clients: Clients, name: str, kind: str) -> None:
    for one in find(clients, name):
        if one.kind == kind:
            one.delete()


def urls(clients: Clients, name: str) -> list[str]:
    """Where the function answers."""
    found = found_or_none(clients.client("lambda").get_function_url_config, FunctionName=name)
    http, rest = _find_http(clients, name), _find_rest(clients, name)
    places = [
        found["FunctionUrl"] if found else None,
        http["ApiEndpoint"] if http else None,
        f"https://{rest['id']}.execute-api.{clients.region}.{_suffix(clients)}/{STAGE}" if rest else None,
    ]
    return [place.rstrip("/") for place in places if place]


def _find_http(clients: Clients, name: str) -> dict[str, Any] | None:
    pages = clients.client("apigatewayv2").get_paginator("get_apis").paginate()
    return _made_here([one for page in pages for one in page["Items"]], name, "Tags")


def _find_rest(clients: Clients, name: str) -> dict[str, Any] | None:
    pages = clients.client("apigateway").get_paginator("get_rest_apis").paginate()
    return _made_here([one for page in pages for one in page["items"]], name, "tags")


def _made_here(apis: list[dict[str, Any]], name: str, tags: str) -> dict[str, Any] | None:
    """Names of APIs mean nothing to AWS, so the tag decides."""
    return next((one for one in apis if one.get(tags, {}).get(ENDPOINT_TAG) == name), None)


def _arn(ready: Ready) -> str:
    clients = ready.clients
    return f"arn:{partition(clients)}:lambda:{clients.region}:{clients.account}:function:{ready.name}"


def _suffix(clients: Clients) -> str:
    return "amazonaws.com.cn" if partition(clients) == "aws-cn" else "amazonaws.com"


def _how_to_call(ready: Ready, api: str, url: str) -> str:
    if ready.wanted.public:
        signed = ""
        who = "Whoever knows the address may call it."
    else:
        service = "lambda" if api == "url" else "execute-api"
        signed = (
            f'--aws-sigv4 "aws:amz:{ready.clients.region}:{service}" '
            '--user "$AWS_ACCESS_KEY_ID:$AWS_SECRET_ACCESS_KEY" \\\n    '
            '${AWS_SESSION_TOKEN:+-H "x-amz-security-token: $AWS_SESSION_TOKEN"} '
        )
        who = "The caller signs with AWS credentials; docs/iam/lambda-invoker.json allows it."
    return f"""
{who}

  curl {signed}-H "Content-Type: text/csv" \\
    --data-binary @rows.csv {url}/invocations
"""


def _how_to_invoke(ready: Ready) -> str:
    return f"""
  aws lambda invoke --function-name {ready.name} --region {ready.clients.region} \\
    --cli-binary-format raw-in-base64-out --payload '{{"instances": [[...]]}}' answer.json
"""
