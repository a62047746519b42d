"""Sends calls, bounded in number and time, and writes into the ledger what each can have moved.

acknowledged: the whole answer was read. refused: no connection was made, nothing was sent. Whatever else happens, the answer is unknown.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from typing import TYPE_CHECKING

import httpx2

from tools.load.call import RAW, Call, Outcome
from tools.load.ledger import Ledger, Sample

if TYPE_CHECKING:
    import random
    from collections.abc import AsyncIterator, Callable

_PIECES = 10
_TRIES = 3
_MOST_REFUSED = 20
_PAUSE_SECONDS = 0.1
_NOT_SENT = (httpx2.ConnectError, httpx2.ConnectTimeout, httpx2.PoolTimeout)


class OverError(Exception):
    """The bound on calls or time is reached, or the run is to end: nothing more is sent."""


class NoAnswerError(Exception):
    """A call was not answered, or not to its end."""


class OffError(Exception):
    """A part of the service is not there to be called; the text is one line."""


class _LeftError(Exception):
    """We leave, as a client does whose user has closed the window."""


class Client:
    """The one way to the service. While `bounded`, at most `most` calls are sent, and none after `until`."""

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
        #: Statuses that nobody expected: call, status and reason.
        self.surprises: Counter[str] = Counter()
        #: Answers that are wrong: what was stored, or compressed, did not come back.
        self.faults: Counter[str] = Counter()
        #: What else a person should know.
        self.notes: Counter[str] = Counter()
        #: Told after each bounded call.
        self.progress: Callable[[], None] = lambda: None

    async def close(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    async def send(self, call: Call) -> Outcome:
        """Send one call and give its answer, whatever its status; NoAnswerError where none came, OverError at the bound."""
        outcome = await self._send(call)
        if outcome.status not in call.expects:
            self.surprises[f"{call.method} {call.template} was answered {outcome.status} {outcome.why}".rstrip()] += 1
        return outcome

    async def _send(self, call: Call) -> Outcome:
        if self.gone:
            raise OverError if self.bounded else NoAnswerError("the service is gone")
        if self.bounded:
            if self.stopped or self.sent >= self.most or time.monotonic() > self.until:
                raise OverError
            self.sent += 1
        outcome = Outcome(call)
        try:
            async with asyncio.timeout(self._timeout + call.pace.sending + call.pace.reading):
                await self._exchange(call, outcome)
        except _NOT_SENT as error:
            await self._refuse(call)
            raise NoAnswerError(str(error)) from error
        except BaseException as error:
            self._refused_in_a_row = 0
            self._write(outcome)
            if isinstance(error, httpx2.TransportError | TimeoutError | _LeftError):
                raise NoAnswerError(f"{type(error).__name__}") from error
            raise
        finally:
            if self.bounded:
                self.progress()
        self._refused_in_a_row = 0
        self._write(outcome)
        return outcome

    async def need(self, call: Call) -> Outcome:
        """Send a call without which there is no use in others like it, again where a worker died; OffError says what it was answered."""
        for left in reversed(range(_TRIES)):
            try:
                answer = await self._send(call)
                break
            except NoAnswerError as error:
                if not left or isinstance(error.__cause__, _NOT_SENT):
                    raise OffError(f"{call.method} {call.template} is not answered: {error}") from error
        if answer.status not in call.expects:
            raise OffError(f"{call.method} {call.template} is answered {answer.status}: {answer.why}")
        return answer

    async def _exchange(self, call: Call, outcome: Outcome) -> None:
        content = _slowly(call) if call.pace.sending or call.pace.leaves == "sending" else call.body
        paused, pause = 0.0, call.pace.reading / _PIECES
        async with self._http.stream(call.method, call.path, content=content, headers=self._headers(call)) as response:
            outcome.status = response.status_code
            async for piece in response.aiter_raw():
                outcome.body += piece
                if call.pace.leaves == "reading":
                    raise _LeftError
                if paused < call.pace.reading:
                    await asyncio.sleep(pause)
                    paused += pause
            outcome.whole = True

    def _headers(self, call: Call) -> dict[str, str]:
        headers = {"accept-encoding": "identity"}
        if call.body:
            headers["content-type"] = call.media_type or RAW
        key = self.admin_key
        if call.role == "stranger":
            key = "nk-nobody-has-this-key"
        elif call.role == "nobody":
            key = None
        elif call.role == "user" and self.user_keys:
            key = self._choice.choice(self.user_keys)
        if key is not None:
            headers["authorization"] = f"Bearer {key}"
        return headers

    async def _refuse(self, call: Call) -> None:
        self.ledger.refused += 1
        self._refused_in_a_row += 1
        if self._refused_in_a_row >= _MOST_REFUSED:
            self.gone = True
            self.notes[f"the service is gone: {_MOST_REFUSED} connections in a row were refused"] = 1
        elif call.pace.leaves != "sending":
            await asyncio.sleep(_PAUSE_SECONDS)

    def _write(self, outcome: Outcome) -> None:
        """Say what the service has counted of this call, or may have."""
        call, ledger = outcome.call, self.ledger
        labels = {"method": call.method, "endpoint": call.template}
        received, sent = Sample.of("http_request_size_bytes_sum", **labels), Sample.of("http_response_size_bytes_sum", **labels)
        duration = Sample.of("http_request_duration_seconds_count", **labels)
        if outcome.whole:
            good = outcome.status // 100 == 2
            ledger.certain(Sample.of("http_requests_total", **labels, status=str(outcome.status)))
            ledger.certain(duration)
            ledger.between(received, len(call.body) if good else 0, len(call.body))
            # The application gives a body also to HEAD; it is the server that sends none.
            ledger.between(sent, len(outcome.body), float("inf") if call.method == "HEAD" else len(outcome.body))
        else:
            ledger.perhaps(Sample.of("http_requests_total", **labels))
            ledger.between(duration, 0, 1)
            ledger.between(received, 0, len(call.body))
            ledger.between(sent, 0, float("inf"))
        if call.moves is not None:
            call.moves(outcome, ledger)


async def _slowly(call: Call) -> AsyncIterator[bytes]:
    """Give the body in pieces, with pauses."""
    size = max(1, -(-len(call.body) // _PIECES))
    for number, start in enumerate(range(0, len(call.body), size)):
        if call.pace.leaves == "sending" and number == _PIECES // 2:
            raise _LeftError
        yield call.body[start : start + size]
        await asyncio.sleep(call.pace.sending / _PIECES)
