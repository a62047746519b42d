"""Long responses, made piece by piece in threads at the pace of the client, and counted before their last message."""

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
    """Run `work` in a thread. A cancellation waits for it, so that no thread uses a closed file."""
    running = asyncio.ensure_future(asyncio.to_thread(work, *args, **kwargs))
    try:
        return await asyncio.shield(running)
    except asyncio.CancelledError:
        await asyncio.wait([running])
        if not running.cancelled():
            running.exception()
        raise


class Streamed(Response):
    """Sends the pieces that `read` returns, in a thread, until it returns an empty one. Then calls `close`.

    `finish` is called once with the outcome: success (before the last message is sent), error or cancelled. If `read` raises or the
    client has left, the response is cut off: the server closes the connection, so that no client takes a part for the whole.
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
        """Announce `length` bytes if that is not None. `gone` is a receive that is already running."""
        super().__init__(media_type=media_type, headers={} if length is None else {"content-length": str(length)})
        if length is None:
            del self.headers["content-length"]
        self._gone = gone
        self._read, self._finish, self._close = read, finish, close

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Respond. The request's body must have been read to its end."""
        outcome: str | None = "cancelled"
        # The body was read, so the next message means that the client left.
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
            # Too late for another status: no last message is sent.
            outcome = "error"
            _log.warning("%s: the response was cut off: %s", scope["path"], error)
        except asyncio.CancelledError:
            raise
        except OSError as error:
            # Either the client has left, which some servers report like this, or the file on disk cannot be read.
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
                _log.warning("%s: the server failed to report whether the client has left: %r", scope["path"], failure)
