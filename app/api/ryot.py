"""Ryot over HTTP, in OpenAI's own format: its clients work against this API unchanged.

Every call is counted once, before the message with which the client learns its outcome; tokens of a stream before they are sent.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from typing import TYPE_CHECKING, Any

from fastapi import APIRouter, Request, Response
from starlette.requests import ClientDisconnect

from app.api import ryot_openapi as openapi
from app.api.billed import Bill
from app.api.bodies import read_bounded
from app.api.events import Client, EventStream
from app.api.problems import ProblemError
from app.api.ryot_bodies import ChatBody, CompletionBody, parse
from app.api.tally import Tally
from app.integrations.ryot import Backend, BackendTimeoutError, BadBackendError, Call, RefusedError, RyotError, UnknownModelError

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable
    from typing import TypeVar

    from app.integrations.ryot.calls import Json

    _T = TypeVar("_T")

router = APIRouter(prefix="/v1", tags=["Ryot"])

MAX_BODY_BYTES = 4 * 1024 * 1024
_INLINE_BYTES = 64 * 1024
"""A longer body is checked in a thread."""


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
    """Say the next message of a chat."""
    return await _serve(request, "chat")


async def _listed(request: Request) -> list[Json]:
    backend = _backend(request)
    return await _in_time(backend.models(), backend)


def _backend(request: Request) -> Backend:
    backend: Backend = request.app.state.ryot
    return backend


async def _serve(request: Request, kind: Any) -> Response:  # noqa: ANN401 - the kind of a Call
    """Answer one call; whatever comes of it is counted."""
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
            response = await client.unless_gone(_in_time(work, backend))
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
        with contextlib.suppress(RyotError):  # nobody is there to be told
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


async def _in_time(work: Awaitable[_T], backend: Backend) -> _T:
    """Wait for the backend, retries included, no longer than allowed."""
    deadline = asyncio.timeout(backend.timeout_seconds)
    try:
        async with deadline:
            return await work
    except TimeoutError as error:
        if not deadline.expired():
            raise
        raise BackendTimeoutError(f"the model did not answer within {backend.timeout_seconds:g} seconds") from error


async def _find(backend: Backend, call: Call, tally: Tally) -> None:
    """Refuse a model that the backend does not list; only a listed one is ever a label."""
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
    """Answer with a stream once its first chunk is there: until then, an error has a status of its own."""
    await _find(backend, call, tally)
    chunks = backend.stream(call)
    try:
        first = await anext(chunks, None)
    except BaseException:
        await chunks.aclose()
        raise
    wants_usage = bool((call.given.get("stream_options") or {}).get("include_usage"))

    async def close() -> None:
        await chunks.aclose()
        tally.end("cancelled")  # where the stream has not ended by itself
        with contextlib.suppress(RyotError):  # nobody is there to be told
            await bill.settle()

    return EventStream(client, _events(backend, first, chunks, tally, bill, wants_usage=wants_usage), close)


async def _events(
    backend: Backend, first: Json | None, chunks: AsyncGenerator[Json, None], tally: Tally, bill: Bill, *, wants_usage: bool
) -> AsyncGenerator[tuple[bytes, bool], None]:
    """Give each chunk, its tokens counted before, and at last the end of the stream or what went wrong."""
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
            chunk = await _in_time(anext(chunks, None), backend)
        await bill.settle()
    except RyotError as error:
        tally.end(_outcome(error))
        yield _render(_document(error)), True
    except Exception:
        tally.end("error")
        raise
    else:
        tally.end("success")
        yield b"[DONE]", True


def _has_token(choice: Json) -> bool:
    """Tell whether one choice of a chunk carries something generated; servers send a chunk per token."""
    said = choice.get("delta", choice)
    return isinstance(said, dict) and any(
        said.get(name) for name in ("text", "content", "reasoning_content", "reasoning", "refusal", "tool_calls")
    )


def _outcome(error: RyotError) -> str:
    return "timeout" if isinstance(error, BackendTimeoutError) else "error"


def _document(error: RyotError) -> Json:
    return {"error": {"message": str(error), "type": error.kind, "param": error.param, "code": error.code}}


def _refusal(error: RyotError) -> Response:
    return Response(_render(_document(error)), error.status, error.headers, "application/json")


async def refuse(_: Request, error: Exception) -> Response:
    """Answer what was raised before a route began."""
    assert isinstance(error, RyotError)  # noqa: S101 - registered for nothing else
    return _refusal(error)


def _json(document: Json) -> Response:
    return Response(_render(document), media_type="application/json")


def _render(document: Json) -> bytes:
    """Give JSON in ASCII, which carries whatever a backend says, broken characters too."""
    try:
        return json.dumps(document, allow_nan=False, separators=(",", ":")).encode()
    except ValueError as error:
        raise BadBackendError("the backend's answer has a number that JSON has no way to write") from error
