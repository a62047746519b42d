"""The samples that a server of the app shows, and what requests added to them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from app.integrations.ryot.stand_in import MODEL

if TYPE_CHECKING:
    from tests.server_process import Served


def samples(served: Served) -> dict[str, float]:
    lines = served.ask("GET", "/metrics").body.decode().splitlines()
    return {name: float(value) for name, _, value in (line.rpartition(" ") for line in lines if not line.startswith("#"))}


def moved(served: Served, before: dict[str, float]) -> dict[str, float]:
    """What the ΣLANG families gained, without buckets and durations."""
    return {
        name.removeprefix("neurectomy_sigmalang_"): value - before.get(name, 0)
        for name, value in samples(served).items()
        if value != before.get(name, 0) and "sigmalang" in name and "_bucket" not in name and "seconds_sum" not in name
    }


def gained(served: Served, before: dict[str, float]) -> dict[str, float]:
    """What the Ryot families gained, without buckets and sums of durations."""
    return {
        name.removeprefix("neurectomy_ryot_"): value - before.get(name, 0)
        for name, value in samples(served).items()
        if value != before.get(name, 0) and "_ryot_" in name and "_bucket" not in name and "seconds_sum" not in name
    }


def call(outcome: str, model: str = MODEL) -> dict[str, float]:
    return {f'requests_total{{model="{model}",status="{outcome}"}}': 1, f'request_duration_seconds_count{{model="{model}"}}': 1}


def counts(prompt: int, generated: int, batch: int = 1) -> dict[str, float]:
    """What a call of the stand-in counts that generated more than one token."""
    labels = f'{{model="{MODEL}"}}'
    return {
        f"prompt_tokens_total{labels}": prompt,
        f"tokens_generated_total{labels}": generated,
        f"batch_size_count{labels}": 1,
        f"batch_size_sum{labels}": batch,
        f"time_to_first_token_seconds_count{labels}": 1,
        f"time_per_output_token_seconds_count{labels}": 1,
        **call("success"),
    }
