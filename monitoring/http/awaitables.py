"""What an exchange waits for. Never compiled: mypyc's coroutines pass exceptions on by a signature of `throw()` that is deprecated."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from monitoring.asgi_types import Message, Receive, Send


class Exchange(Protocol):
    """The part of `exchange.Exchange` that is used here."""

    disconnected: bool

    def note(self, message: Message) -> None:
        """Record a message that the application receives."""


async def received(exchange: Exchange, receive: Receive) -> Message:
    """Receive for the application, and let the exchange look at it."""
    message = await receive()
    exchange.note(message)
    return message


async def forwarded(exchange: Exchange, send: Send, message: Message) -> None:
    """Forward before the response is complete: an OSError says that the client is gone."""
    try:
        await send(message)
    except OSError:
        exchange.disconnected = True
        raise
