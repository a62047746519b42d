"""The coroutines of an exchange. Not compiled: coroutines of mypyc call `throw()` with a deprecated signature."""

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
    """Receive a message for the application, and let the exchange record it."""
    message = await receive()
    exchange.note(message)
    return message


async def forwarded(exchange: Exchange, send: Send, message: Message) -> None:
    """Send a message before the response is complete. An OSError means that the client has disconnected."""
    try:
        await send(message)
    except OSError:
        exchange.disconnected = True
        raise
