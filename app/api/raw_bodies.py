"""Raw request bodies, read within a bound."""

from collections.abc import AsyncGenerator
from contextlib import aclosing

from fastapi import Request

from app.api.problems import ProblemError


async def read_bounded(request: Request, most: int) -> bytes:
    """Return the whole body, or refuse it with 413 as soon as it is known to be larger."""
    body = bytearray()
    async with aclosing(pieces(request, most)) as stream:
        async for piece in stream:
            body += piece
    return bytes(body)


async def pieces(request: Request, most: int) -> AsyncGenerator[bytes, None]:
    """Yield the body as it is received, or refuse it with 413 as soon as it is known to be larger.

    A body with a Content-Length is refused before a byte is read, a chunked one once it exceeds the bound. At most one received chunk
    beyond the bound is read.
    """
    announced = announced_length(request)
    if announced is not None and announced > most:
        raise _too_large(most)
    size = 0
    async for piece in request.stream():
        size += len(piece)
        if size > most:
            raise _too_large(most)
        if piece:
            yield piece


def announced_length(request: Request) -> int | None:
    """Return the value of Content-Length, or None."""
    announced = request.headers.get("content-length", "")
    return int(announced) if announced.isascii() and announced.isdigit() else None


def _too_large(most: int) -> ProblemError:
    return ProblemError(413, "too_large", f"the body is larger than {most} bytes")
