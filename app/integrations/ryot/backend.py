"""One interface to language models. What goes in and comes out is OpenAI's own JSON, so that nothing is lost on the way through."""

from __future__ import annotations

from contextvars import ContextVar
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Protocol

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable

    Json = dict[str, Any]


STREAM_SECONDS = 600.0

DEADLINE: ContextVar[float | None] = ContextVar("DEADLINE")
"""When whoever asks a backend stops waiting, by the event loop's clock. A backend that gives up a moment earlier knows why.
None where that is no concern of the backend's."""


@dataclass(frozen=True)
class Call:
    """One call of a model, already known to be well formed."""

    kind: Literal["completion", "chat"]
    model: str
    given: Json
    """The whole body, as the client sent it."""

    @property
    def prompts(self) -> list[Any]:
        """The prompts of a batch: texts or lists of token numbers; one for a chat."""
        if self.kind == "chat":
            return [self.given["messages"]]
        prompt = self.given["prompt"]
        batch = isinstance(prompt, list) and not all(isinstance(each, int) for each in prompt)
        return prompt if batch else [prompt]


class Backend(Protocol):
    """Where models live. Every method raises RyotError, and nothing else, for what goes wrong."""

    timeout_seconds: float
    """How long a call may wait: for its answer or, of a stream, for each next chunk."""

    stream_seconds: float
    """How long all of a stream may take."""

    async def start(self) -> None:
        """Get ready, once per worker, before the first call."""

    async def models(self) -> list[Json]:
        """Give the models in OpenAI's format."""

    async def knows(self, model: str) -> bool:
        """Tell whether a model is listed; an earlier list will do where there is none to be had now."""

    async def complete(self, call: Call, progress: Callable[[int], None]) -> Json:
        """Give the whole answer; `progress` is told of tokens as they are generated, by a backend that sees them."""

    def stream(self, call: Call) -> AsyncGenerator[Json, None]:
        """Give the answer in chunks; the last one has no choices, and the usage where the backend tells it."""

    async def close(self) -> None:
        """Let go of connections."""
