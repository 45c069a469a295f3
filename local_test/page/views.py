"""The page's addresses: the chain, a request, and the form's; beside the runtime API, and out of its way."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from hashlib import sha256
from http import HTTPStatus
from pathlib import Path
from urllib.parse import urlencode

from flask import Blueprint, Flask, Response, abort, redirect, render_template, request
from werkzeug.wrappers import Response as AnyResponse

from local_test.endpoint import Endpoint
from local_test.page import guard, wording
from local_test.page.files import PICTURES, Files, log_command
from local_test.page.form import filled, invoke, read_form
from local_test.page.history import History, Record
from local_test.page.latency import FEW
from local_test.page.picture import addresses, overview, parts_of
from local_test.page.probe import Probe
from local_test.page.shown import failure_of, marked_line, shown
from local_test.page.watch import remember
from serving.errors import ServingError

LISTED = 10
_ASSETS = {"page.css": "text/css", "page.js": "text/javascript", "icon.svg": "image/svg+xml"}


class Page:
    """What the page knows: the endpoint, its last requests and its files."""

    def __init__(self, endpoint: Endpoint, history: History, files: Files) -> None:
        self.endpoint, self.history, self.files = endpoint, history, files
        self.probe = Probe(endpoint)
        folder = Path(__file__).parent / "static"
        self.assets = {name: (folder / name).read_bytes() for name in _ASSETS}
        self.version = sha256(b"".join(self.assets.values())).hexdigest()[:12]

    def install(self, app: Flask) -> None:
        """Add the page to the router, and remember every invocation that the router answers from now on."""
        app.after_request(partial(remember, self.history))
        app.register_blueprint(self._blueprint(app))

    def _blueprint(self, app: Flask) -> Blueprint:
        pages = Blueprint("page", __name__, template_folder="templates")
        pages.before_request(_check_host)
        pages.after_request(_protect)
        for name, filtered in wording.FILTERS.items():
            pages.add_app_template_filter(filtered, name)
        pages.app_context_processor(lambda: {"endpoint": self.endpoint, "version": self.version, "parts_of": parts_of})
        views: dict[tuple[str, str], Callable[..., str | AnyResponse]] = {
            ("GET", "/"): self.chain,
            ("GET", "/requests"): self.one_request,
            ("POST", "/requests"): lambda: self.send(app),
            ("GET", "/page/<name>"): self.asset,
            ("GET", "/page/pictures/<name>"): self.picture,
        }
        for (method, path), view in views.items():
            name = f"{method} {path}"
            pages.add_url_rule(path, name, view, methods=[method], provide_automatic_options=False)
        return pages

    def chain(self) -> str:
        """The overview, for whoever asks for HTML by name: others are told, as ever, that there is nothing here."""
        if "text/html" not in request.headers.get("Accept", ""):
            abort(HTTPStatus.NOT_FOUND)
        records = self.history.records()
        containers = self.probe.look()
        first, last = containers[0].interface, containers[-1].interface
        return render_template(
            "chain.html",
            seen=overview(self.endpoint, containers, records, self.history.latencies.recent()),
            records=records if "all" in request.args else records[:LISTED],
            total=len(records),
            most=self.history.most,
            turned_away=self.history.turned_away,
            few=FEW,
            address=addresses(records),
            failure_of=failure_of,
            pictures={name: PICTURES[name] for name in self.files.pictures(first.contract or last.contract)},
            has_artifacts=self.files.artifacts is not None,
            form=filled(first, last, self.files, _chosen(records)),
            host=request.host,
        )

    def one_request(self) -> str | AnyResponse:
        """A request by its id; of several with one id the last, or that of a number."""
        records = self.history.records()
        if not (record := _chosen(records)):
            message = (
                f"The last {self.history.most} requests are kept, until the router stops. None of them has this id."
            )
            return _problem(HTTPStatus.NOT_FOUND, "This request is not kept", message)
        failure = failure_of(record)
        contract = next((one.interface.contract for one in self.probe.look() if one.interface.contract), None)
        features = contract.features if contract else ()
        columns = [column.name for column in contract.columns] if contract else []
        names = [*(container.name for container in self.endpoint.containers), "router"]
        return render_template(
            "request.html",
            record=record,
            others=[one for one in records if one.request_id == record.request_id and one is not record],
            address=addresses(records),
            failure=failure,
            hops=[
                (hop, shown(hop.sent, features), shown(hop.answered, features), marked_line(hop, failure, columns))
                for hop in record.hops
            ],
            given=shown(record.given, features),
            answered=shown(record.answered),
            lines=self.files.log_lines(names, record.request_id),
            command=log_command(names, record.request_id),
        )

    def send(self, app: Flask) -> AnyResponse:
        """Send what is in the form, then show how it went."""
        if not guard.is_from_the_page(request.environ, request.host):
            message = "The form is taken from this page only, in a browser that says where it comes from. "
            message += f"Programs send to http://{request.host}/invocations."
            return _problem(HTTPStatus.FORBIDDEN, "Not sent from this page", message)
        try:
            payload = read_form()
        except ServingError as error:
            return _problem(error.status, "The form cannot be sent", f"{error.message}.")
        request_id = invoke(app, self.endpoint, payload)
        return redirect(f"/requests?{urlencode({'id': request_id})}", HTTPStatus.SEE_OTHER)

    def asset(self, name: str) -> Response:
        if name not in self.assets:
            abort(HTTPStatus.NOT_FOUND)
        return Response(self.assets[name], mimetype=_ASSETS[name], headers={"Cache-Control": "max-age=86400"})

    def picture(self, name: str) -> Response:
        if (picture := self.files.picture(name)) is None:
            abort(HTTPStatus.NOT_FOUND)
        return Response(picture, mimetype="image/png")


def _chosen(records: Sequence[Record]) -> Record | None:
    """The request that the address asks for."""
    wanted, number = request.args.get("id", ""), request.args.get("number", type=int)
    return next((one for one in records if one.request_id == wanted and number in (None, one.number)), None)


def _check_host() -> None:
    if not guard.is_local(request.host):
        abort(HTTPStatus.FORBIDDEN)


def _protect(response: Response) -> Response:
    for name, value in guard.HEADERS.items():
        response.headers[name] = value
    response.headers.setdefault("Cache-Control", "no-store")
    return response


def _problem(status: int, title: str, message: str) -> Response:
    return Response(render_template("problem.html", title=title, message=message), status, mimetype="text/html")
