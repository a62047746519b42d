"""ΣLANG over HTTP: raw bytes in, raw bytes out.

Request and response bodies are bounded. Long ones are processed in pieces, in threads, in bounded memory. Their compressed form is kept
until the whole body has arrived, beyond 1 MiB in an unnamed file, since most clients read only after they have sent everything. A worker
handles a bounded number of long bodies at once. Each operation, refused ones included, is counted before its answer is complete.
"""

import asyncio
import re
import tempfile
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing
from dataclasses import dataclass
from typing import IO, Any

import zstandard
from fastapi import APIRouter, Request, Response
from starlette.requests import ClientDisconnect
from starlette.types import Message

from app.api.body_slots import BodySlot, BodySlots
from app.api.compression_metrics import Operation
from app.api.problems import ProblemError, responses
from app.api.raw_bodies import announced_length, pieces
from app.api.streaming import PIECE_BYTES, Streamed, in_thread
from app.integrations import sigmalang
from app.integrations.dictionaries import Dictionaries
from monitoring import metrics

router = APIRouter(prefix="/v1", tags=["ΣLANG"])

RAW = "application/octet-stream"
_INLINE_BYTES = 32 * 1024
_INLINE_LEVEL = 6
"""Documents up to this size and level are compressed in the event loop, which is cheaper than a thread. The size of a compressed document
does not show the work: 500 bytes may decompress to the whole bound, so decompression always runs in a thread."""

_KEPT_BYTES = 1024 * 1024
"""The part of one body that is kept in memory; the rest is on disk."""

_AHEAD_BYTES = 4 * 1024 * 1024
"""A document up to this size is decompressed whole before it is sent; a longer one is checked first, then decompressed again."""

BINARY = {RAW: {"schema": {"type": "string", "format": "binary"}}}


class RawResponse(Response):
    """Raw bytes, unchanged."""

    media_type = RAW


@dataclass(frozen=True)
class Sigmalang:
    """The state of the routes: `app.state.sigmalang`."""

    bounds: sigmalang.Bounds
    dictionaries: Dictionaries
    long: BodySlots


def _describe(title: str, *, level: bool) -> dict[str, Any]:
    """Return the OpenAPI of raw bodies and of parameters. They are read here, so that refusals are counted too."""
    parameters: list[dict[str, Any]] = [
        {"name": "dictionary", "in": "query", "required": False, "schema": {"type": "string"}, "description": "The id of a dictionary"}
    ]
    if level:
        first, last = sigmalang.LEVELS[0], sigmalang.LEVELS[-1]
        schema = {"type": "integer", "minimum": first, "maximum": last, "default": sigmalang.LEVEL}
        text = f"From {first} (fast) to {last} (small)"
        parameters.append({"name": "level", "in": "query", "required": False, "schema": schema, "description": text})
    else:
        schema = {"type": "integer", "enum": [0, 1], "default": 0}
        text = "1: send a long document while it is checked; one that proves damaged is cut off, which a status of 200 does not say"
        parameters.append({"name": "stream", "in": "query", "required": False, "schema": schema, "description": text})
    return {"parameters": parameters, "requestBody": {"required": not level, "description": title, "content": BINARY}}


def _answers(title: str, malformed: str) -> dict[int | str, dict[str, Any]]:
    problems = {
        "_404": "There is no such dictionary",
        "_413": "The body, or its decompressed form, is larger than the bound",
        "_422": malformed,
        "_503": "Too many long bodies are in progress, or the database is unavailable",
        "_507": "The disk for temporary files is full",
    }
    return {200: {"description": title, "content": BINARY}, **responses(**problems)}


@router.post(
    "/compress",
    response_class=RawResponse,
    openapi_extra=_describe("A document of at most SIGMALANG_MAX_DOCUMENT_BYTES bytes; it may be empty", level=True),
    responses=_answers("The document as one zstandard frame", "The level is none, or the length is not the announced one"),
)
async def compress(request: Request) -> Response:
    """Compress a document."""
    state: Sigmalang = request.app.state.sigmalang
    operation = Operation(metrics.sigmalang_compression_requests)
    with operation.refusals():
        level = _level(request)
        dictionary = await _dictionary(request, state.dictionaries, level)
        async with aclosing(pieces(request, state.bounds.document)) as body:
            head = bytearray()
            async for piece in body:
                head += piece
                if len(head) > _INLINE_BYTES:
                    return await _compress_long(request, operation, level, dictionary, head, body)
        document = bytes(head)
        work = operation.timed(sigmalang.compress)
        inline = level <= _INLINE_LEVEL
        made = work(document, level, dictionary) if inline else await in_thread(work, document, level, dictionary)
        _observe_compression(operation, len(document), len(made))
        operation.finish("success")
        return RawResponse(made)


async def _compress_long(
    request: Request,
    operation: Operation,
    level: int,
    dictionary: zstandard.ZstdCompressionDict | None,
    head: bytearray,
    body: AsyncIterator[bytes],
) -> Response:
    """Compress a long document while it is received. The frame is complete before it is sent."""
    state: Sigmalang = request.app.state.sigmalang
    slot, kept = BodySlot(state.long), _keep()
    close = _closing(kept, slot)
    try:
        announced = announced_length(request)
        if level > _INLINE_LEVEL or (announced or 0) > _KEPT_BYTES:
            await slot.take()
        compressing = sigmalang.Compressing(level, dictionary, announced)

        def add(piece: bytes) -> None:
            kept.write(operation.timed(compressing.add)(piece))

        def finish() -> int:
            kept.write(operation.timed(compressing.finish)())
            size = kept.tell()
            kept.seek(0)
            return size

        size = 0
        async for piece in body:
            head += piece
            if size + len(head) > _KEPT_BYTES:
                await slot.take()
            if len(head) >= PIECE_BYTES:
                size += len(head)
                await in_thread(add, bytes(head))
                head.clear()
        size += len(head)
        await in_thread(add, bytes(head))
        made = await in_thread(finish)
    except BaseException:
        close()
        raise

    def ended(status: str) -> None:
        if status == "success":
            _observe_compression(operation, size, made)
        operation.finish(status)

    return Streamed(kept.read, ended, close, media_type=RAW, length=made)


