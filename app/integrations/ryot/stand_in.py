"""A stand-in for a language model: fixed words in an order that depends only on the prompt and the seed.

Clients, metrics and dashboards can be tried with it, without an account or a download. Its pace and its loading time are settings.
"""

from __future__ import annotations

import asyncio
import random
import secrets
import time
import zlib
from typing import TYPE_CHECKING

from app.integrations.ryot.backend import STREAM_SECONDS
from app.integrations.ryot.errors import RefusedError
from app.integrations.ryot.stop_sequences import StopText
from monitoring import metrics

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Iterator

    from app.integrations.ryot.backend import Call, Json

MODEL = "neurectomy-stand-in"
MOST_TOKENS = 4096
MOST_CHOICES = 128
MOST_TOKENS_OF_A_CALL = 65_536
_DEFAULT_TOKENS = {"completion": 16, "chat": 128}
_ANSWER_TOKENS = 64, 1024
"""The shortest and the longest text, unless max_tokens or a stop sequence ends it earlier."""

_CHARACTERS_PER_PROMPT_TOKEN = 4
_WORDS = ("a", "the", "each", "this", "worker", "exporter", "slot", "sample", "gauge", "scrape", "reads", "adds", "keeps", "and", "then.")
_REFUSED = ("best_of", "echo", "functions", "logit_bias", "logprobs", "modalities", "response_format", "suffix", "tools", "top_logprobs")
_WITHOUT_EFFECT: tuple[object, ...] = (None, False, [], {}, "", {"type": "text"}, ["text"])


class StandIn:
    """The backend of a service without RYOT_BASE_URL. With a pace, each choice of an answer grows by that many tokens a second."""

    def __init__(
        self,
        timeout_seconds: float,
        stream_seconds: float = STREAM_SECONDS,
        *,
        tokens_per_second: float | None = None,
        loading_seconds: float = 0,
    ) -> None:
        self.timeout_seconds = timeout_seconds
        self.stream_seconds = stream_seconds
        self._pause_seconds = 1 / tokens_per_second if tokens_per_second else 0.0
        self._loading_seconds = loading_seconds
        self._created = int(time.time())

    async def start(self) -> None:
        """Wait for the loading time and export it."""
        started = time.perf_counter()
        await asyncio.sleep(self._loading_seconds)
        metrics.ryot_model_loading_duration_seconds.labels(MODEL).set(time.perf_counter() - started)

    async def models(self) -> list[Json]:
        """Return the only model."""
        return [{"id": MODEL, "object": "model", "created": self._created, "owned_by": "neurectomy"}]

    async def knows(self, model: str) -> bool:
        """Return whether this is the name of the only model."""
        return model == MODEL

    async def complete(self, call: Call, progress: Callable[[int], None]) -> Json:
        """Generate all tokens, then answer."""
        answer = _Answer(call)
        texts, reasons = [""] * len(answer.texts), [""] * len(answer.texts)
        async for index, text, tokens, reason in answer.generate(self._pause_seconds):
            texts[index] += text
            reasons[index] = reason
            if tokens:
                progress(tokens)
        choices = [answer.choice(*each) for each in zip(range(len(texts)), texts, reasons, strict=True)]
        return answer.document(choices) | {"usage": answer.usage()}

    async def stream(self, call: Call) -> AsyncGenerator[Json, None]:
        """Answer with a chunk per token, and one more at the end of each choice."""
        answer = _Answer(call)
        if call.kind == "chat":
            for index in range(len(answer.texts)):
                yield answer.document([answer.choice(index) | {"delta": {"role": "assistant", "content": ""}}])
        async for index, text, _, reason in answer.generate(self._pause_seconds):
            if text:
                yield answer.document([answer.choice(index, text)])
            if reason:
                yield answer.document([answer.choice(index, reason=reason)])
        yield answer.document([]) | {"usage": answer.usage()}

    async def close(self) -> None:
        """Do nothing: the stand-in has no connections."""


