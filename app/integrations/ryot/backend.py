"""The interface to language models. Calls and answers are OpenAI's own JSON, so that no field is lost."""

from __future__ import annotations

from contextvars import ContextVar
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Protocol

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable

    Json = dict[str, Any]


STREAM_SECONDS = 600.0

DEADLINE: ContextVar[float | None] = ContextVar("DEADLINE")
"""When the caller stops waiting, by the event loop's clock, so that a backend can fail with a timeout a moment earlier.
None if the backend should not."""


@dataclass(frozen=True)
class Call:
    """One validated call of a model."""

    kind: Literal["completion", "chat"]
    model: str
    given: Json
    """The whole body, as the client sent it."""

    @property
    def prompts(self) -> list[Any]:
        """The prompts of a batch, as texts or lists of token numbers. A chat is one prompt."""
        if self.kind == "chat":
            return [self.given["messages"]]
        prompt = self.given["prompt"]
        batch = isinstance(prompt, list) and not all(isinstance(each, int) for each in prompt)
        return prompt if batch else [prompt]


class Backend(Protocol):
    """A provider of models. Every failure of a method is a RyotError."""

    timeout_seconds: float
    """Limit for an answer, or for each chunk of a stream."""

    stream_seconds: float
    """Limit for a whole stream."""

    async def start(self) -> None:
        """Prepare the backend. Each worker calls this once, before the first call."""

    async def models(self) -> list[Json]:
        """Return the models in OpenAI's format."""

    async def knows(self, model: str) -> bool:
        """Return whether a model is listed, by the last known list if the backend is unavailable."""

    async def complete(self, call: Call, progress: Callable[[int], None]) -> Json:
        """Return the whole answer. A backend that sees single tokens calls `progress` with their number as they are generated."""

    def stream(self, call: Call) -> AsyncGenerator[Json, None]:
        """Yield the answer in chunks. The last one has no choices, and the usage if the backend reports it."""

    async def close(self) -> None:
        """Close connections."""
