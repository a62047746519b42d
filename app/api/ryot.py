"""Ryot over HTTP, in OpenAI's own format: its clients work against this API unchanged.

Every call is counted once, before the client receives its outcome. Tokens of a stream are counted before they are sent.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import json
import logging
from typing import TYPE_CHECKING, Any

from fastapi import APIRouter, Request, Response
from starlette.requests import ClientDisconnect

from app.api import ryot_openapi as openapi
from app.api.bill import Bill
from app.api.call_metrics import Tally
from app.api.disconnects import Client, EventStream
from app.api.problems import UNEXPECTED, ProblemError
from app.api.problems import unexpected as unexpected_elsewhere
from app.api.raw_bodies import read_bounded
from app.api.ryot_bodies import ChatBody, CompletionBody, parse
from app.integrations.ryot import Backend, BackendTimeoutError, BadBackendError, Call, RefusedError, RyotError, UnknownModelError
from app.integrations.ryot.backend import DEADLINE

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable
    from typing import TypeVar

    from app.integrations.ryot.backend import Json

    _T = TypeVar("_T")

router = APIRouter(prefix="/v1", tags=["Ryot"])

_log = logging.getLogger("neurectomy.ryot")

MAX_BODY_BYTES = 4 * 1024 * 1024
_INLINE_BYTES = 64 * 1024
"""Longer bodies are validated in a thread."""


@router.get("/models", response_class=Response, responses=openapi.MODELS)
async def models(request: Request) -> Response:
    """List the models."""
    try:
        listed = await _listed(request)
        return _json({"object": "list", "data": listed})
    except RyotError as error:
        return _refusal(error)


@router.get("/models/{model:path}", response_class=Response, responses=openapi.MODEL)
async def model(request: Request, model: str) -> Response:
    """Describe one model."""
    try:
        found = next((each for each in await _listed(request) if each["id"] == model), None)
        if found is None:
            raise UnknownModelError(model)
        return _json(found)
    except RyotError as error:
        return _refusal(error)


@router.post("/completions", response_class=Response, openapi_extra=openapi.body(CompletionBody), responses=openapi.ANSWERS)
async def completions(request: Request) -> Response:
    """Complete a prompt, or a batch of them."""
    return await _serve(request, "completion")


@router.post("/chat/completions", response_class=Response, openapi_extra=openapi.body(ChatBody), responses=openapi.ANSWERS)
async def chat_completions(request: Request) -> Response:
    """Generate the next message of a chat."""
    return await _serve(request, "chat")


async def _listed(request: Request) -> list[Json]:
    backend = _backend(request)
    return await _in_time(backend.models(), backend.timeout_seconds, _late(backend))


def _backend(request: Request) -> Backend:
    backend: Backend = request.app.state.ryot
    return backend


async def _serve(request: Request, kind: Any) -> Response:
    """Answer one call and count its outcome."""
    tally = Tally()
    bill = Bill(request, tally)
    backend = _backend(request)
    try:
        raw = await _read(request)
        shape = ChatBody if kind == "chat" else CompletionBody
        given = parse(raw, shape) if len(raw) <= _INLINE_BYTES else await asyncio.to_thread(parse, raw, shape)
        call = Call(kind, given["model"], given)
        client = Client(request.receive)
        try:
            work = _begin(client, backend, call, tally, bill) if given.get("stream") else _complete(backend, call, tally, bill)
            response = await client.unless_gone(_in_time(work, backend.timeout_seconds, _late(backend)))
        except BaseException:
            await client.forget()
            raise
        if not isinstance(response, EventStream):
            await client.forget()
    except RyotError as error:
        tally.end(_outcome(error))
        return _refusal(error)
    except asyncio.CancelledError:
        tally.end("cancelled")
        raise
    except ClientDisconnect:
        tally.end("cancelled")
        with contextlib.suppress(RyotError):  # the client has left
            await bill.settle()
        raise
    except BaseException:
        tally.end("error")
        raise
    return response


async def _read(request: Request) -> bytes:
    try:
        return await read_bounded(request, MAX_BODY_BYTES)
    except ProblemError as error:
        raise RefusedError(error.detail, status=error.status, code=error.reason) from error


async def _in_time(work: Awaitable[_T], seconds: float, late: RyotError, *, told: bool = True) -> _T:
    """Wait for the backend, retries included, and raise `late` at the deadline. With `told`, the backend knows the deadline."""
    deadline = asyncio.timeout(seconds)
    DEADLINE.set(asyncio.get_running_loop().time() + seconds if told else None)
    try:
        async with deadline:
            return await work
    except TimeoutError as error:
        if not deadline.expired():
            raise
        raise late from error


def _late(backend: Backend) -> RyotError:
    return BackendTimeoutError(f"the model did not answer within {backend.timeout_seconds:g} seconds")


async def _next(chunks: AsyncGenerator[Json, None], backend: Backend, ends_at: float) -> Json | None:
    """Return the next chunk, or None at the end. Both the limit for one chunk and the limit for the whole stream apply."""
    left = ends_at - asyncio.get_running_loop().time()
    if backend.timeout_seconds < left:
        return await _in_time(anext(chunks, None), backend.timeout_seconds, _late(backend))
    late = BackendTimeoutError(f"the stream did not end within {backend.stream_seconds:g} seconds")
    if left <= 0:  # a chunk that is ready would be returned in spite of the limit
        raise late
    return await _in_time(anext(chunks, None), left, late, told=False)


async def _find(backend: Backend, call: Call, tally: Tally) -> None:
    """Raise UnknownModelError for a model that the backend does not list. Only listed models become labels."""
    if not await backend.knows(call.model):
        raise UnknownModelError(call.model)
    tally.model(call.model, len(call.prompts))


async def _complete(backend: Backend, call: Call, tally: Tally, bill: Bill) -> Response:
    await _find(backend, call, tally)
    answer = await backend.complete(call, tally.tokens)
    tally.usage(answer.get("usage"))
    response = _json(answer)
    await bill.settle()
    tally.end("success")
    return response


async def _begin(client: Client, backend: Backend, call: Call, tally: Tally, bill: Bill) -> Response:
    """Wait for the first chunk, then answer with a stream. An error before that chunk has its own status."""
    await _find(backend, call, tally)
    chunks = backend.stream(call)
    ends_at = asyncio.get_running_loop().time() + backend.stream_seconds
    try:
        first = await _next(chunks, backend, ends_at)
    except BaseException:
        await chunks.aclose()
        raise
    wants_usage = bool((call.given.get("stream_options") or {}).get("include_usage"))

    async def close() -> None:
        await chunks.aclose()
        tally.end("cancelled")  # without effect if the stream has ended
        with contextlib.suppress(RyotError):  # the client has left
            await bill.settle()

    rest = functools.partial(_next, chunks, backend, ends_at)
    return EventStream(client, _events(first, rest, tally, bill, wants_usage=wants_usage), close)


async def _events(
    first: Json | None, rest: Callable[[], Awaitable[Json | None]], tally: Tally, bill: Bill, *, wants_usage: bool
) -> AsyncGenerator[tuple[bytes, bool], None]:
    """Yield each chunk after counting its tokens, then the end of the stream or an error."""
    try:
        chunk = first
        while chunk is not None:
            tokens = sum(map(_has_token, chunk["choices"]))
            if tokens:
                tally.tokens(tokens)
            tally.usage(chunk.get("usage"))
            if not wants_usage:
                chunk.pop("usage", None)
            if chunk["choices"] or wants_usage:
                yield _render(chunk), False
            chunk = await rest()
        await bill.settle()
    except RyotError as error:
        tally.end(_outcome(error))
        yield _render(_document(error)), True
    except Exception:  # noqa: BLE001 - logged; it is found too late for a status
        _log.exception("a stream of Ryot broke off")
        tally.end("error")
        yield _render(_document(_unexpected())), True
    else:
        tally.end("success")
        yield b"[DONE]", True


def _has_token(choice: Json) -> bool:
    """Return whether a choice of a chunk carries a token. Servers send one chunk per token."""
    said = choice.get("delta", choice)
    return isinstance(said, dict) and any(
        said.get(name) for name in ("text", "content", "reasoning_content", "reasoning", "refusal", "tool_calls")
    )


def _outcome(error: RyotError) -> str:
    return "timeout" if isinstance(error, BackendTimeoutError) else "error"


def _unexpected() -> RyotError:
    return RyotError(UNEXPECTED, status=500, code="unexpected")


def _document(error: RyotError) -> Json:
    return {"error": {"message": str(error), "type": error.kind, "param": error.param, "code": error.code}}


def _refusal(error: RyotError) -> Response:
    return Response(_render(_document(error)), error.status, error.headers, "application/json")


async def refuse(_: Request, error: Exception) -> Response:
    """Answer an error that was raised before the route ran."""
    assert isinstance(error, RyotError)
    return _refusal(error)


async def unexpected(request: Request, error: Exception) -> Response:
    """Answer an unexpected exception, on the routes above in OpenAI's format. The server logs it."""
    if request.scope.get("endpoint") in {models, model, completions, chat_completions}:
        return _refusal(_unexpected())
    return await unexpected_elsewhere(request, error)


def _json(document: Json) -> Response:
    return Response(_render(document), media_type="application/json")


def _render(document: Json) -> bytes:
    """Return JSON in ASCII, which can carry any answer of a backend, broken characters included."""
    try:
        return json.dumps(document, allow_nan=False, separators=(",", ":")).encode()
    except ValueError as error:
        raise BadBackendError("the backend's answer has a number that JSON has no way to write") from error
