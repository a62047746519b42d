"""The parts of Ryot alone: stop words, the model of n-grams, what is loaded when, and a list of models that outlives its server."""

from __future__ import annotations

import asyncio
import itertools
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from app.integrations.ryot import BadBackendError, remote
from app.integrations.ryot.ngram import Model
from app.integrations.ryot.stop_sequences import StopText
from tests.app.openai_server import OpenAIServer, openai_server
from tests.conftest import ROOT

if TYPE_CHECKING:
    from pathlib import Path

START = """
import asyncio, sys
import app.main

async def start():
    async with app.main.lifespan(app.main.app):
        print(*(name for name in ("openai", "obstore", "opentelemetry.sdk", "opentelemetry.exporter") if name in sys.modules))

asyncio.run(start())
"""


@pytest.mark.parametrize("size", range(1, 12))
@pytest.mark.parametrize(
    ("text", "stops", "said"),
    [
        ("one two three", ["two"], "one "),
        ("one two three", ["three", "o t"], "one two three"[: "one two three".index("o t")]),
        ("aaab", ["aab"], "a"),
        ("one two", ["twofold"], "one two"),
        ("one two", [], "one two"),
    ],
)
def test_stop_words_are_found_however_they_come(text: str, stops: list[str], said: str, size: int) -> None:
    heard = StopText(stops)
    released = "".join(heard.add(text[start : start + size]) for start in range(0, len(text), size)) + heard.rest()
    assert released == said
    assert heard.stopped == (said != text)


def test_the_model_says_what_it_has_read() -> None:
    model = Model(["the cat sat on the mat", "a dog ran"])

    def say(prompt: str, temperature: float = 0.0, seed: int = 1) -> str:
        tokens = model.generate(model.encode(prompt), seed=seed, temperature=temperature)
        return "".join(model.words[token] for token in itertools.islice(tokens, 20))

    assert say("the cat") == " sat on the mat"
    assert say("a dog") == " ran"
    assert say("a dog ran") != "", "a text that is at its end goes on with another"
    assert len({say("the", 1.5, seed) for seed in range(20)}) > 1
    assert say("the", 1.5, 7) == say("the", 1.5, 7)


def test_what_no_text_had_is_read_by_character() -> None:
    model = Model(["the cat"])
    assert [model.words[token] for token in model.encode("the zoo \N{SNOWMAN}")] == ["the", " ", "z", "o", "o", " ", " "]


@pytest.mark.parametrize("base_url", ["", "http://127.0.0.1:9/v1"])
def test_what_is_not_used_is_not_loaded_at_the_start(environment: dict[str, str], metrics_directory: Path, base_url: str) -> None:
    # Of OpenTelemetry FastAPI itself loads the API, which does nothing.
    environment |= {"PROMETHEUS_MULTIPROC_DIR": str(metrics_directory), "RYOT_BASE_URL": base_url}
    done = subprocess.run([sys.executable, "-c", START], cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.stdout.split() == (["openai"] if base_url else []), done.stderr


def test_a_listed_model_is_known_while_its_server_is_away(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote, "MODELS_SECONDS", 0.0)

    async def ask(backend: remote.Remote, server: OpenAIServer) -> None:
        try:
            assert await backend.knows("good")
            asked = len(server.seen)
            assert not await backend.knows("unheard-of")
            assert len(server.seen) > asked, "the list is asked for anew once it is old"
            await asyncio.to_thread(server.end)
            assert await backend.knows("good")
            assert not await backend.knows("unheard-of")
            with pytest.raises(BadBackendError):
                await backend.models()
        finally:
            await backend.close()

    with openai_server() as server:
        asyncio.run(ask(remote.Remote(server.url, None, 30.0), server))
