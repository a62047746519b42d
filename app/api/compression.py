"""ΣLANG over HTTP: raw bytes in, raw bytes out.

Bodies are bounded on the way in and on the way out, long ones are worked on in a thread, and each
operation is counted, the refused ones too, before its answer leaves.
"""

import asyncio
import time
from collections.abc import Callable
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request, Response
from prometheus_client import Counter, Histogram
from starlette.requests import ClientDisconnect

from app.api.bodies import read_bounded
from app.api.problems import ProblemError, responses
from app.integrations import sigmalang
from monitoring import metrics

router = APIRouter(prefix="/v1", tags=["ΣLANG"])

RAW = "application/octet-stream"
_THREAD_BYTES = 64 * 1024
"""Bodies from this size on are handled in a thread; below it, a thread costs more than the work."""

_BINARY = {RAW: {"schema": {"type": "string", "format": "binary"}}}


class RawResponse(Response):
    """Bytes, exactly as they are."""

    media_type = RAW


def _describe(title: str) -> dict[str, Any]:
    """Give the OpenAPI of a raw body, which FastAPI cannot read off the signature."""
    return {"requestBody": {"required": True, "description": title, "content": _BINARY}}


def _answers(title: str, *, malformed: str | None = None) -> dict[int | str, dict[str, Any]]:
    problems = {"_413": "The body, or what it unfolds to, is larger than the bound"}
    if malformed is not None:
        problems["_422"] = malformed
    return {200: {"description": title, "content": _BINARY}, **responses(**problems)}


@router.post(
    "/compress",
    response_class=RawResponse,
    openapi_extra=_describe(f"A document of at most {sigmalang.MAX_DOCUMENT_BYTES} bytes"),
    responses=_answers("The document as one zstandard frame"),
)
async def compress(request: Request) -> RawResponse:
    """Compress a document."""
    started = time.perf_counter()
    document, frame = await _run(
        request,
        sigmalang.MAX_DOCUMENT_BYTES,
        sigmalang.compress,
        metrics.sigmalang_compression_requests_total,
    )
    metrics.sigmalang_compression_duration_seconds.observe(time.perf_counter() - started)
    metrics.sigmalang_original_size_bytes.observe(len(document))
    metrics.sigmalang_compressed_size_bytes.observe(len(frame))
    metrics.sigmalang_compression_ratio.observe(len(document) / len(frame))
    return RawResponse(frame)
