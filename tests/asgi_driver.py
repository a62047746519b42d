"""Drives an ASGI application as a server does, without sockets, and notes what was counted at the moment of each message."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from monitoring import metrics

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, MutableMapping

    from prometheus_client.metrics import MetricWrapperBase

    Message = MutableMapping[str, Any]
    App = Callable[[Any, Any, Any], Awaitable[None]]
    Counted = dict[tuple[str, str, str], float]

HISTOGRAMS = {
    "duration": metrics.http_request_duration_seconds,
    "first byte": metrics.http_time_to_first_byte_seconds,
    "received": metrics.http_request_size_bytes,
    "sent": metrics.http_response_size_bytes,
}


def forget() -> None:
    """Begin at nothing. Middlewares made before keep the old cells: make them after."""
    for family in (metrics.http_requests, metrics.http_requests_in_progress, *HISTOGRAMS.values()):
        family.clear()


def _samples(family: MetricWrapperBase, suffix: str) -> dict[tuple[str, ...], float]:
    (metric,) = family.collect()
    return {tuple(sample.labels.values()): sample.value for sample in metric.samples if sample.name.endswith(suffix) and sample.value}


def counted() -> Counted:
    """Give every (method, endpoint, status) that is not 0."""
    return _samples(metrics.http_requests, "_total")  # type: ignore[return-value]


def observed(which: str) -> dict[tuple[str, ...], float]:
    """Give the number of observations per (method, endpoint)."""
    return _samples(HISTOGRAMS[which], "_count")


def summed(which: str) -> dict[tuple[str, ...], float]:
    """Give the sum of observations per (method, endpoint)."""
    return _samples(HISTOGRAMS[which], "_sum")


def in_progress() -> dict[tuple[str, ...], float]:
    """Give what is in progress per method, without zeros."""
    return _samples(metrics.http_requests_in_progress, "")


def scope(method: str = "GET", path: str = "/", headers: Iterable[tuple[bytes, bytes]] = (), **more: Any) -> dict[str, Any]:
    """Build the scope of one request, as uvicorn does."""
    return {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.4"},
        "http_version": "1.1",
        "server": ("127.0.0.1", 8000),
        "client": ("127.0.0.1", 40000),
        "scheme": "http",
        "method": method,
        "root_path": "",
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "headers": [(b"host", b"testserver"), *headers],
        "state": {},
        **more,
    }


def start(status: Any = 200, *headers: tuple[bytes, bytes], **more: Any) -> Message:
    return {"type": "http.response.start", "status": status, "headers": list(headers), **more}


def body(content: Any = b"", more: bool = False) -> Message:
    return {"type": "http.response.body", "body": content, "more_body": more}


def length(size: int) -> tuple[bytes, bytes]:
    return (b"content-length", str(size).encode())


@dataclass
class Exchange:
    """One request and what came of it."""

    scope: dict[str, Any] = field(default_factory=scope)
    requests: list[Message] = field(default_factory=list)
    """What receive gives in turn; after that the client goes away."""
    fail_at: int | None = None
    """Forwarding the message with this number raises `failure`."""
    failure: BaseException | None = None
    sent: list[Message] = field(default_factory=list)
    counted: list[Counted] = field(default_factory=list)
    """What was counted when each of `sent` reached the server."""
    progress: list[dict[tuple[str, ...], float]] = field(default_factory=list)
    raised: BaseException | None = None

    async def receive(self) -> Message:
        return self.requests.pop(0) if self.requests else {"type": "http.disconnect"}

    async def send(self, message: Message) -> None:
        number = len(self.sent)
        self.sent.append(message)
        self.counted.append(counted())
        self.progress.append(in_progress())
        await asyncio.sleep(0)
        if number == self.fail_at and self.failure is not None:
            raise self.failure

    async def through(self, app: App) -> Exchange:
        """Run the request; what the application raises is kept."""
        try:
            await app(self.scope, self.receive, self.send)
        except (Exception, asyncio.CancelledError) as error:  # noqa: BLE001 - kept for the test
            self.raised = error
        return self

    @property
    def status(self) -> int:
        return int(self.sent[0]["status"])

    @property
    def content(self) -> bytes:
        return b"".join(message.get("body", b"") for message in self.sent[1:])


def drive(app: App, request: dict[str, Any] | None = None, *requests: Message, **more: Any) -> Exchange:
    """Run one request through an application; `requests` defaults to an empty body."""
    given = list(requests) or [{"type": "http.request", "body": b"", "more_body": False}]
    return asyncio.run(Exchange(request or scope(), given, **more).through(app))


def sending(*messages: Message, then: BaseException | None = None) -> App:
    """Make an application that reads the body, sends these messages and, maybe, raises."""

    async def app(_scope: Any, receive: Any, send: Any) -> None:
        message = await receive()
        while message["type"] == "http.request" and message.get("more_body"):
            message = await receive()
        for each in messages:
            await send(each)
        if then is not None:
            raise then

    return app
