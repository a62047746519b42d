"""The metrics that a request can have moved, by its answer."""

from __future__ import annotations

import json

import pytest

from monitoring.verify.ledger import Ledger, Sample
from tools.load import expected_metrics
from tools.load.request import Outcome, Request


def outcome(status: int, body: bytes = b"", *, whole: bool = True) -> Outcome:
    return Outcome(Request("POST", "/x"), status, body, whole)


@pytest.mark.parametrize(
    ("status", "whole", "least", "most"),
    [
        (200, True, ("success",), 1),
        (422, True, ("error",), 1),
        (401, True, (), 0),
        (405, True, (), 0),
        (503, True, (), 1),
        (200, False, (), 1),
    ],
)
def test_an_operation_is_derived_from_the_answer(status: int, whole: bool, least: tuple[str, ...], most: int) -> None:
    ledger = Ledger()
    expected_metrics.decompression(outcome(status, whole=whole), ledger)
    named = [Sample.of("sigmalang_decompression_requests_total", status=each) for each in ("success", "error", "cancelled")]
    assert [sample.label("status") for sample in named if ledger.least[sample]] == list(least)
    assert max(ledger.most(sample) for sample in named) == most


def stream(*chunks: object, done: bool = True) -> bytes:
    events = [f"data: {json.dumps(chunk)}\n\n" for chunk in chunks]
    return "".join([*events, "data: [DONE]\n\n" if done else ""]).encode()


TOKEN = {"choices": [{"delta": {"content": "word"}}]}
USAGE = {"choices": [], "usage": {"prompt_tokens": 5, "completion_tokens": 7}}


def test_tokens_of_a_stream_are_those_of_its_usage() -> None:
    ledger = Ledger()
    expected_metrics.model_call("m", 48, 100)(outcome(200, stream(TOKEN, TOKEN, USAGE)), ledger)
    assert ledger.least[Sample.of("ryot_requests_total", model="m", status="success")] == 1
    for name, number in {"ryot_tokens_generated_total": 7, "tokens_generated_total": 7, "ryot_prompt_tokens_total": 5}.items():
        assert ledger.least[Sample.of(name, model="m")] == ledger.most(Sample.of(name, model="m")) == number


@pytest.mark.parametrize("whole", [True, False])
def test_tokens_of_a_broken_stream_are_those_seen_or_more(whole: bool) -> None:
    ledger = Ledger()
    # A stream that the client left in the middle of an event, and one that ended with an error.
    body = stream(TOKEN, TOKEN, {"error": {"message": "late"}}, done=False) if whole else stream(TOKEN, TOKEN, done=False) + b'data: {"cho'
    expected_metrics.model_call("m", 48, 100)(outcome(200, body, whole=whole), ledger)
    generated, billed = Sample.of("ryot_tokens_generated_total", model="m"), Sample.of("tokens_generated_total", model="m")
    assert (ledger.least[generated], ledger.most(generated)) == (2, 48)
    assert (ledger.least[billed], ledger.most(billed)) == (0, 48)
    assert ledger.least[Sample.of("ryot_requests_total", model="m", status="success")] == 0
    assert ledger.most(Sample.of("ryot_requests_total", model="m", status="timeout")) == 1
