"""Any OpenAI-compatible server as the backend, through OpenAI's own client, which is imported when such a service starts."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
from importlib import import_module
from time import monotonic
from typing import TYPE_CHECKING, Any

from app.integrations.ryot.backend import DEADLINE, STREAM_SECONDS
from app.integrations.ryot.errors import BackendTimeoutError, BadBackendError, RefusedError, RestingError, RyotError
from app.integrations.ryot.response_checks import checked, checked_models
from monitoring.breaker import Breaker, CircuitOpenError, Policy

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator

    import openai

    from app.integrations.ryot.backend import Call, Json

SERVICE = "ryot"
"""The breaker's name."""

_log = logging.getLogger(__name__)

MODELS_SECONDS = 10.0
"""How long a list of models is good for."""

_EARLIER_SECONDS = 0.02
"""So much before whoever waits gives up, a request ends as a timeout of the backend's."""

_FAILURES = (BadBackendError, BackendTimeoutError)
_PATHS = {"completion": "/completions", "chat": "/chat/completions"}
_LONGEST_MESSAGE = 500
_PASSED_ON = frozenset({400, 404, 413, 422, 429})
"""Refusals of the backend that are the client's to mend; any other is ours or the backend's."""


class Remote:
    """The backend behind RYOT_BASE_URL. Retries are the client library's own; the deadline is over all of them.

    One circuit breaker for all workers ends the asking of a backend that fails; without a policy there is none.
    """

    def __init__(
        self,
        base_url: str,
        api_key: str | None,
        timeout_seconds: float,
        stream_seconds: float = STREAM_SECONDS,
        policy: Policy | None = None,
    ) -> None:
        self._breaker = None if policy is None else Breaker(SERVICE, policy, counts=_FAILURES)
        self.timeout_seconds = timeout_seconds
        self.stream_seconds = stream_seconds
        self._base_url = base_url
        self._api_key = api_key
        self._client: openai.AsyncOpenAI | None = None
        self._models: list[Json] = []
        self._again_at = 0.0
        self._listing = asyncio.Lock()

    async def start(self) -> None:
        """Import the client library; the backend itself may be down now and up later."""
        await asyncio.to_thread(import_module, "openai")

    async def models(self) -> list[Json]:
        """Give what the backend lists, as it listed it a moment ago."""
        async with self._listing:
            if not self._models or monotonic() >= self._again_at:
                async with self._asking():
                    self._models = checked_models(await self._connected().get("/models", cast_to=object, options=self._options()))
                self._again_at = monotonic() + MODELS_SECONDS
            return self._models

    async def knows(self, model: str) -> bool:
        """Tell whether the backend lists a model; where it does not answer now, whether it did at the last time."""
        try:
            listed = await self.models()
        except RyotError:
            if not self._models:
                raise
            self._again_at = monotonic() + MODELS_SECONDS
            listed = self._models
        return any(each["id"] == model for each in listed)

    async def complete(self, call: Call, _progress: Callable[[int], None]) -> Json:
        """Give the backend's answer; how many tokens it took is known at its end only."""
        async with self._asking():
            path = _PATHS[call.kind]
            answer: object = await self._connected().post(path, cast_to=object, body=call.given, options=self._options())
            return checked(answer)

    async def stream(self, call: Call) -> AsyncGenerator[Json, None]:
        """Give the backend's chunks; they end with why each choice ended, or the backend is at fault."""
        options = {**(call.given.get("stream_options") or {}), "include_usage": True}
        body = {**call.given, "stream": True, "stream_options": options}
        finished = False
        async with self._asking():
            from openai import AsyncStream

            path = _PATHS[call.kind]
            chunks = await self._connected().post(
                path, cast_to=object, body=body, options=self._options(), stream=True, stream_cls=AsyncStream[object]
            )
            each = await anext(chunks, None)
        try:
            async with chunks:
                while each is not None:
                    chunk = checked(each)
                    finished = finished or any(choice.get("finish_reason") for choice in chunk["choices"])
                    yield chunk
                    async with _in_time():
                        each = await anext(chunks, None)
            if not finished:
                raise BadBackendError("the backend's stream ended before its answer did")
        except _FAILURES:
            if self._breaker:
                self._breaker.fail()
            raise

    async def close(self) -> None:
        """Close the connections."""
        if self._client is not None:
            await self._client.close()

    @contextlib.asynccontextmanager
    async def _asking(self) -> AsyncIterator[None]:
        """Make one request."""
        try:
            async with self._breaker.call() if self._breaker else contextlib.nullcontext(), _in_time():
                yield
        except CircuitOpenError as error:
            headers = {"Retry-After": str(math.ceil(error.retry_after))}
            raise RestingError(
                f"the backend has failed too often; it is asked again in {error.retry_after:.1f} s", headers=headers
            ) from error

    def _connected(self) -> openai.AsyncOpenAI:
        if self._client is None:
            import openai

            self._client = openai.AsyncOpenAI(base_url=self._base_url, api_key=self._api_key or "none", timeout=self.timeout_seconds)
        return self._client

    def _options(self) -> Any:
        """Without a key none is sent, and none that lies in the environment for another purpose."""
        import openai

        return {} if self._api_key else {"headers": {"Authorization": openai.Omit()}}


@contextlib.asynccontextmanager
async def _in_time() -> AsyncIterator[None]:
    """Wait for the backend until a moment before whoever asked gives up: what is cancelled from outside cannot tell why."""
    ends = DEADLINE.get(None)
    deadline = asyncio.timeout_at(None if ends is None else ends - _EARLIER_SECONDS)
    try:
        with _translated():
            async with deadline:
                yield
    except BadBackendError as error:
        if deadline.expired():
            raise BackendTimeoutError("the backend did not answer in time") from error
        raise


@contextlib.contextmanager
def _translated() -> Iterator[None]:
    """Turn what the client library raises into our errors."""
    import openai

    try:
        yield
    except RyotError:
        raise
    except openai.APITimeoutError as error:
        raise BackendTimeoutError("the backend did not answer in time") from error
    except openai.APIStatusError as error:
        raise _refusal(error.status_code, error.body) from error
    except openai.APIConnectionError as error:
        raise BadBackendError("the backend cannot be reached, or broke off") from error
    except openai.APIError as error:
        raise BadBackendError(f"the backend failed: {error.message[:_LONGEST_MESSAGE]}") from error
    except Exception as error:  # nobody lists what the library raises for nonsense
        _log.warning("Ryot's backend said what makes no sense: %s", repr(error)[:_LONGEST_MESSAGE])
        raise BadBackendError("the backend's answer makes no sense") from error


def _refusal(status: int, body: object) -> RyotError:
    """Give the error for a status that is none of success."""
    if status in {408, 504}:
        return BackendTimeoutError("the backend itself waited too long")
    if status in {401, 403}:
        return BadBackendError("the backend refuses this service's key (RYOT_API_KEY)")
    if status not in _PASSED_ON:
        return BadBackendError(f"the backend failed with status {status}")
    told = body if isinstance(body, dict) else {}
    message, param, code = (each if isinstance(each, str) else None for each in map(told.get, ("message", "param", "code")))
    text = (message or f"the backend refuses the call with status {status}")[:_LONGEST_MESSAGE]
    return RefusedError(text, status=status, param=param, code=code)
