"""The stand-in through OpenAI's own client, against a real server: answers, refusals, and what each of them counts."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import openai
import pytest
from pydantic import BaseModel, ValidationError

from app.api.ryot import MAX_BODY_BYTES
from app.api.ryot_bodies import ChatBody, CompletionBody
from app.integrations.ryot.stand_in import MODEL, MOST_TOKENS
from tests.app.conftest import serve_app
from tests.app.keyed_service import JSON
from tests.app.scraped import call, counts, gained, samples

if TYPE_CHECKING:
    from tests.server_process import Served


@pytest.fixture(scope="module")
def client(served: Served) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"http://127.0.0.1:{served.port}/v1", api_key="none", max_retries=0, timeout=60)


def test_the_models_are_listed(client: openai.OpenAI) -> None:
    (model,) = client.models.list().data
    assert (model.id, model.object, model.owned_by) == (MODEL, "model", "neurectomy")
    assert client.models.retrieve(MODEL).id == MODEL
    with pytest.raises(openai.NotFoundError, match="'no/such' does not exist"):
        client.models.retrieve("no/such")


def test_loading_is_timed(served: Served) -> None:
    assert 0 < samples(served)[f'neurectomy_ryot_model_loading_duration_seconds{{model="{MODEL}"}}'] < 60


def test_pace_and_loading_time_are_settings(tmp_path_factory: pytest.TempPathFactory) -> None:
    settings = {"RYOT_STANDIN_LOADING_SECONDS": "0.5", "RYOT_STANDIN_TOKENS_PER_SECOND": "50"}
    with serve_app(tmp_path_factory, **settings) as slow:
        assert samples(slow)[f'neurectomy_ryot_model_loading_duration_seconds{{model="{MODEL}"}}'] > 0.9 * 0.5
        body = json.dumps({"model": MODEL, "prompt": "x", "max_tokens": 10, "stream": True}).encode()
        assert slow.ask("POST", "/v1/completions", body, JSON).body.endswith(b"data: [DONE]\n\n")
        assert samples(slow)[f'neurectomy_ryot_request_duration_seconds_sum{{model="{MODEL}"}}'] > 0.9 * 10 / 50
        assert samples(slow)[f'neurectomy_ryot_time_to_first_token_seconds_sum{{model="{MODEL}"}}'] > 0.9 * 1 / 50


def test_a_completion_and_what_it_counts(client: openai.OpenAI, served: Served) -> None:
    before = samples(served)
    done = client.completions.create(model=MODEL, prompt="A worker that is", max_tokens=8, seed=1)
    (choice,) = done.choices
    assert (done.object, done.model, choice.index, choice.finish_reason) == ("text_completion", MODEL, 0, "length")
    assert choice.text.startswith(" ")
    assert done.usage is not None
    assert (done.usage.prompt_tokens, done.usage.completion_tokens, done.usage.total_tokens) == (4, 8, 12)
    assert gained(served, before) == counts(4, 8)


def test_the_seed_decides_and_the_temperature_too(client: openai.OpenAI) -> None:
    def text(**more: Any) -> str:
        return client.completions.create(model=MODEL, prompt="The", max_tokens=40, **more).choices[0].text

    assert text(seed=7) == text(seed=7) != text(seed=8)
    assert text(temperature=0) == text(temperature=0, seed=3)
    assert len({text() for _ in range(5)}) > 1


def test_a_batch_with_several_choices_each(client: openai.OpenAI, served: Served) -> None:
    before = samples(served)
    done = client.completions.create(model=MODEL, prompt=["A worker", "The exporter", "x"], n=2, max_tokens=5, seed=1)
    assert [choice.index for choice in done.choices] == list(range(6))
    assert len({choice.text for choice in done.choices}) > 3
    assert done.usage is not None
    assert gained(served, before) == counts(done.usage.prompt_tokens, done.usage.completion_tokens, batch=3)


def test_text_ends_before_its_stop_word(client: openai.OpenAI) -> None:
    whole = client.completions.create(model=MODEL, prompt="The", max_tokens=60, seed=5).choices[0].text
    stop = whole[11:16]
    cut = client.completions.create(model=MODEL, prompt="The", max_tokens=60, seed=5, stop=["never said", stop]).choices[0]
    assert cut.text == whole[: whole.index(stop)]
    assert cut.finish_reason == "stop"


def test_whole_numbers_may_have_a_point(served: Served) -> None:
    body = {"model": MODEL, "prompt": "The", "n": 2.0, "max_tokens": 3.0, "seed": 1.0, "user": "passed over"}
    answer = served.ask("POST", "/v1/completions", json.dumps(body).encode(), JSON)
    assert [choice["index"] for choice in json.loads(answer.body)["choices"]] == [0, 1]


def test_no_tokens_are_no_tokens(client: openai.OpenAI, served: Served) -> None:
    before = samples(served)
    done = client.completions.create(model=MODEL, prompt="A", max_tokens=0)
    assert (done.choices[0].text, done.choices[0].finish_reason) == ("", "length")
    assert gained(served, before).items() >= call("success").items()
    assert not any("generated" in name or "first_token" in name for name in gained(served, before))


REFUSED: list[tuple[str, Any, int, str | None]] = [
    ("completions", b"", 400, None),
    ("completions", b"{", 400, None),
    ("completions", b"[1]", 400, None),
    ("completions", b'{"model":"' + b"\xff" + b'"}', 400, None),
    ("completions", b'{"model":"x","prompt":"\\ud800"}', 400, None),
    ("completions", b"[" * 100_000, 400, None),
    ("completions", {"prompt": "x"}, 400, "model"),
    ("completions", {"model": MODEL}, 400, "prompt"),
    ("completions", {"model": MODEL, "prompt": []}, 400, "prompt"),
    ("completions", {"model": MODEL, "prompt": "x", "max_tokens": -1}, 400, "max_tokens"),
    ("completions", {"model": MODEL, "prompt": "x", "max_tokens": "1"}, 400, "max_tokens"),
    ("completions", {"model": MODEL, "prompt": "x", "temperature": 2.1}, 400, "temperature"),
    ("completions", {"model": MODEL, "prompt": "x", "stream": 1}, 400, "stream"),
    ("chat/completions", {"model": MODEL, "messages": []}, 400, "messages"),
    ("chat/completions", {"model": MODEL, "messages": [{"role": "nobody", "content": "x"}]}, 400, "messages"),
]


@pytest.mark.parametrize(("path", "body", "status", "param"), REFUSED)
def test_nonsense_is_refused_in_openais_format_and_counted(served: Served, path: str, body: Any, status: int, param: str | None) -> None:
    before = samples(served)
    answer = served.ask("POST", f"/v1/{path}", body if isinstance(body, bytes) else json.dumps(body).encode(), JSON)
    assert (answer.status, answer.headers["content-type"]) == (status, "application/json")
    error = json.loads(answer.body)["error"]
    assert (set(error), error["type"], error["param"]) == ({"message", "type", "param", "code"}, "invalid_request_error", param)
    assert error["message"]
    assert gained(served, before) == call("error", "_other")


@pytest.mark.parametrize(
    ("more", "param"),
    [
        ({"max_tokens": MOST_TOKENS + 1}, "max_tokens"),
        ({"prompt": ["x"] * 100, "n": 2}, "n"),
        ({"prompt": ["x"] * 100, "max_tokens": MOST_TOKENS}, "max_tokens"),
        ({"prompt": [1, 2]}, "prompt"),
        ({"logprobs": 3}, "logprobs"),
        ({"suffix": "x"}, "suffix"),
    ],
)
@pytest.mark.parametrize("stream", [False, True])
def test_what_the_stand_in_cannot_do_is_refused(served: Served, more: dict[str, Any], param: str, stream: bool) -> None:
    before = samples(served)
    body = json.dumps({"model": MODEL, "prompt": "x", "stream": stream, **more}).encode()
    answer = served.ask("POST", "/v1/completions", body, JSON)
    assert (answer.status, json.loads(answer.body)["error"]["param"]) == (400, param)
    assert gained(served, before).items() >= call("error").items()


def test_an_unknown_model_is_no_label(client: openai.OpenAI, served: Served) -> None:
    before = samples(served)
    for stream in (False, True):
        with pytest.raises(openai.NotFoundError) as refused:
            client.completions.create(model="gpt-nonsense", prompt="x", stream=stream)
        assert (refused.value.code, refused.value.param) == ("model_not_found", "model")
    assert gained(served, before) == dict.fromkeys(call("error", "_other"), 2)
    assert "gpt-nonsense" not in served.ask("GET", "/metrics").body.decode()


def test_a_body_past_the_bound_is_refused(served: Served) -> None:
    before = samples(served)
    answer = served.ask("POST", "/v1/completions", bytes(MAX_BODY_BYTES + 1), JSON)
    assert (answer.status, json.loads(answer.body)["error"]["code"]) == (413, "too_large")
    assert gained(served, before) == call("error", "_other")


@pytest.mark.parametrize(
    ("shape", "body"),
    [
        (CompletionBody, {"model": "x", "prompt": [None] * 10_000}),
        (CompletionBody, {"model": "x", "prompt": [[]] * 2000}),
        (CompletionBody, {"model": "x", "prompt": "x", "stop": [1] * 10}),
        (ChatBody, {"model": "x", "messages": [{}] * 8000}),
        (ChatBody, {"model": "x", "messages": [{"role": "user", "content": [1] * 10_000}]}),
    ],
)
def test_a_body_of_many_faults_costs_little(shape: type[BaseModel], body: dict[str, Any]) -> None:
    with pytest.raises(ValidationError) as refused:
        shape.model_validate(body)
    assert refused.value.error_count() < 10


def test_a_long_body_is_answered_as_a_short_one(client: openai.OpenAI) -> None:
    done = client.completions.create(model=MODEL, prompt=["The " * 100_000, "x"], max_tokens=2)
    assert done.usage is not None
    assert done.usage.prompt_tokens > 100_000
    with pytest.raises(openai.BadRequestError):
        client.completions.create(model=MODEL, prompt=["x"] * 100_000)


def test_a_model_of_any_name_is_unknown_in_openais_format(served: Served) -> None:
    for name in ("a", "a/b", "%0A", "a%0Ab", "a%0A", "%0D%0A/x", "%F0%9F%98%80"):
        answer = served.ask("GET", f"/v1/models/{name}")
        assert (answer.status, json.loads(answer.body)["error"]["code"]) == (404, "model_not_found"), name
    assert json.loads(served.ask("GET", f"/v1/models/{MODEL}").body)["id"] == MODEL
    assert "/v1/models/{model}" in json.loads(served.ask("GET", "/openapi.json").body)["paths"]
