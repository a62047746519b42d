"""The stand-in: a language model of our own, trained at the start on a text that ships with the package.

It generates real tokens in real time, so that everything around a model can be used and measured with no account and no download.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from importlib import resources
from itertools import chain, islice
from typing import TYPE_CHECKING, Any

from app.integrations.ryot.backend import STREAM_SECONDS
from app.integrations.ryot.errors import RefusedError
from app.integrations.ryot.ngram import Model
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
_PARAGRAPHS = 6
_UNSUPPORTED = frozenset(
    {"best_of", "echo", "functions", "logit_bias", "logprobs", "modalities", "response_format", "suffix", "tools", "top_logprobs"}
)
_INLINE_CHARACTERS = 16_384
"""A longer prompt is cut into tokens in a thread."""


class Builtin:
    """The backend where there is no RYOT_BASE_URL."""

    def __init__(self, timeout_seconds: float, stream_seconds: float = STREAM_SECONDS) -> None:
        self.timeout_seconds = timeout_seconds
        self.stream_seconds = stream_seconds
        self._model: Model | None = None
        self._created = int(time.time())
        self.load_seconds = 0.0

    def load(self) -> Model:
        """Train the model, once; a master that preloads does it for all its workers."""
        if self._model is None:
            began = time.perf_counter()
            text = resources.files(__package__).joinpath("corpus.txt").read_text("utf-8")
            paragraphs = text.strip().split("\n\n")
            self._model = Model(["\n\n".join(paragraphs[start : start + _PARAGRAPHS]) for start in range(0, len(paragraphs), _PARAGRAPHS)])
            self.load_seconds = time.perf_counter() - began
        return self._model

    async def start(self) -> None:
        """Train the model where no master has, and tell how long that took."""
        self.load()
        metrics.ryot_model_loading_duration_seconds.labels(MODEL).set(self.load_seconds)

    async def models(self) -> list[Json]:
        """Give the only model."""
        return [{"id": MODEL, "object": "model", "created": self._created, "owned_by": "neurectomy"}]

    async def knows(self, model: str) -> bool:
        """Tell whether it is the only model."""
        return model == MODEL

    async def complete(self, call: Call, progress: Callable[[int], None]) -> Json:
        """Generate everything, then answer."""
        run = await _Run.begin(self.load(), call)
        texts = [""] * len(run.choices)
        reasons = [""] * len(run.choices)
        async for index, text, tokens, reason in run.pieces():
            if tokens:
                progress(tokens)
            texts[index] += text
            reasons[index] = reason or reasons[index]
        choices = [run.whole(index, text, reasons[index]) for index, text in enumerate(texts)]
        return run.document(choices, whole=True) | {"usage": run.usage()}

    async def stream(self, call: Call) -> AsyncGenerator[Json, None]:
        """Answer with a chunk per token."""
        run = await _Run.begin(self.load(), call)
        if call.kind == "chat":
            for index in range(len(run.choices)):
                yield run.document([run.piece(index, "", None, role=True)])
        async for index, text, _, reason in run.pieces():
            if text:
                yield run.document([run.piece(index, text, None)])
            if reason:
                yield run.document([run.piece(index, "", reason)])
        yield run.document([]) | {"usage": run.usage()}

    async def close(self) -> None:
        """Nothing is held."""


class _Run:
    """The choices of one call, generated in turn, and the documents that tell of them."""

    def __init__(self, call: Call, prompts: list[list[int]], model: Model) -> None:
        given = call.given
        self._chat = call.kind == "chat"
        self._words = model.words
        self._prompt_tokens = sum(map(len, prompts))
        self._generated = 0
        self._most = _most_tokens(call, len(prompts) * (given.get("n") or 1))
        stops = given.get("stop") or []
        self._stops = [stops] if isinstance(stops, str) else stops
        seed, temperature, top_p = (given.get(name) for name in ("seed", "temperature", "top_p"))
        self.choices: list[Iterator[int]] = [
            model.generate(
                prompt,
                seed=None if seed is None else seed + number,
                temperature=1.0 if temperature is None else temperature,
                top_p=1.0 if top_p is None else top_p,
            )
            for prompt in prompts
            for number in range(given.get("n") or 1)
        ]
        self._head = {"id": f"{'chatcmpl' if self._chat else 'cmpl'}-{secrets.token_hex(12)}", "created": int(time.time()), "model": MODEL}

    @classmethod
    async def begin(cls, model: Model, call: Call) -> _Run:
        """Check what the stand-in cannot do, and read the prompts."""
        for name in sorted(_UNSUPPORTED & call.given.keys()):
            if call.given[name] not in (None, False, [], {}, "", {"type": "text"}, ["text"]) and (name, call.given[name]) != ("best_of", 1):
                raise RefusedError(f"{MODEL} does not support {name}", param=name, code="unsupported_parameter")
        texts = _chat_texts(call.given["messages"]) if call.kind == "chat" else _prompt_texts(call.prompts)
        if sum(map(len, texts)) > _INLINE_CHARACTERS:
            encoded = await asyncio.to_thread(lambda: [model.encode(text) for text in texts])
        else:
            encoded = [model.encode(text) for text in texts]
        # A chat is one prompt: its messages one after the other.
        return cls(call, [list(chain.from_iterable(encoded))] if call.kind == "chat" else encoded, model)

    async def pieces(self) -> AsyncGenerator[tuple[int, str, int, str | None], None]:
        """Give (choice, new text, tokens behind it, why it ended) in turn; every other task may run between two tokens."""
        going = {index: (islice(tokens, self._most), StopText(self._stops)) for index, tokens in enumerate(self.choices)}
        counts = [0] * len(self.choices)
        while going:
            for index, (tokens, text) in list(going.items()):
                await asyncio.sleep(0)
                token = next(tokens, None)
                if token is None:
                    reason = "length" if counts[index] == self._most else "stop"
                    yield index, text.rest(), 0, reason
                    del going[index]
                    continue
                counts[index] += 1
                self._generated += 1
                released = text.add(self._words[token])
                yield index, released, 1, "stop" if text.stopped else None
                if text.stopped:
                    del going[index]

    def whole(self, index: int, text: str, reason: str) -> Json:
        """Give one choice of a whole answer."""
        said: Json = {"message": {"role": "assistant", "content": text, "refusal": None}} if self._chat else {"text": text}
        return {"index": index, **said, "logprobs": None, "finish_reason": reason}

    def piece(self, index: int, text: str, reason: str | None, *, role: bool = False) -> Json:
        """Give one choice of a chunk."""
        if not self._chat:
            return {"index": index, "text": text, "logprobs": None, "finish_reason": reason}
        delta = {"role": "assistant", "content": ""} if role else {"content": text} if reason is None else {}
        return {"index": index, "delta": delta, "logprobs": None, "finish_reason": reason}

    def document(self, choices: list[Json], *, whole: bool = False) -> Json:
        """Give one document with these choices."""
        name = "text_completion" if not self._chat else "chat.completion" if whole else "chat.completion.chunk"
        return {**self._head, "object": name, "choices": choices}

    def usage(self) -> Json:
        """Give the tokens so far."""
        prompt, generated = self._prompt_tokens, self._generated
        return {"prompt_tokens": prompt, "completion_tokens": generated, "total_tokens": prompt + generated}


def _most_tokens(call: Call, choices: int) -> int:
    """Give the tokens that each choice may have, and refuse what would be too much of it."""
    given = call.given
    name = "max_completion_tokens" if call.kind == "chat" and given.get("max_completion_tokens") is not None else "max_tokens"
    asked = given.get(name)
    most: int = _DEFAULT_TOKENS[call.kind] if asked is None else asked
    if most > MOST_TOKENS:
        raise RefusedError(f"{name} is {most}; {MODEL} generates at most {MOST_TOKENS}", param=name)
    if choices > MOST_CHOICES:
        raise RefusedError(f"prompts times n is {choices}; {MODEL} gives at most {MOST_CHOICES} choices", param="n")
    if most * choices > MOST_TOKENS_OF_A_CALL:
        raise RefusedError(f"{choices} choices of {most} tokens; {MODEL} generates at most {MOST_TOKENS_OF_A_CALL} in a call", param=name)
    return most


def _prompt_texts(prompts: list[Any]) -> list[str]:
    if not all(isinstance(prompt, str) for prompt in prompts):
        raise RefusedError(f"{MODEL} takes prompts as text, not as token numbers", param="prompt")
    return prompts


def _chat_texts(messages: list[Json]) -> list[str]:
    """Give the text of each message; parts that are no text are refused."""
    texts: list[str] = []
    for message in messages:
        content = message.get("content") or ""
        if isinstance(content, str):
            texts.append(content)
            continue
        for part in content:
            if part.get("type") != "text" or not isinstance(part.get("text"), str):
                raise RefusedError(f"{MODEL} reads text only, not {str(part.get('type'))[:40]!r}", param="messages")
            texts.append(part["text"])
    return texts