@router.post(
    "/decompress",
    response_class=RawResponse,
    openapi_extra=_describe("One zstandard frame of a document of at most SIGMALANG_MAX_UNFOLDED_BYTES bytes", level=False),
    responses=_answers("The document", "The body is not one complete zstandard frame, or was made with another dictionary"),
)
async def decompress(request: Request) -> Response:
    """Restore a document.

    A long document is decompressed once to check it and once more as it is sent. With `stream=1` it is sent unchecked, and the response
    is cut off if the document proves damaged.
    """
    state: Sigmalang = request.app.state.sigmalang
    operation = Operation(metrics.sigmalang_decompression_requests)
    with operation.refusals():
        streaming = _stream(request)
        dictionary = await _dictionary(request, state.dictionaries, None)
        slot, kept = BodySlot(state.long), _keep()
        close = _closing(kept, slot)
        gone: asyncio.Future[Message] | None = None
        try:
            await _receive(request, state.bounds.compressed, kept, slot)
            unfolding, whole = await in_thread(operation.timed(_unfold), kept, state, dictionary)
            length = None
            if not whole:
                await slot.take()
            if not whole and not streaming:
                gone = asyncio.ensure_future(request.receive())
                while await in_thread(operation.timed(_pass_over), unfolding):
                    _stay(gone)
                length = unfolding.size
                unfolding, _ = await in_thread(operation.timed(_unfold), kept, state, dictionary)
        except BaseException:
            close()
            if gone is not None:
                gone.cancel()
            raise

        def ended(status: str) -> None:
            if status == "success":
                metrics.sigmalang_decompression_duration_seconds.observe(operation.seconds)
            operation.finish(status)

        if whole:
            close()
            made = unfolding.read(state.bounds.unfolded)
            ended("success")
            return RawResponse(made)
        return Streamed(operation.timed(unfolding.read), ended, close, media_type=RAW, length=length, gone=gone)


async def _receive(request: Request, most: int, kept: IO[bytes], slot: BodySlot) -> None:
    """Keep a body. It takes a slot as soon as it proves long."""
    size = announced_length(request) or 0
    received = 0
    head = bytearray()
    async with aclosing(pieces(request, most)) as body:
        async for piece in body:
            head += piece
            received += len(piece)
            if max(size, received) > _KEPT_BYTES:
                await slot.take()
            if len(head) >= PIECE_BYTES:
                await in_thread(kept.write, bytes(head))
                head.clear()
    kept.write(head)


def _unfold(kept: IO[bytes], state: Sigmalang, dictionary: zstandard.ZstdCompressionDict | None) -> tuple[sigmalang.Unfolding, bool]:
    """Decompress the start of a kept body; also return whether that was all."""
    kept.seek(0)
    unfolding = sigmalang.Unfolding(kept, state.bounds.unfolded, dictionary)
    return unfolding, unfolding.look_ahead(_AHEAD_BYTES)


def _pass_over(unfolding: sigmalang.Unfolding) -> bool:
    """Decompress about 16 MiB only to check the body; return False at its end."""
    return all(unfolding.read(PIECE_BYTES) for _ in range(64))


def _stay(gone: asyncio.Future[Message]) -> None:
    """Raise once the client has left. Not `is_disconnected()`: gunicorn's own worker takes a cancelled receive for a disconnect."""
    if gone.done():
        raise ClientDisconnect


def _observe_compression(operation: Operation, original: int, compressed: int) -> None:
    metrics.sigmalang_compression_duration_seconds.observe(operation.seconds)
    metrics.sigmalang_original_size_bytes.observe(original)
    metrics.sigmalang_compressed_size_bytes.observe(compressed)
    metrics.sigmalang_compression_ratio.observe(original / compressed)


def _keep() -> IO[bytes]:
    return tempfile.SpooledTemporaryFile(max_size=_KEPT_BYTES)


def _closing(kept: IO[bytes], slot: BodySlot) -> Callable[[], None]:
    """Return a function that releases both, in the event loop."""

    def close() -> None:
        try:
            kept.close()
        finally:
            slot.release()

    return close


def _level(request: Request) -> int:
    given = request.query_params.get("level")
    if given is None:
        return sigmalang.LEVEL
    if not re.fullmatch("[0-9]{1,3}", given, re.ASCII) or int(given) not in sigmalang.LEVELS:
        allowed = f"a whole number from {sigmalang.LEVELS[0]} to {sigmalang.LEVELS[-1]}"
        raise ProblemError(422, "bad_level", f"level={given[:64]!r} is not allowed: it must be {allowed}")
    return int(given)


def _stream(request: Request) -> bool:
    given = request.query_params.get("stream", "0")
    if given not in {"0", "1"}:
        raise ProblemError(422, "bad_stream", f"stream={given[:64]!r} is not allowed: it must be 0 or 1")
    return given == "1"


async def _dictionary(request: Request, dictionaries: Dictionaries, level: int | None) -> zstandard.ZstdCompressionDict | None:
    name = request.query_params.get("dictionary")
    return None if name is None else await in_thread(dictionaries.prepared, name, level)