class _Answer:
    """The texts of one call, generated in turn, and the documents that carry them."""

    def __init__(self, call: Call) -> None:
        """Raise RefusedError for a call that asks for more than the stand-in supports."""
        given = call.given
        for name in _REFUSED:
            if given.get(name) not in _WITHOUT_EFFECT and (name, given[name]) != ("best_of", 1):
                raise RefusedError(f"{MODEL} does not support {name}", param=name, code="unsupported_parameter")
        prompts, seeds, stops = _prompts(call), _seeds(given), given.get("stop") or []
        most_tokens = _most_tokens(call, len(prompts) * len(seeds))
        stops = [stops] if isinstance(stops, str) else stops
        self.texts = [_generate(zlib.crc32(prompt.encode()), seed, most_tokens, stops) for prompt in prompts for seed in seeds]
        self._prompt_tokens = sum(-(-len(prompt) // _CHARACTERS_PER_PROMPT_TOKEN) for prompt in prompts)
        self._tokens = 0
        self._chat = call.kind == "chat"
        self._whole = not given.get("stream")
        self._head = {"id": f"{'chatcmpl' if self._chat else 'cmpl'}-{secrets.token_hex(12)}", "created": int(time.time()), "model": MODEL}

    async def generate(self, pause_seconds: float) -> AsyncGenerator[tuple[int, str, int, str], None]:
        """Yield (choice, new text, its number of tokens, finish reason or "") for each choice in turn."""
        clock = asyncio.get_running_loop().time
        due, going = clock(), dict(enumerate(self.texts))
        while going:
            due += pause_seconds
            for index, steps in list(going.items()):
                await asyncio.sleep(due - clock())  # also without a pace: other tasks of the worker run between two tokens
                text, tokens, reason = next(steps)
                self._tokens += tokens
                if reason:
                    del going[index]
                yield index, text, tokens, reason

    def choice(self, index: int, text: str = "", reason: str = "") -> Json:
        """Return one choice of a document."""
        if not self._chat:
            body: Json = {"text": text}
        elif self._whole:
            body = {"message": {"role": "assistant", "content": text, "refusal": None}}
        else:
            body = {"delta": {"content": text} if text else {}}
        return {"index": index, **body, "logprobs": None, "finish_reason": reason or None}

    def document(self, choices: list[Json]) -> Json:
        """Return a whole answer, or a chunk of a stream."""
        name = "text_completion" if not self._chat else "chat.completion" if self._whole else "chat.completion.chunk"
        return {**self._head, "object": name, "choices": choices}

    def usage(self) -> Json:
        """Return the tokens so far."""
        return {"prompt_tokens": self._prompt_tokens, "completion_tokens": self._tokens, "total_tokens": self._prompt_tokens + self._tokens}


def _generate(prompt: int, seed: int, most_tokens: int, stops: list[str]) -> Iterator[tuple[str, int, str]]:
    """Yield (new text, its number of tokens, finish reason or "") for each token, or once if max_tokens is 0."""
    dice = random.Random(hash((prompt, seed)))
    length, text = dice.randint(*_ANSWER_TOKENS), StopText(stops)
    end = "stop" if length < most_tokens else "length"
    if not most_tokens:
        yield "", 0, end
    for left in reversed(range(min(length, most_tokens))):
        released = text.add(f" {dice.choice(_WORDS)}")
        reason = "stop" if text.stopped else "" if left else end
        yield released + (text.rest() if reason else ""), 1, reason


def _seeds(given: Json) -> list[int]:
    """Return a seed for each choice of a prompt: random ones for a call without a seed, one for all at temperature 0."""
    number, seed = given.get("n") or 1, given.get("seed")
    if given.get("temperature") == 0:
        return [0] * number
    return [secrets.randbits(64) if seed is None else seed + place for place in range(number)]


def _most_tokens(call: Call, choices: int) -> int:
    """Return the tokens that each choice may have; raise RefusedError for more than the stand-in generates."""
    given = call.given
    name = "max_completion_tokens" if call.kind == "chat" and given.get("max_completion_tokens") is not None else "max_tokens"
    most: int = _DEFAULT_TOKENS[call.kind] if given.get(name) is None else given[name]
    if most > MOST_TOKENS:
        raise RefusedError(f"{name} is {most}; {MODEL} generates at most {MOST_TOKENS}", param=name)
    if choices > MOST_CHOICES:
        raise RefusedError(f"prompts times n is {choices}; {MODEL} generates at most {MOST_CHOICES} choices", param="n")
    if most * choices > MOST_TOKENS_OF_A_CALL:
        raise RefusedError(f"{choices} choices of {most} tokens; {MODEL} generates at most {MOST_TOKENS_OF_A_CALL} in a call", param=name)
    return most


def _prompts(call: Call) -> list[str]:
    """Return the prompts as text; a chat is one prompt, with the text of all its messages."""
    if call.kind == "completion":
        if not all(isinstance(prompt, str) for prompt in call.prompts):
            raise RefusedError(f"{MODEL} reads prompts as text, not as token numbers", param="prompt")
        return call.prompts
    texts: list[str] = []
    for message in call.given["messages"]:
        content = message.get("content") or ""
        for part in [{"type": "text", "text": content}] if isinstance(content, str) else content:
            if part.get("type") != "text" or not isinstance(part.get("text"), str):
                raise RefusedError(f"{MODEL} reads text only, not {str(part.get('type'))[:40]!r}", param="messages")
            texts.append(part["text"])
    return ["\n".join(texts)]
