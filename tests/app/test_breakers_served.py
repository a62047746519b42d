"""The service before backends that fail: all workers leave them alone at once, one call probes, and each format says when to come again."""

from __future__ import annotations

import json
import signal
from typing import TYPE_CHECKING, Any

import openai
import pytest

from app.integrations.vault import keyring
from tests.app.openai_server import openai_server
from tests.app.problems import refuse
from tests.processes import send, wait_dead, wait_until
from tests.server_process import ask

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.gunicorn_service import Gunicorn

JSON = {"Content-Type": "application/json"}
OPEN_SECONDS = 2


def call(gunicorn: Gunicorn, model: str, *, stream: bool = False) -> Any:
    return ask(gunicorn.port, "POST", "/v1/completions", json.dumps({"model": model, "prompt": "x", "stream": stream}).encode(), JSON)


def shown(gunicorn: Gunicorn, family: str) -> dict[str, float]:
    lines = [line for line in gunicorn.scrape().splitlines() if line.startswith(f"neurectomy_circuit_breaker_{family}{{")]
    assert len(lines) == len({line.rpartition(" ")[0] for line in lines})
    return {line.partition("{")[2].rpartition("}")[0]: float(line.rpartition(" ")[2]) for line in lines}


def changes(gunicorn: Gunicorn) -> dict[tuple[str, str], float]:
    found = shown(gunicorn, "transitions_total")
    return {(old, new): value for series, value in found.items() for old, _, new in [series.split('"')[1::2]]}


@pytest.mark.usefixtures("preloaded")
def test_all_workers_leave_a_models_server_alone_that_fails(gunicorn: Gunicorn) -> None:
    with openai_server() as backend:
        policy = f"failures=5 rate=0.01 open_seconds={OPEN_SECONDS}"
        master = gunicorn.start(WEB_CONCURRENCY="8", RYOT_BASE_URL=backend.url, RYOT_BREAKER=policy, RYOT_TIMEOUT="60")
        wait_until(lambda: shown(gunicorn, "state") == {'service="ryot"': 0.0}, "the breaker is shown, closed")
        for stream in (False, True):
            assert call(gunicorn, "good", stream=stream).status == 200
        for model in ("refuses", "no such model"):
            assert call(gunicorn, model).status in {400, 404}, "that the service answers so is no failure of it"
        failed = [call(gunicorn, model, stream=stream).status for model, stream in (("html", False), ("html", True), ("no-json", False))]
        assert failed == [502] * 3
        assert b"[DONE]" not in call(gunicorn, "cut", stream=True).body, "a stream that breaks off is a failure too"
        assert changes(gunicorn) == {}
        assert call(gunicorn, "a-list").status == 502
        asked = len(backend.seen)
        answers = [call(gunicorn, "good", stream=bool(number % 2)) for number in range(40)]
        if all(answer.status == 503 for answer in answers):  # else the two seconds are over on a slow machine
            assert len(backend.seen) == asked, "nobody asked it"
        refusal = next(answer for answer in answers if answer.status == 503)
        error = json.loads(refusal.body)["error"]
        assert (error["code"], error["type"]) == ("circuit_open", "server_error")
        assert 0 < int(refusal.headers["retry-after"]) <= OPEN_SECONDS
        client = openai.OpenAI(base_url=f"http://127.0.0.1:{gunicorn.port}/v1", api_key="x", max_retries=10, timeout=60)
        assert client.completions.create(model="good", prompt="x").choices[0].text, "OpenAI's client comes again when it is told to"
        assert changes(gunicorn)["closed", "open"] == 1
        assert changes(gunicorn)["half_open", "closed"] == 1
        wait_until(lambda: shown(gunicorn, "state") == {'service="ryot"': 0.0}, "it is closed again")
        # Whoever is killed, what was said stays said.
        for worker in gunicorn.workers(master):
            send(worker, signal.SIGKILL)
            wait_dead(worker)
        wait_until(lambda: len(gunicorn.workers(master)) == 8, "eight workers run")
        assert changes(gunicorn)["closed", "open"] == 1
        assert shown(gunicorn, "failures_total") == {'service="ryot"': 5.0}


def test_a_models_server_that_hangs_is_left_alone_too(gunicorn: Gunicorn) -> None:
    with openai_server() as backend:
        gunicorn.start(WEB_CONCURRENCY="2", RYOT_BASE_URL=backend.url, RYOT_BREAKER="failures=2 open_seconds=3600", RYOT_TIMEOUT="0.5")
        for stream in (False, True):
            assert call(gunicorn, "stalls" if stream else "slow", stream=stream).status in {200, 504}
        wait_until(lambda: call(gunicorn, "slow").status == 503, "it is left alone")
        assert changes(gunicorn) == {("closed", "open"): 1}


@pytest.mark.parametrize("breaker", ["failures=3 open_seconds=3600", "off"])
def test_s3_that_is_away(gunicorn: Gunicorn, tmp_path: Path, free_port: Callable[[], int], breaker: str) -> None:
    keyring.create(tmp_path / "vault.key")
    gunicorn.start(
        WEB_CONCURRENCY="2",
        VAULT_URL="s3://bucket/prefix",
        VAULT_KEY_FILE=str(tmp_path / "vault.key"),
        VAULT_BREAKER=breaker,
        AWS_ENDPOINT_URL=f"http://127.0.0.1:{free_port()}",
        AWS_ACCESS_KEY_ID="x",
        AWS_SECRET_ACCESS_KEY="x",
        AWS_REGION="x",
    )

    def rests() -> bool:
        answer = ask(gunicorn.port, "GET", "/v1/vault/objects/a")
        refuse(answer, 503, "storage_unavailable")
        return b"has failed too often" in answer.body and int(answer.headers["retry-after"]) > 3000

    if breaker == "off":
        assert not any(rests() for _ in range(6))
        assert shown(gunicorn, "state") == {}
        return
    wait_until(rests, "it is left alone")
    wait_until(lambda: shown(gunicorn, "state") == {'service="sigmavault"': 1.0}, "it is shown open")
