"""Any OpenAI-compatible server as the backend, through OpenAI's client. Only a service with RYOT_BASE_URL imports that client."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
from importlib import import_module
from typing import TYPE_CHECKING, Any

from app.integrations.ryot.backend import DEADLINE, STREAM_SECONDS
from app.integrations.ryot.errors import BackendTimeoutError, BadBackendError, RefusedError, RestingError, RyotError
from app.integrations.ryot.response_checks import checked, checked_models
from monitoring.breaker import Breaker, CircuitOpenError, Policy
from monitoring.retry_later import Pause

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator

    import openai

    from app.integrations.ryot.backend import Call, Json

SERVICE = "ryot"
"""Name of the circuit breaker."""

_log = logging.getLogger(__name__)

MODELS_SECONDS = 10.0
"""How long a list of models is cached."""

_EARLIER_SECONDS = 0.02
"""A request times out this long before its caller stops waiting."""

_FAILURES = (BadBackendError, BackendTimeoutError)
_PATHS = {"completion": "/completions", "chat": "/chat/completions"}
_LONGEST_MESSAGE = 500
_PASSED_ON = frozenset({400, 404, 413, 422, 429})
"""Refusals that the client can correct. All others are faults of this service or of the backend."""


class Remote:
    """The backend at RYOT_BASE_URL. The client library retries; the deadline includes all retries.

    All workers share one circuit breaker, which stops calls to a failing backend. It exists only with a policy.
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
        self._listing_pause = Pause(MODELS_SECONDS)
        self._listing = asyncio.Lock()

    async def start(self) -> None:
        """Import the client library. The backend may still be down."""
        await asyncio.to_thread(import_module, "openai")

    async def models(self) -> list[Json]:
        """Return the models of the backend, cached for MODELS_SECONDS."""
        async with self._listing:
            if not self._models or self._listing_pause.over:
                async with self._asking():
                    self._models = checked_models(await self._connected().get("/models", cast_to=object, options=self._options()))
                self._listing_pause.begin()
            return self._models

    async def knows(self, model: str) -> bool:
        """Return whether the backend lists a model. If it does not answer, its last list decides."""
        try:
            listed = await self.models()
        except RyotError:
            if not self._models:
                raise
            self._listing_pause.begin()
            listed = self._models
        return any(each["id"] == model for each in listed)

    async def complete(self, call: Call, _progress: Callable[[int], None]) -> Json:
        """Return the backend's answer. The number of tokens is only known at its end."""
        async with self._asking():
            path = _PATHS[call.kind]
            answer: object = await self._connected().post(path, cast_to=object, body=call.given, options=self._options())
            return checked(answer)

    async def stream(self, call: Call) -> AsyncGenerator[Json, None]:
        """Yield the backend's chunks. A stream that ends without a finish reason is an error of the backend."""
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
                raise BadBackendError("the backend's stream ended before a finish reason")
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
        """Guard one request with the breaker and the deadline."""
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
        """Return options that send no Authorization header without a key, whatever the environment contains."""
        import openai

        return {} if self._api_key else {"headers": {"Authorization": openai.Omit()}}


@contextlib.asynccontextmanager
async def _in_time() -> AsyncIterator[None]:
    """Raise BackendTimeoutError a moment before the caller's deadline: a cancelled request could not report the reason."""
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
    """Translate the client library's exceptions to RyotError."""
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
        raise BadBackendError("the backend cannot be reached, or closed the connection") from error
    except openai.APIError as error:
        raise BadBackendError(f"the backend failed: {error.message[:_LONGEST_MESSAGE]}") from error
    except Exception as error:  # the library does not document its exceptions for malformed answers
        _log.warning("malformed answer of Ryot's backend: %s", repr(error)[:_LONGEST_MESSAGE])
        raise BadBackendError("the backend's answer is malformed") from error


def _refusal(status: int, body: object) -> RyotError:
    """Return the error for an HTTP error status."""
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
