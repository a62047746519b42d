"""The stand-in model: what decides its text, its length, its usage and its pace."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest

from app.integrations.ryot import Call
from app.integrations.ryot.stand_in import MODEL, StandIn


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
