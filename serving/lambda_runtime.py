"""`serve` in AWS Lambda: the stage's application, called with the events of the runtime API. One request at a time."""

from __future__ import annotations

import http.client
import importlib
import json
import logging
import time
from collections.abc import Mapping

from serving import garbage, logs, metrics, output
from serving.errors import PayloadTooLarge, ServingError
from serving.exchange import error_body
from serving.lambda_events import NoRequest, Wsgi, answer, envelope, read_event
from serving.payload import JSON
from serving.publish import CloudWatch
from serving.settings import LAMBDA_LIMIT, BadSetting, Settings
from serving.sizes import check_answer

log = logging.getLogger("serving.lambda")

_RUNTIME = "/2018-06-01/runtime"
_INVOCATION = "Lambda-Runtime-Invocation-Id"  # newer runtimes send it, and want it back


class RuntimeApi:
    """The platform's side, on one connection."""

    def __init__(self, address: str) -> None:
        self.connection = http.client.HTTPConnection(address)  # without a timeout: between two events may be hours

    def next(self) -> tuple[http.client.HTTPMessage, bytes]:
        """Wait for an event. Returns the headers that it came with, and the event."""
        self.connection.request("GET", f"{_RUNTIME}/invocation/next")
        response = self.connection.getresponse()
        event = response.read()
        if response.status != 200:
            raise http.client.HTTPException(f"the runtime API answered {response.status} instead of an event")
        return response.headers, event

    def respond(self, given: http.client.HTTPMessage, document: bytes) -> None:
        self._post(_path(given, "response"), document, {"Content-Type": JSON} | _echoed(given))

    def fail(self, given: http.client.HTTPMessage, reason: str) -> None:
        """An error of the function: whoever sent the event tries again, or puts it where failed ones are kept."""
        self._error(_path(given, "error"), "Function.NoRequest", reason, _echoed(given))

    def refuse_to_start(self, reason: str) -> None:
        self._error("init/error", "Runtime.CannotLoad", reason, {})

    def _error(self, path: str, kind: str, reason: str, headers: Mapping[str, str]) -> None:
        document = json.dumps({"errorType": kind, "errorMessage": reason, "stackTrace": []})
        self._post(path, document.encode(), {"Lambda-Runtime-Function-Error-Type": kind, **headers})

    def _post(self, path: str, document: bytes, headers: Mapping[str, str]) -> None:
        self.connection.request("POST", f"{_RUNTIME}/{path}", document, dict(headers))
        response = self.connection.getresponse()
        response.read()
        if response.status >= 300:
            log.error("the runtime API answered %s to %s", response.status, path)


def _path(given: http.client.HTTPMessage, what: str) -> str:
    return f"invocation/{given['Lambda-Runtime-Aws-Request-Id']}/{what}"


def _echoed(given: http.client.HTTPMessage) -> dict[str, str]:
    return {_INVOCATION: given[_INVOCATION]} if _INVOCATION in given else {}


def run(address: str, env: Mapping[str, str]) -> int:
    """Answer events until the platform ends the process. Returns 1 when the stage cannot be loaded."""
    started = time.monotonic()
    output.unblock()
    logs.configure(env.get("STAGE", ""), "INFO")
    api = RuntimeApi(address)
    settings, app = _load(api, env)
    if app is None:
        return 1
    cloudwatch = _metrics(settings)
    log.info("serving %s to Lambda, loaded in %.2f s", env.get("STAGE"), time.monotonic() - started)
    while True:
        given, event = api.next()
        try:
            document = respond(app, event, given["Lambda-Runtime-Aws-Request-Id"])
        except NoRequest as error:
            log.error("%s", error)
            api.fail(given, str(error))
            continue
        if cloudwatch:  # before the answer: after it the platform may stop this process for hours
            cloudwatch.flush({})
        api.respond(given, document)


def _load(api: RuntimeApi, env: Mapping[str, str]) -> tuple[Settings, Wsgi | None]:
    """The stage's application; None when it must not be served, which the platform has then been told."""
    settings = Settings()
    try:
        settings = Settings.from_env(env)
        logs.configure(settings.stage, settings.log_level)
        app: Wsgi = importlib.import_module(f"{settings.stage}.wsgi").app
    except BadSetting as error:
        log.critical("%s", error)
        api.refuse_to_start(str(error))
        return settings, None
    except SystemExit as end:  # of `container_app`, which has logged the reason
        if not end.code:  # told to stop
            raise
        api.refuse_to_start("the model cannot be loaded; the log names the reason")
        return settings, None
    garbage.keep_what_is_loaded()
    return settings, app


def _metrics(settings: Settings) -> CloudWatch | None:
    """What writes metrics after each event: this process may not live long enough for an interval."""
    if settings.metrics != "emf":
        return None
    page = metrics.Page.private()
    page.slot(1).add(metrics.STARTS)
    metrics.record_into(page.slot(1))
    return CloudWatch(settings, page, output.Output(1))


def respond(app: Wsgi, event: bytes, request_id: str) -> bytes:
    """What an event is answered, of at most what Lambda passes on. Raises `NoRequest`."""
    try:
        if len(event) > LAMBDA_LIMIT:
            raise PayloadTooLarge(f"expected an event of at most {LAMBDA_LIMIT} bytes, got {len(event)}")
        document = answer(app, read_event(event), request_id)
        check_answer(len(document), LAMBDA_LIMIT)
        return document
    except ServingError as error:
        logs.request_id.set(request_id)
        log.info("request", extra={"fields": {"status": error.status, "code": error.code, "bytes_in": len(event)}})
        body = error_body(error.as_dict())
        logs.request_id.set("")
        return envelope(error.status, {"Content-Type": JSON, "X-Request-Id": request_id}, body)
