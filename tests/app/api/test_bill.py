"""What calls of models cost, on the live service: every call that was answered is on the bill, once, whoever is killed."""

from __future__ import annotations

import contextlib
import http.client
import json
import random
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from app.integrations.ryot.stand_in import MODEL
from tests.app.conftest import serve_app
from tests.app.keyed_service import ADMIN, JSON, Service, bearer, refused
from tests.app.model_caller import Caller
from tests.conftest import ROOT, built_environment, data_directory
from tests.processes import send, wait_dead, wait_until
from tests.server_process import ask

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.gunicorn_service import Gunicorn
    from tests.postgres import PostgreSQL

CHAT, COMPLETIONS = "/v1/chat/completions", "/v1/completions"


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def service(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    settings = {"REQUIRE_API_KEY": "1", "ADMIN_KEY": ADMIN, "DATA_DIR": data_directory(tmp_path_factory.mktemp("billing"))}
    if request.param == "postgresql":
        made: PostgreSQL = request.getfixturevalue("server")
        settings["DATABASE_URL"] = made.create()
        subprocess.run([sys.executable, "-m", "app.migrate"], cwd=ROOT, env=built_environment() | settings, check=True)
    with serve_app(tmp_path_factory, **settings) as served:
        yield Service(served, settings)


def usage(service: Service, user: str) -> dict[str, dict[str, Any]]:
    found = json.loads(service.ask("GET", "/v1/usage").body)["usage"]
    return {each["endpoint"]: each for each in found if each["user"] == user}


def value(text: str, series: str) -> float:
    return sum(float(line.rpartition(" ")[2]) for line in text.splitlines() if line.startswith(f"neurectomy_{series}"))


def scraped(service: Service, series: str) -> float:
    return value(service.ask("GET", "/metrics", None).body.decode(), series)


def test_prices_are_set_listed_and_removed(service: Service) -> None:
    price = {"endpoint": CHAT, "model": "some/model", "prompt": "0.25", "generated": "999.000001"}
    made = json.loads(service.ask("PUT", "/v1/prices", body=price).body)
    assert made == price | {"id": made["id"]}
    again = json.loads(service.ask("PUT", "/v1/prices", body=price | {"prompt": "3"}).body)
    assert again == price | {"id": made["id"], "prompt": "3"}
    assert again in json.loads(service.ask("GET", "/v1/prices").body)["prices"]
    assert service.ask("DELETE", f"/v1/prices/{made['id']}").status == 204
    assert service.ask("DELETE", f"/v1/prices/{made['id']}").status == 404
    for bad in ("1000", "-1", "0.0000001", "1e3", "", 1, None, "01"):
        refused(service.ask("PUT", "/v1/prices", body=price | {"prompt": bad}), 422, "invalid")
    refused(service.ask("PUT", "/v1/prices", body=price | {"endpoint": "x"}), 422, "invalid")


def test_a_call_is_billed_to_its_user_at_its_price(service: Service) -> None:
    key = service.key("payer")["key"]
    for endpoint, generated in ((COMPLETIONS, "2.5"), (CHAT, "10")):
        answer = service.ask("PUT", "/v1/prices", body={"endpoint": endpoint, "model": MODEL, "prompt": "0.3", "generated": generated})
        assert answer.status == 200, answer
    before = {series: scraped(service, series) for series in ("tokens_generated_total", "cost_dollars_total")}
    plain = {"model": MODEL, "prompt": ["The worker", "A slot"], "max_tokens": 8}
    used = json.loads(service.ask("POST", COMPLETIONS, key, plain).body)["usage"]
    billed = usage(service, "payer")[COMPLETIONS]
    assert (billed["calls"], billed["model"]) == (1, MODEL)
    assert (billed["prompt_tokens"], billed["generated_tokens"]) == (used["prompt_tokens"], used["completion_tokens"])
    cost = (used["prompt_tokens"] * Decimal("0.3") + used["completion_tokens"] * Decimal("2.5")) / 10**6
    assert Decimal(billed["cost"]) == cost
    stream = {"model": MODEL, "messages": [{"role": "user", "content": "What is a lease?"}], "max_tokens": 8, "stream": True}
    assert service.ask("POST", CHAT, key, stream).body.endswith(b"data: [DONE]\n\n")
    chat = usage(service, "payer")[CHAT]
    assert chat["calls"] == 1
    assert 0 < chat["generated_tokens"] <= 8
    assert chat["prompt_tokens"] > 0
    chat_cost = (chat["prompt_tokens"] * Decimal("0.3") + chat["generated_tokens"] * Decimal(10)) / 10**6
    assert Decimal(chat["cost"]) == chat_cost
    gained = {series: scraped(service, series) - at_first for series, at_first in before.items()}
    assert gained["tokens_generated_total"] == billed["generated_tokens"] + chat["generated_tokens"]
    assert gained["cost_dollars_total"] == pytest.approx(float(cost + chat_cost), rel=1e-9)
    assert scraped(service, f'cost_dollars_total{{endpoint="{CHAT}",model="{MODEL}"}}') >= float(chat_cost) * (1 - 1e-9)
    # What is refused is not billed.
    assert service.ask("POST", COMPLETIONS, key, plain | {"model": "none"}).status == 404
    assert usage(service, "payer")[COMPLETIONS]["calls"] == 1


def test_who_leaves_pays_for_what_was_generated(service: Service) -> None:
    key = service.key("leaver")["key"]
    body = json.dumps({"model": MODEL, "prompt": "The", "max_tokens": 4000, "n": 4, "stream": True}).encode()
    with contextlib.closing(http.client.HTTPConnection("127.0.0.1", service.served.port, timeout=60)) as connection:
        connection.request("POST", COMPLETIONS, body, JSON | bearer(key))
        response = connection.getresponse()
        assert response.status == 200
        seen = sum(response.readline().startswith(b"data: ") for _ in range(40))
        assert connection.sock is not None
        connection.sock.shutdown(socket.SHUT_RDWR)
    wait_until(lambda: COMPLETIONS in usage(service, "leaver"), "what was generated is on the bill")
    billed = usage(service, "leaver")[COMPLETIONS]
    assert billed["calls"] == 1
    assert billed["generated_tokens"] >= seen


def test_who_leaves_while_the_bill_is_written_pays_once(tmp_path_factory: pytest.TempPathFactory) -> None:
    settings = {"REQUIRE_API_KEY": "1", "ADMIN_KEY": ADMIN, "DATA_DIR": data_directory(tmp_path_factory.mktemp("leaving"))}
    with serve_app(tmp_path_factory, **settings) as served:
        service = Service(served, settings)
        key = service.key("leaver")["key"]
        body = json.dumps({"model": MODEL, "prompt": "The", "max_tokens": 3, "stream": True}).encode()
        file = Path(settings["DATA_DIR"]) / "neurectomy.db"
        with contextlib.closing(sqlite3.connect(file, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            with contextlib.closing(http.client.HTTPConnection("127.0.0.1", served.port, timeout=60)) as connection:
                connection.request("POST", COMPLETIONS, body, JSON | bearer(key))
                response = connection.getresponse()
                while b'"finish_reason":null' in (line := response.readline()) or line == b"\n":
                    pass  # what follows the last chunk waits for the bill
                assert line.startswith(b"data: {")
                assert connection.sock is not None
                connection.sock.shutdown(socket.SHUT_RDWR)
            for _ in range(50):  # the service learns of it meanwhile
                assert served.ask("GET", "/health/live").status == 200
            other.execute("ROLLBACK")
        wait_until(lambda: usage(service, "leaver"), "the call is on the bill")
        assert usage(service, "leaver")[COMPLETIONS]["calls"] == 1
        wait_until(lambda: scraped(service, "tokens_generated_total{") == 3, "its tokens are counted")


@pytest.mark.parametrize("required", ["1", "0"])
def test_an_unbilled_call_fails_only_where_keys_are_required(tmp_path_factory: pytest.TempPathFactory, required: str) -> None:
    settings = {"REQUIRE_API_KEY": required, "ADMIN_KEY": ADMIN, "DATA_DIR": data_directory(tmp_path_factory.mktemp("locked"))}
    call = {"model": MODEL, "prompt": "The", "max_tokens": 3}
    with serve_app(tmp_path_factory, **settings) as served:
        service = Service(served, settings)
        file = Path(settings["DATA_DIR"]) / "neurectomy.db"
        with contextlib.closing(sqlite3.connect(file, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            answer = service.ask("POST", COMPLETIONS, body=call)
            other.execute("ROLLBACK")
        if required == "1":
            assert (answer.status, answer.headers["retry-after"]) == (503, "5")
            assert json.loads(answer.body)["error"]["code"] == "database_away"
        else:
            assert answer.status == 200
            assert "a call is not billed: " in served.log.read_text()
        assert scraped(service, "tokens_generated_total{") == 0
        assert json.loads(service.ask("GET", "/v1/usage").body) == {"usage": []}
        assert service.ask("POST", COMPLETIONS, body=call).status == 200
        assert scraped(service, "tokens_generated_total{") > 0
        assert json.loads(service.ask("GET", "/v1/usage").body)["usage"][0]["calls"] == 1


@pytest.mark.usefixtures("preloaded")
@pytest.mark.parametrize("database", ["sqlite", pytest.param("postgresql", marks=pytest.mark.proof)])
def test_costs_are_tokens_times_price_when_workers_are_killed(gunicorn: Gunicorn, request: pytest.FixtureRequest, database: str) -> None:
    if database == "postgresql":
        made: PostgreSQL = request.getfixturevalue("server")
        gunicorn.environment["DATABASE_URL"] = made.create()
        subprocess.run([sys.executable, "-m", "app.migrate"], cwd=ROOT, env=gunicorn.environment, check=True, capture_output=True)
    master = gunicorn.start(WEB_CONCURRENCY="3")
    price = json.dumps({"prompt": "0", "generated": "1.5"}).encode()
    assert ask(gunicorn.port, "PUT", "/v1/prices", price, JSON).status == 200
    callers = [Caller(gunicorn.port) for _ in range(4)]
    threads = [threading.Thread(target=caller.run) for caller in callers]
    for thread in threads:
        thread.start()
    try:
        for _ in range(5):
            goal = sum(caller.answered for caller in callers) + 20
            wait_until(lambda goal=goal: sum(caller.answered for caller in callers) >= goal, "calls are answered")
            wait_until(lambda: len(gunicorn.workers(master)) == 3, "three workers run")
            victim = random.choice(gunicorn.workers(master))
            send(victim, signal.SIGKILL)
            wait_dead(victim)
    finally:
        for caller in callers:
            caller.stop.set()
        for thread in threads:
            thread.join()
    sent, answered = (sum(getattr(caller, name) for caller in callers) for name in ("sent", "answered"))
    (billed,) = json.loads(ask(gunicorn.port, "GET", "/v1/usage").body)["usage"]
    assert answered <= billed["calls"] <= sent
    assert Decimal(billed["cost"]) == billed["generated_tokens"] * Decimal("1.5") / 10**6
    text = gunicorn.scrape()
    tokens, cost = value(text, "tokens_generated_total{"), value(text, "cost_dollars_total{")
    assert cost == pytest.approx(tokens * 1.5e-6, rel=1e-9)
    assert tokens <= billed["generated_tokens"]
    assert billed["calls"] - answered <= 20
    print(f"{database}: {sent=} {answered=} {billed=} {tokens=} {cost=}")
