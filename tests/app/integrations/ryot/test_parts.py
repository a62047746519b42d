"""The parts of Ryot alone: stop sequences, the stand-in, lazy imports, and a list of models that outlives its server."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

import pytest

from app.integrations.ryot import BadBackendError, Call, remote
from app.integrations.ryot.stand_in import MODEL, StandIn
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


def complete(prompt: str | list[str], backend: StandIn | None = None, **more: Any) -> Any:
    given = {"model": MODEL, "prompt": prompt, **more}
    return asyncio.run((backend or StandIn(60)).complete(Call("completion", MODEL, given), lambda _: None))


def test_prompt_and_seed_decide_the_text() -> None:
    def text(prompt: str, **more: Any) -> str:
        said: str = complete(prompt, max_tokens=20, **more)["choices"][0]["text"]
        return said

    # The same in every process and version, so that it can be asserted on.
    assert (
        text("the cat", seed=1)
        == " this this then. slot exporter then. sample reads exporter keeps the and exporter reads exporter a a each and the"
    )
    assert len({text(prompt, seed=seed) for prompt in ("the cat", "a dog") for seed in range(10)}) == 20
    assert text("the cat", temperature=0) == text("the cat", temperature=0, seed=7) != text("a dog", temperature=0)
    assert len({text("the cat") for _ in range(20)}) > 1


def test_a_text_ends_by_itself() -> None:
    done = complete("the cat", max_tokens=4096, seed=1, n=4)
    assert {choice["finish_reason"] for choice in done["choices"]} == {"stop"}
    assert len({choice["text"].count(" ") for choice in done["choices"]}) > 1
    assert done["usage"]["completion_tokens"] == sum(choice["text"].count(" ") for choice in done["choices"])


@pytest.mark.parametrize(("prompt", "tokens"), [("", 0), ("the cat", 2), ("the zoo \N{SNOWMAN}", 3), ("\r\n" * 8, 4)])
def test_any_text_is_a_prompt(prompt: str, tokens: int) -> None:
    assert complete(prompt, seed=1)["usage"] == {"prompt_tokens": tokens, "completion_tokens": 16, "total_tokens": tokens + 16}


def test_the_pace_is_that_of_each_choice() -> None:
    started = time.monotonic()
    complete(["x"] * 128, StandIn(60, tokens_per_second=50), max_tokens=20)
    # One choice after the other would take 51 seconds.
    assert 0.9 * 20 / 50 < time.monotonic() - started < 20


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
