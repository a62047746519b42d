"""Ends the work for an answer when its client disconnects."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Any, TypeVar

from starlette.requests import ClientDisconnect
from starlette.responses import Response

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine

    from starlette.types import Receive, Scope, Send

_T = TypeVar("_T")


class Client:
    """Knows whether the client of one request is still connected. The request's body must have been read.

    It listens during the whole request, since gunicorn's own worker takes the end of listening for a disconnect.
    """

    def __init__(self, receive: Receive) -> None:
        self._left = asyncio.ensure_future(_leave(receive))

    async def unless_gone(self, work: Coroutine[Any, Any, _T]) -> _T:
        """Do the work. If the client disconnects first, cancel the work and raise ClientDisconnect."""
        task = asyncio.ensure_future(work)
        try:
            await asyncio.wait((task, self._left), return_when=asyncio.FIRST_COMPLETED)
            if task.done():
                return task.result()
            raise ClientDisconnect
        finally:
            task.cancel()
            # The caller must find the work ended, not ending.
            await asyncio.gather(task, return_exceptions=True)

    async def forget(self) -> None:
        """Stop listening."""
        self._left.cancel()
        await asyncio.gather(self._left, return_exceptions=True)


async def _leave(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


class EventStream(Response):
    """Server-sent events. `events` yields the data of each and whether it is the last; `close` is always called at the end."""

    media_type = "text/event-stream"

    def __init__(self, client: Client, events: AsyncGenerator[tuple[bytes, bool], None], close: Callable[[], Awaitable[None]]) -> None:
        super().__init__(headers={"cache-control": "no-cache", "x-accel-buffering": "no"})
        del self.headers["content-length"]
        self._client = client
        self._events = events
        self._close = close

    async def __call__(self, _scope: Scope, _receive: Receive, send: Send) -> None:
        """Send until the end, or until the client disconnects."""
        try:
            with contextlib.suppress(ClientDisconnect):
                await self._client.unless_gone(self._send(send))
        finally:
            await self._events.aclose()
            await self._close()
            await self._client.forget()

    async def _send(self, send: Send) -> None:
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        async for data, last in self._events:
            await send({"type": "http.response.body", "body": b"data: " + data + b"\n\n", "more_body": not last})
