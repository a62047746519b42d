"""What a call can have moved, by what is known of its answer."""

from __future__ import annotations

import json
from collections import Counter

import pytest

from tools.load import expected_metrics
from tools.load.call import Call, Outcome
from tools.load.check import differences
from tools.load.ledger import Ledger, Sample


def requests(status: int) -> Sample:
    return Sample.of("http_requests_total", method="GET", endpoint="/x", status=str(status))


def outcome(status: int, body: bytes = b"", *, whole: bool = True) -> Outcome:
    return Outcome(Call("POST", "/x"), status, body, whole)


def wrong(ledger: Ledger, *, shared: bool = False, **moved: int) -> list[str]:
    """Compare with what the metrics moved by, by status."""
    return differences(ledger, Counter({requests(int(status.removeprefix("_"))): n for status, n in moved.items()}), shared=shared)


def test_what_is_known_must_be_counted_just_so() -> None:
    ledger = Ledger()
    ledger.certain(requests(200), 3)
    assert wrong(ledger, _200=3) == []
    assert wrong(ledger, _200=2) == ["http_requests_total{endpoint=/x,method=GET,status=200}: counted 2, acknowledged 3: 1 lost"]
    assert wrong(ledger, _200=4) == ["http_requests_total{endpoint=/x,method=GET,status=200}: counted 4, sent 3: 1 too many"]
    assert wrong(ledger, _200=4, shared=True) == []
    assert wrong(ledger, _200=2, shared=True)


def test_what_nobody_sent_must_not_be_counted() -> None:
    assert wrong(Ledger(), _404=1) == ["http_requests_total{endpoint=/x,method=GET,status=404}: counted 1, sent 0: 1 too many"]
    scrape = Sample.of("http_requests_total", method="GET", endpoint="/metrics", status="200")
    assert differences(Ledger(), Counter({scrape: 2}), shared=False) == []


def test_an_unanswered_call_may_count_once_with_any_status() -> None:
    ledger = Ledger()
    ledger.certain(requests(200), 3)
    ledger.perhaps(requests(200).group)
    assert wrong(ledger, _200=3) == []
    assert wrong(ledger, _200=4) == []
    assert wrong(ledger, _200=3, _499=1) == []
    assert wrong(ledger, _200=4, _499=1) == ["http_requests_total{endpoint=/x,method=GET}, all statuses: counted 5, sent 4: 1 too many"]
    assert wrong(ledger, _200=2, _499=1) == ["http_requests_total{endpoint=/x,method=GET,status=200}: counted 2, acknowledged 3: 1 lost"]


def test_a_counter_that_fell_is_told() -> None:
    assert wrong(Ledger(), _200=-5) == [
        "http_requests_total{endpoint=/x,method=GET,status=200} fell by 5: the service was started anew meanwhile"
    ]


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
def test_operations_are_told_by_the_answer(status: int, whole: bool, least: tuple[str, ...], most: int) -> None:
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


def test_tokens_of_a_stream_are_those_of_its_usage_at_its_end() -> None:
    ledger = Ledger()
    expected_metrics.model_call("m", 48, 100)(outcome(200, stream(TOKEN, TOKEN, USAGE)), ledger)
    assert ledger.least[Sample.of("ryot_requests_total", model="m", status="success")] == 1
    for name, number in {"ryot_tokens_generated_total": 7, "tokens_generated_total": 7, "ryot_prompt_tokens_total": 5}.items():
        assert ledger.least[Sample.of(name, model="m")] == ledger.most(Sample.of(name, model="m")) == number


@pytest.mark.parametrize("whole", [True, False])
def test_tokens_of_a_stream_that_broke_off_are_those_seen_or_more(whole: bool) -> None:
    ledger = Ledger()
    # One that was left, with half an event at its end, and one that ended with an error.
    body = stream(TOKEN, TOKEN, {"error": {"message": "late"}}, done=False) if whole else stream(TOKEN, TOKEN, done=False) + b'data: {"cho'
    expected_metrics.model_call("m", 48, 100)(outcome(200, body, whole=whole), ledger)
    generated, billed = Sample.of("ryot_tokens_generated_total", model="m"), Sample.of("tokens_generated_total", model="m")
    assert (ledger.least[generated], ledger.most(generated)) == (2, 48)
    assert (ledger.least[billed], ledger.most(billed)) == (0, 48)
    assert ledger.least[Sample.of("ryot_requests_total", model="m", status="success")] == 0
    assert ledger.most(Sample.of("ryot_requests_total", model="m", status="timeout")) == 1
