"""Forwards a scrape from a worker to the exporter, and the bytes of the answer back, without merging or compressing.

If no exporter answers (missing, refusing, dead or stuck), the worker learns it within bounded time, before anything is sent. An answer
is read completely before its first byte is sent, so that the death of the exporter cuts no scrape, as long as there is room for it.
"""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import suppress

from monitoring.asgi_types import Scope, Send
from monitoring.scrape.response import Headers

from . import worker_socket

_REACH_SECONDS = 1.0
"""An exporter accepts a request at once, also while it merges. One that does not is stuck."""

_MERGE_SECONDS = 8.0
"""Less than the 10 s after which Prometheus gives up: the worker must merge in the remaining time."""

_READ_SECONDS = 10.0
_ANSWER_SECONDS = 60.0
ROOM_BYTES = 32 << 20
"""The bytes of complete answers that one worker holds for slow scrapers. An answer that does not fit is passed through."""

_CHUNK_BYTES = 1 << 16
_PASSED = (b"accept", b"accept-encoding")
_KEPT = frozenset({b"content-type", b"content-length", b"content-encoding", b"vary", b"retry-after"})


class CutError(Exception):
    """An answer was started and cannot be finished. The server closes the connection, and the scraper sees too few bytes."""


class Relay:
    """Forwards scrapes, with a limit on the memory for answers."""

    def __init__(self, room: int = ROOM_BYTES) -> None:
        """Hold at most `room` bytes of answers at once."""
        self._room = room

    async def __call__(self, directory: str, scope: Scope, headers: Mapping[bytes, bytes], send: Send) -> bool:
        """Forward a scrape to the exporter of a metrics directory. Return False, with nothing sent, if no exporter answers.

        Raise CutError if an answer that was started cannot be finished.
        """
        writer = None
        held = 0
        try:
            try:
                async with asyncio.timeout(_REACH_SECONDS):
                    reader, writer = await _connect(directory)
                    writer.write(_request(scope, headers))
                    status, head = await _head(reader)
                async with asyncio.timeout(_MERGE_SECONDS):
                    while status < 200:
                        status, head = await _head(reader)
                length = 0 if scope["method"] == "HEAD" else int(dict(head)[b"content-length"])
                pieces = _pieces(reader, length)
                if length <= self._room:
                    held, self._room = length, self._room - length
                    pieces = _kept([piece async for piece in pieces])
            except (OSError, TimeoutError, ValueError, LookupError, EOFError, asyncio.LimitOverrunError):
                return False
            try:
                async with asyncio.timeout(_ANSWER_SECONDS):
                    await _pass(status, head, length, pieces, send)
            except (OSError, TimeoutError, EOFError) as error:
                raise CutError("the answer of the exporter was cut") from error
        finally:
            self._room += held
            if writer is not None:
                writer.close()
                with suppress(OSError):
                    await writer.wait_closed()
        return True


async def _connect(directory: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    while True:
        try:
            client = worker_socket.connect(directory)
        except BlockingIOError:  # its queue is full
            await asyncio.sleep(0.02)
            continue
        return await asyncio.open_unix_connection(sock=client, limit=_CHUNK_BYTES)


def _request(scope: Scope, headers: Mapping[bytes, bytes]) -> bytes:
    query = scope.get("query_string", b"")
    target = b"/metrics?" + query if query else b"/metrics"
    lines = [scope["method"].encode() + b" " + target + b" HTTP/1.1", b"host: exporter"]
    lines += [name + b": " + headers[name] for name in _PASSED if name in headers]
    return b"\r\n".join([*lines, b"", b""])


async def _head(reader: asyncio.StreamReader) -> tuple[int, Headers]:
    first, *lines = (await reader.readuntil(b"\r\n\r\n")).split(b"\r\n")[:-2]
    pairs = (line.split(b": ", 1) for line in lines)
    return int(first.split(b" ")[1]), [(name, value) for name, value in pairs if name in _KEPT]


async def _pieces(reader: asyncio.StreamReader, length: int) -> AsyncIterator[bytes]:
    """Read a body. Raise EOFError if it ends too early."""
    while length:
        async with asyncio.timeout(_READ_SECONDS):
            piece = await reader.read(min(length, _CHUNK_BYTES))
        if not piece:
            raise EOFError
        length -= len(piece)
        yield piece


async def _kept(pieces: list[bytes]) -> AsyncIterator[bytes]:
    for piece in pieces:
        yield piece


async def _pass(status: int, head: Headers, length: int, pieces: AsyncIterator[bytes], send: Send) -> None:
    await send({"type": "http.response.start", "status": status, "headers": head})
    if not length:
        await send({"type": "http.response.body", "body": b""})
    async for piece in pieces:
        length -= len(piece)
        await send({"type": "http.response.body", "body": piece, "more_body": bool(length)})
