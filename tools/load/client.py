"""Sends requests, bounded in number and time, and records in the ledger the samples that each can have moved.

acknowledged: the whole answer was read. refused: no connection was made, nothing was sent. In every other case the outcome is unknown.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from typing import TYPE_CHECKING

import httpx2

from monitoring.verify.ledger import Ledger, Sample
from tools.load.request import RAW, Outcome, Request

if TYPE_CHECKING:
    import random
    from collections.abc import AsyncIterator, Callable

_PIECES = 10
_TRIES = 3
_MOST_REFUSED = 20
_PAUSE_SECONDS = 0.1
_NOT_SENT = (httpx2.ConnectError, httpx2.ConnectTimeout, httpx2.PoolTimeout)


class BoundReachedError(Exception):
    """The bound on requests or time is reached, or the user has stopped the run: nothing more is sent."""


class NoAnswerError(Exception):
    """A request was not answered, or not to its end."""


class UnavailableError(Exception):
    """A part of the service is not available; the text is one line."""


class _AbandonedError(Exception):
    """The client leaves on purpose, like one whose user closes the window."""


class Client:
    """The connection to the service. While `bounded`, it sends at most `most` requests, and none after `until`."""

    def __init__(self, url: str, admin_key: str | None, concurrency: int, timeout: float, choice: random.Random) -> None:
        limits = httpx2.Limits(max_connections=concurrency + 1, max_keepalive_connections=concurrency + 1)
        self._http = httpx2.AsyncClient(base_url=url, limits=limits, timeout=timeout, trust_env=False)
        self._timeout = timeout
        self._choice = choice
        self.ledger = Ledger()
        self.admin_key = admin_key
        self.user_keys: list[str] = []
        self.bounded = self.stopped = self.gone = False
        self.most, self.until = 0, 0.0
        self.sent = 0
        self._refused_in_a_row = 0
        #: Unexpected statuses: request, status and reason.
        self.surprises: Counter[str] = Counter()
        #: Wrong answers, for example a stored object that came back changed.
        self.faults: Counter[str] = Counter()
        #: Other messages for the user.
        self.notes: Counter[str] = Counter()
        #: Called after each bounded request.
        self.progress: Callable[[], None] = lambda: None

    async def close(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    async def send(self, request: Request) -> Outcome:
        """Send a request and return its answer of any status; NoAnswerError if none came, BoundReachedError at the bound."""
        outcome = await self._send(request)
        if outcome.status not in request.expects:
            self.surprises[f"{request.method} {request.template} was answered {outcome.status} {outcome.why}".rstrip()] += 1
        return outcome

    async def _send(self, request: Request) -> Outcome:
        if self.gone:
            raise BoundReachedError if self.bounded else NoAnswerError("the service has stopped")
        if self.bounded:
            if self.stopped or self.sent >= self.most or time.monotonic() > self.until:
                raise BoundReachedError
            self.sent += 1
        outcome = Outcome(request)
        try:
            async with asyncio.timeout(self._timeout + request.pace.sending + request.pace.reading):
                await self._exchange(request, outcome)
        except _NOT_SENT as error:
            await self._refuse(request)
            raise NoAnswerError(str(error)) from error
        except BaseException as error:
            self._refused_in_a_row = 0
            self._write(outcome)
            if isinstance(error, httpx2.TransportError | TimeoutError | _AbandonedError):
                raise NoAnswerError(f"{type(error).__name__}") from error
            raise
        finally:
            if self.bounded:
                self.progress()
        self._refused_in_a_row = 0
        self._write(outcome)
        return outcome

    async def need(self, request: Request) -> Outcome:
        """Send a request that a scenario depends on, and repeat it if a worker died; UnavailableError names a refusal."""
        for left in reversed(range(_TRIES)):
            try:
                answer = await self._send(request)
                break
            except NoAnswerError as error:
                if not left or isinstance(error.__cause__, _NOT_SENT):
                    raise UnavailableError(f"{request.method} {request.template} was not answered: {error}") from error
        if answer.status not in request.expects:
            raise UnavailableError(f"{request.method} {request.template} was answered {answer.status}: {answer.why}")
        return answer

    async def _exchange(self, request: Request, outcome: Outcome) -> None:
        content = _slowly(request) if request.pace.sending or request.pace.leaves == "sending" else request.body
        paused, pause = 0.0, request.pace.reading / _PIECES
        async with self._http.stream(request.method, request.path, content=content, headers=self._headers(request)) as response:
            outcome.status = response.status_code
            async for piece in response.aiter_raw():
                outcome.body += piece
                if request.pace.leaves == "reading":
                    raise _AbandonedError
                if paused < request.pace.reading:
                    await asyncio.sleep(pause)
                    paused += pause
            outcome.whole = True

    def _headers(self, request: Request) -> dict[str, str]:
        headers = {"accept-encoding": "identity"}
        if request.body:
            headers["content-type"] = request.media_type or RAW
        key = self.admin_key
        if request.role == "unknown_key":
            key = "nk-unknown-key"
        elif request.role == "anonymous":
            key = None
        elif request.role == "user" and self.user_keys:
            key = self._choice.choice(self.user_keys)
        if key is not None:
            headers["authorization"] = f"Bearer {key}"
        return headers

    async def _refuse(self, request: Request) -> None:
        self.ledger.refused += 1
        self._refused_in_a_row += 1
        if self._refused_in_a_row >= _MOST_REFUSED:
            self.gone = True
            self.notes[f"the service has stopped: it refused {_MOST_REFUSED} connections in a row"] = 1
        elif request.pace.leaves != "sending":
            await asyncio.sleep(_PAUSE_SECONDS)

    def _write(self, outcome: Outcome) -> None:
        """Record the samples that this request has moved, or may have moved."""
        request, ledger = outcome.request, self.ledger
        labels = {"method": request.method, "endpoint": request.template}
        received, sent = Sample.of("http_request_size_bytes_sum", **labels), Sample.of("http_response_size_bytes_sum", **labels)
        duration = Sample.of("http_request_duration_seconds_count", **labels)
        if outcome.whole:
            good = outcome.status // 100 == 2
            ledger.certain(Sample.of("http_requests_total", **labels, status=str(outcome.status)))
            ledger.certain(duration)
            ledger.between(received, len(request.body) if good else 0, len(request.body))
            # The application also makes a body for HEAD; the server does not send it.
            ledger.between(sent, len(outcome.body), float("inf") if request.method == "HEAD" else len(outcome.body))
        else:
            ledger.perhaps(Sample.of("http_requests_total", **labels))
            ledger.between(duration, 0, 1)
            ledger.between(received, 0, len(request.body))
            ledger.between(sent, 0, float("inf"))
        if request.moves is not None:
            request.moves(outcome, ledger)


async def _slowly(request: Request) -> AsyncIterator[bytes]:
    """Yield the body in pieces, with pauses."""
    size = max(1, -(-len(request.body) // _PIECES))
    for number, start in enumerate(range(0, len(request.body), size)):
        if request.pace.leaves == "sending" and number == _PIECES // 2:
            raise _AbandonedError
        yield request.body[start : start + size]
        await asyncio.sleep(request.pace.sending / _PIECES)
