"""The ASGI middleware that counts requests in the six HTTP families of the catalogue, and changes no response.

Not compiled, so that servers recognise its `__call__` as a coroutine function, and applications may derive from it.
"""

from __future__ import annotations

from asyncio import CancelledError
from typing import TYPE_CHECKING

from .exchange import DISCONNECTED, FAILED, Answers

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from monitoring.asgi_types import Receive, Scope, Send


class MetricsMiddleware:
    """Counts every HTTP request of `app` once, even if applications inside or around it have this middleware, too."""

    def __init__(self, app: Callable[[Scope, Receive, Send], Awaitable[None]]) -> None:
        self.app = app
        self.answers = Answers()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Run `app`; WebSockets and the lifespan pass untouched."""
        exchange = self.answers.begin(scope, receive, send)
        if exchange is None:
            await self.app(scope, receive, send)
            return
        try:
            await self.app(scope, exchange.receive, exchange.send)
        except BaseException as error:
            if not exchange.counted:
                exchange.end(DISCONNECTED if isinstance(error, CancelledError | GeneratorExit) else FAILED)
            raise
        if not exchange.counted:
            # The server ends such a response: with a 500 of its own, or by closing the connection.
            exchange.end(FAILED)

    def forget(self) -> None:
        """Look up every label set again, as after `clear()` of a family."""
        self.answers.forget()
