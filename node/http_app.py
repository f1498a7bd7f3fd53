"""What is served over HTTP: probes, metrics, the status as JSON, and a page for people. Read-only.

    /livez /healthz /readyz    checks by name; ?verbose, ?exclude=NAME, /readyz/NAME
    /metrics                   Prometheus
    /version /status           JSON; /status?local asks this node alone
    /topics /topics/NAME       JSON: names, offsets, traffic
    /topics/NAME/tail          server-sent events: the newest records
    /                          the page; it uses /status, /topics and the tail

Every answer forbids a browser to take it for something else, to keep it, or to show it inside another site.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import platform
import re
from collections.abc import Awaitable, Callable, Mapping
from importlib import resources
from ipaddress import ip_address
from typing import Any, Final

from google.protobuf.message import Message
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route

from quorumlog.node.checks import Checks, Report
from quorumlog.node.config import Endpoint
from quorumlog.node.errors import refused_for
from quorumlog.node.http_connection import CERTIFICATE
from quorumlog.node.live_tail import EVENT_RECORDS, LiveTails
from quorumlog.node.machine import LogMachine
from quorumlog.node.metrics import CONTENT_TYPE, Metrics
from quorumlog.node.reading import Place, Reader
from quorumlog.node.reasons import Reason, Refusal
from quorumlog.node.status import Statuses
from quorumlog.node.topics import Topic
from quorumlog.node.viewers import Viewer, Viewers

TOPICS_MAX: Final = 500  # in one answer; `filter` finds the others
_STATUS_S: Final = 1.0  # for the other nodes' answers; and for so long one answer serves all that ask
_LAST: Final = 20

_STATUS_CODES: Final = {
    Reason.BAD_REQUEST: 400,
    Reason.BAD_NAME: 400,
    Reason.UNAUTHENTICATED: 401,
    Reason.PERMISSION_DENIED: 403,
    Reason.UNKNOWN_TOPIC: 404,
    Reason.UNKNOWN_PARTITION: 404,
    Reason.BUSY: 503,
    Reason.SHUTTING_DOWN: 503,
}
_HEADERS: Final = {
    "Cache-Control": "no-store",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
}

Handler = Callable[[Request, Viewer], Awaitable[Response]]


class HttpApp:
    """See the module."""

    def __init__(
        self,
        endpoint: Endpoint,
        checks: Checks,
        statuses: Statuses,
        machine: LogMachine,
        reader: Reader,
        live_tails: LiveTails,
        metrics: Metrics,
        viewers: Viewers,
    ) -> None:
        self._endpoint = endpoint
        self._checks = checks
        self._statuses = statuses
        self._machine = machine
        self._reader = reader
        self._live_tails = live_tails
        self._metrics = metrics
        self._viewers = viewers
        self._page, self._policy = _load_page()
        self._scraping = asyncio.Lock()
        self._status: asyncio.Task[dict[str, Any]] | None = None
        self._status_until = 0.0
        self.asgi = Starlette(
            routes=[
                self._route("/", self._index),
                self._route("/livez", self._livez),
                self._route("/healthz", self._livez),
                self._route("/readyz", self._readyz),
                self._route("/readyz/{check}", self._readyz_one),
                self._route("/metrics", self._show_metrics),
                self._route("/version", self._version),
                self._route("/status", self._show_status),
                self._route("/topics", self._topics),
                self._route("/topics/{topic}", self._topic),
                self._route("/topics/{topic}/tail", self._tail),
            ]
        )

    def _route(self, path: str, handler: Handler) -> Route:
        async def handle(request: Request) -> Response:
            response = await self._answer(request, handler)
            for name, value in _HEADERS.items():
                response.headers.setdefault(name, value)
            return response

        return Route(path, handle, methods=["GET"])

    async def _answer(self, request: Request, handler: Handler) -> Response:
        if request.headers.get("content-length", "0") != "0" or "transfer-encoding" in request.headers:
            # It will not be read; closing keeps it from being sent for ever.
            return PlainTextResponse("no body is taken here\n", 413, {"Connection": "close"})
        if not self._is_our_name(request.headers.get("host", "")):
            return PlainTextResponse("this node is not known under that name\n", 421)
        peer = f"{request.client.host}:{request.client.port}" if request.client is not None else "?"
        try:
            viewer = self._viewers.of(getattr(request.state, CERTIFICATE, None), peer)
            return await handler(request, viewer)
        except Exception as error:  # noqa: BLE001 - the boundary: errors.py knows each, or logs it
            refused = refused_for(error)
            told = {"reason": refused.reason.value, "message": refused.message}
            return JSONResponse(told, _STATUS_CODES.get(refused.reason, 500))

    def _is_our_name(self, host_and_port: str) -> bool:
        """Whether a browser was meant to come here, where loopback is all that keeps others out.

        A page of another site can send its own visitors to 127.0.0.1, under a name of its own.
        """
        if not self._endpoint.listen.is_loopback:
            return True
        host = re.sub(r":\d*$", "", host_and_port).strip("[]").lower()
        if host in ("", "localhost", self._endpoint.advertised.host.lower()):
            return True
        try:
            ip_address(host)
        except ValueError:
            return False
        return True

    # Probes

    async def _livez(self, request: Request, viewer: Viewer) -> Response:
        return _report(self._checks.live(_excluded(request)), request)

    async def _readyz(self, request: Request, viewer: Viewer) -> Response:
        return _report(self._checks.ready(_excluded(request)), request)

    async def _readyz_one(self, request: Request, viewer: Viewer) -> Response:
        name = request.path_params["check"]
        why = self._checks.ready().results.get(name)
        if why is None:
            return PlainTextResponse("there is no such check\n", 404)
        return PlainTextResponse(f"{why or 'ok'}\n", 503 if why else 200)

    # For machines

    async def _show_metrics(self, request: Request, viewer: Viewer) -> Response:
        async with self._scraping:  # who scrapes twice at once waits, and costs no more
            text = await self._metrics.text(viewer)
        return Response(text, headers={"Content-Type": CONTENT_TYPE})

    async def _version(self, request: Request, viewer: Viewer) -> Response:
        return JSONResponse({"version": self._statuses.version, "python": platform.python_version()})

    async def _show_status(self, request: Request, viewer: Viewer) -> Response:
        if "local" in request.query_params:
            return JSONResponse(_plain(await self._statuses.gather(None)))
        return JSONResponse(await self._shared_status())

    async def _shared_status(self) -> dict[str, Any]:
        """Return what the nodes said a moment ago: many pages ask them no more than one does."""
        now = asyncio.get_running_loop().time()
        if self._status is None or now >= self._status_until:
            self._status = asyncio.ensure_future(self._gather())
            self._status_until = now + _STATUS_S
        return await asyncio.shield(self._status)

    async def _gather(self) -> dict[str, Any]:
        return _plain(await self._statuses.gather(_STATUS_S))

    async def _topics(self, request: Request, viewer: Viewer) -> Response:
        wanted = request.query_params.get("filter", "")
        seen = [topic for topic in self._machine.topics.by_name() if viewer.sees(topic.name)]
        found = [topic for topic in seen if wanted in topic.name]
        return JSONResponse(
            {
                "applied_index": self._machine.applied_index,
                "known": viewer.is_known,
                "count": len(found),
                "topics": [_summary(topic) for topic in found[:TOPICS_MAX]],
            }
        )

    async def _topic(self, request: Request, viewer: Viewer) -> Response:
        name = request.path_params["topic"]
        viewer.require_sight(name)
        topic = self._reader.topic(name)
        partitions = [
            {"partition": number, "start_offset": each.start_offset, "next_offset": each.next_offset}
            for number, each in enumerate(topic.partitions)
        ]
        return JSONResponse({**_summary(topic), "partitions": partitions})

    async def _tail(self, request: Request, viewer: Viewer) -> Response:
        name = request.path_params["topic"]
        viewer.require_records(name)
        asked = request.query_params.get("partition")
        if asked is None:
            topic = self._reader.topic(name)
            places = [Place(topic, number) for number in range(len(topic.partitions))]
        else:
            places = [self._reader.place(name, _number("partition", asked))]
        last = min(_number("last", request.query_params.get("last", str(_LAST))), EVENT_RECORDS)
        resume = request.headers.get("last-event-id")
        events = self._live_tails.open(places, last, resume, lambda: viewer.require_records(name))
        return StreamingResponse(events, media_type="text/event-stream")

    # For people

    async def _index(self, request: Request, viewer: Viewer) -> Response:
        return Response(self._page, media_type="text/html", headers={"Content-Security-Policy": self._policy})


def _report(report: Report, request: Request) -> Response:
    verbose = "verbose" in request.query_params or not report.passed
    text = "".join(f"{line}\n" for line in report.lines()) if verbose else "ok\n"
    return PlainTextResponse(text, 200 if report.passed else 503)


def _excluded(request: Request) -> list[str]:
    return [name for value in request.query_params.getlist("exclude") for name in value.split(",") if name]


def _number(field: str, text: str) -> int:
    if not re.fullmatch(r"[0-9]{1,9}", text):
        raise Refusal(Reason.BAD_REQUEST, f"{field}: expected a number, got {text[:64]!r}")
    return int(text)


def _summary(topic: Topic) -> dict[str, Any]:
    traffic = topic.traffic
    return {
        "name": topic.name,
        "created_ms": topic.created_ms,
        "partition_count": len(topic.partitions),
        "records": sum(each.next_offset - each.start_offset for each in topic.partitions),
        "records_in": sum(each.next_offset for each in topic.partitions),
        "bytes_in": traffic.bytes_in,
        "records_out": traffic.records_out,
        "bytes_out": traffic.bytes_out,
    }


def _plain(message: Message) -> dict[str, Any]:
    """Return a message as JSON has it: every field, numbers as numbers, bytes as hexadecimal digits."""
    return {field.name: _value(field, getattr(message, field.name)) for field in message.DESCRIPTOR.fields}


def _value(field: Any, value: Any) -> Any:
    if isinstance(value, Message):
        return _plain(value)
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, (str, bool, int, float)):
        return field.enum_type.values_by_number[value].name if field.enum_type is not None else value
    return [_value(field, each) for each in value]


def _load_page() -> tuple[str, str]:
    """Return the page, and a policy under which only its own script and style count."""
    page = resources.files("quorumlog.node").joinpath("status.html").read_text("utf-8")
    script, style = (_digest(page, element) for element in ("script", "style"))
    policy: Mapping[str, str] = {
        "default-src": "'none'",
        "script-src": script,
        "style-src": style,
        "connect-src": "'self'",
        "img-src": "data:",
        "base-uri": "'none'",
        "form-action": "'none'",
        "frame-ancestors": "'none'",
    }
    return page, "; ".join(f"{name} {value}" for name, value in policy.items())


def _digest(page: str, element: str) -> str:
    begin, end = f"<{element}>", f"</{element}>"
    (content,) = re.findall(f"{begin}(.*?){end}", page, re.DOTALL)
    return f"'sha256-{base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()}'"
