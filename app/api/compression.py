"""ΣLANG over HTTP: raw bytes in, raw bytes out.

Bodies are bounded on the way in and on the way out, long ones are worked on in a thread, and each
operation is counted, the refused ones too, before its answer leaves.
"""

import asyncio
import time
from collections.abc import Callable
from typing import Any, NamedTuple

from fastapi import APIRouter, Request, Response
from prometheus_client import Counter
from starlette.requests import ClientDisconnect

from app.api.bodies import read_bounded
from app.api.problems import ProblemError, responses
from app.integrations import sigmalang
from monitoring import metrics

router = APIRouter(prefix="/v1", tags=["ΣLANG"])

RAW = "application/octet-stream"
_INLINE_BYTES = 32 * 1024
"""Up to this size a document is compressed in the event loop, where it takes less than a thread costs. A compressed one tells
little of the work in it: 500 bytes may unfold to the whole bound, so that is always done in a thread."""

_BINARY = {RAW: {"schema": {"type": "string", "format": "binary"}}}


class RawResponse(Response):
    """Bytes, exactly as they are."""

    media_type = RAW


def _describe(title: str, *, required: bool) -> dict[str, Any]:
    """Give the OpenAPI of a raw body, which FastAPI cannot read off the signature."""
    return {"requestBody": {"required": required, "description": title, "content": _BINARY}}


def _answers(title: str, *, malformed: str | None = None) -> dict[int | str, dict[str, Any]]:
    problems = {"_413": "The body, or what it unfolds to, is larger than the bound"}
    if malformed is not None:
        problems["_422"] = malformed
    return {200: {"description": title, "content": _BINARY}, **responses(**problems)}


@router.post(
    "/compress",
    response_class=RawResponse,
    openapi_extra=_describe(f"A document of at most {sigmalang.MAX_DOCUMENT_BYTES} bytes; it may be empty", required=False),
    responses=_answers("The document as one zstandard frame"),
)
async def compress(request: Request) -> RawResponse:
    """Compress a document."""
    requests = metrics.sigmalang_compression_requests
    done = await _run(request, sigmalang.MAX_DOCUMENT_BYTES, sigmalang.compress, requests, inline=_INLINE_BYTES)
    metrics.sigmalang_compression_duration_seconds.observe(done.seconds)
    metrics.sigmalang_original_size_bytes.observe(len(done.given))
    metrics.sigmalang_compressed_size_bytes.observe(len(done.made))
    metrics.sigmalang_compression_ratio.observe(len(done.given) / len(done.made))
    return RawResponse(done.made)


@router.post(
    "/decompress",
    response_class=RawResponse,
    openapi_extra=_describe(f"One zstandard frame of at most {sigmalang.MAX_COMPRESSED_BYTES} bytes", required=True),
    responses=_answers("The document", malformed="The body is not one complete zstandard frame"),
)
async def decompress(request: Request) -> RawResponse:
    """Restore a document."""
    requests = metrics.sigmalang_decompression_requests
    done = await _run(request, sigmalang.MAX_COMPRESSED_BYTES, sigmalang.decompress, requests)
    metrics.sigmalang_decompression_duration_seconds.observe(done.seconds)
    return RawResponse(done.made)


class _Done(NamedTuple):
    given: bytes
    made: bytes
    seconds: float


async def _run(request: Request, most: int, work: Callable[[bytes], bytes], requests: Counter, inline: int = 0) -> _Done:
    """Read the body, do the work and count the request, whatever comes of it; the answer is not sent yet then."""
    status = "error"
    try:
        given = await read_bounded(request, most)
        started = time.perf_counter()
        made = work(given) if len(given) <= inline else await asyncio.to_thread(work, given)
        status = "success"
        return _Done(given, made, time.perf_counter() - started)
    except (asyncio.CancelledError, ClientDisconnect):
        status = "cancelled"
        raise
    except sigmalang.TooLargeError as error:
        raise ProblemError(413, error.reason, str(error)) from error
    except sigmalang.CodecError as error:
        raise ProblemError(422, error.reason, str(error)) from error
    finally:
        requests.labels(status).inc()
