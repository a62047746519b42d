"""Raw request bodies, read within a bound."""

from fastapi import Request

from app.api.problems import ProblemError


async def read_bounded(request: Request, most: int) -> bytes:
    """Give the whole body, or refuse it with 413 as soon as it is known to be larger.

    What Content-Length announces is refused before a byte is read; a chunked body once it has
    grown too large. At most one received chunk more than the bound is held.
    """
    announced = request.headers.get("content-length", "")
    if announced.isascii() and announced.isdigit() and int(announced) > most:
        raise _too_large(most)
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > most:
            raise _too_large(most)
    return bytes(body)


def _too_large(most: int) -> ProblemError:
    return ProblemError(413, "too_large", f"the body is larger than {most} bytes")
