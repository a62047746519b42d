"""Long responses made piece by piece in threads, at the pace of the client, and counted before their last message leaves."""

import asyncio
import logging
from collections.abc import Callable
from typing import ParamSpec, TypeVar

from starlette.responses import Response
from starlette.types import Message, Receive, Scope, Send

_P = ParamSpec("_P")
_T = TypeVar("_T")

PIECE_BYTES = 256 * 1024
_log = logging.getLogger("neurectomy.streams")


async def in_thread(work: Callable[_P, _T], *args: _P.args, **kwargs: _P.kwargs) -> _T:
    """Run `work` in a thread; a cancellation waits for it, so that nobody works on what is closed meanwhile."""
    running = asyncio.ensure_future(asyncio.to_thread(work, *args, **kwargs))
    try:
        return await asyncio.shield(running)
    except asyncio.CancelledError:
        await asyncio.wait([running])
        if not running.cancelled():
            running.exception()
        raise


class Streamed(Response):
    """Sends what `read` gives, in a thread, until it gives nothing; `finish` is told the outcome once: success, error or cancelled.

    A success is told before the last message is sent. Where `read` raises, or the client has gone, the response has no clean end: the
    server closes the connection, and nobody takes a part for the whole. `close` is called in the end.
    """

    def __init__(
        self,
        read: Callable[[int], bytes],
        finish: Callable[[str], None],
        close: Callable[[], None],
        *,
        media_type: str,
        length: int | None = None,
        gone: asyncio.Future[Message] | None = None,
    ) -> None:
        """Announce `length` bytes where that is known; `gone` is a receive that is under way already."""
        super().__init__(media_type=media_type, headers={} if length is None else {"content-length": str(length)})
        if length is None:
            del self.headers["content-length"]
        self._gone = gone
        self._read, self._finish, self._close = read, finish, close

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Respond; the request's body must have been read to its end."""
        outcome: str | None = "cancelled"
        # The body was read: the next message says that the client left.
        gone = asyncio.ensure_future(receive()) if self._gone is None else self._gone
        try:
            await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
            piece = await in_thread(self._read, PIECE_BYTES)
            while not gone.done():
                following = await in_thread(self._read, PIECE_BYTES) if piece else b""
                if not following:
                    self._finish("success")
                    outcome = None
                    await send({"type": "http.response.body", "body": piece, "more_body": False})
                    return
                await send({"type": "http.response.body", "body": piece, "more_body": True})
                piece = following
        except ValueError as error:
            # Found too late for a status: no last message is sent.
            outcome = "error"
            _log.warning("%s: the response was cut off: %s", scope["path"], error)
        except asyncio.CancelledError:
            raise
        except OSError as error:
            # Either the client has gone, which servers may say so, or what was kept on disk cannot be read.
            outcome = "cancelled" if gone.done() else "error"
            _log.warning("%s: the response was cut off: %s", scope["path"], error)
        except BaseException:
            outcome = "error"
            raise
        finally:
            if outcome is not None:
                self._finish(outcome)
            gone.cancel()
            try:
                await asyncio.wait([gone])
            finally:
                self._close()
            if not gone.cancelled() and (failure := gone.exception()):
                _log.warning("%s: the server could not say whether the client has left: %r", scope["path"], failure)
