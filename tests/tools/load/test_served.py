"""Runs against the real service: all of it is called, the metrics agree, nothing stays, and what goes wrong is told in a line."""

from __future__ import annotations

import json
import re
import signal
from typing import TYPE_CHECKING

from app.integrations.vault import keyring
from tests.processes import wait_until
from tests.server_process import ask
from tests.tools.load.conftest import ADMIN_KEY

if TYPE_CHECKING:
    from tests.gunicorn_service import Gunicorn
    from tests.tools.load.conftest import Loader

ENDLESS = ("--requests", "10000000", "--seconds", "86400", "--without", "slow")
AGREED = "metrics: acknowledged <= counted <= sent holds for all "


def addresses(gunicorn: Gunicorn) -> tuple[str, ...]:
    return "--url", f"http://127.0.0.1:{gunicorn.port}", "--metrics", f"http://127.0.0.1:{gunicorn.metrics_port}/metrics", "--slow", "0.2"


def get(gunicorn: Gunicorn, path: str) -> object:
    answer = ask(gunicorn.port, "GET", path, headers={"Authorization": f"Bearer {ADMIN_KEY}"})
    assert answer.status == 200, answer
    return json.loads(answer.body)


def acknowledged(printed: str) -> set[tuple[str, str]]:
    """Give (method, endpoint) of the first table."""
    table = printed.split("\n\n")[1].splitlines()[1:]
    return {(row.split()[1], row.split()[0]) for row in table if int(row.split()[3])}


def test_a_run_calls_every_endpoint_and_leaves_nothing(gunicorn: Gunicorn, loader: Loader) -> None:
    keyring.create(gunicorn.folder / "vault.key")
    gunicorn.start(REQUIRE_API_KEY="1", ADMIN_KEY=ADMIN_KEY, VAULT_KEY_FILE=str(gunicorn.folder / "vault.key"))
    code, printed = loader.run(*addresses(gunicorn), "--requests", "400", "--seconds", "3600", "--restore")
    assert code == 0
    assert AGREED in printed
    assert "\nwrong: " not in printed
    assert "\nnote: " not in printed
    # A machine that stalls for long makes databases and agents late.
    assert set(re.findall(r"^unexpected: .* was answered (\d+)", printed, re.MULTILINE)) <= {"409", "503", "504"}
    paths = get(gunicorn, "/openapi.json")["paths"]  # type: ignore[index]
    known = {(method.upper(), path) for path, methods in paths.items() for method in methods}
    plain = {(method, endpoint.replace(":path}", "}")) for method, endpoint in acknowledged(printed)}
    assert known - plain == set()
    assert {endpoint for _, endpoint in plain} >= {"_unmatched", "_redirect"}
    assert {"401", "403", "404", "405", "409", "415", "422"} <= {row.split()[2] for row in printed.split("\n\n")[1].splitlines()}
    left = [get(gunicorn, f"/v1/{path}") for path in ("vault/objects", "vault/snapshots", "dictionaries", "prices", "agents")]
    assert left == [{"names": []}, {"snapshots": []}, {"dictionaries": []}, {"prices": []}, {"agents": []}]
    keys = get(gunicorn, "/v1/keys?limit=1000")["keys"]  # type: ignore[index]
    assert keys
    assert [key for key in keys if key["revoked"] is None] == []

    # With a wrong key, and with none, what needs no key is called.
    for key, told in (("wrong", "the service refuses the key in ADMIN_KEY; "), ("", "the service requires a key: set ADMIN_KEY; ")):
        code, printed = loader.run(*addresses(gunicorn), "--requests", "40", ADMIN_KEY=key)
        assert code == 0
        assert f"\nnote: {told}" in printed
        assert AGREED in printed
        assert {endpoint for _, endpoint in acknowledged(printed)} >= {"/health/live", "/v1/models", "_unmatched"}


def test_what_goes_wrong_is_told(gunicorn: Gunicorn, loader: Loader) -> None:
    gunicorn.start()  # no key is required, and there is none for the vault
    code, printed = loader.run(*addresses(gunicorn), "--requests", "200", "--seconds", "3600", "--without", "slow", "--keep")
    assert code == 0
    assert AGREED in printed
    assert len(re.findall(r"^note: (?:vault|snapshots) is left out: .* ΣVAULT has no key", printed, re.MULTILINE)) == 2
    assert "unexpected: GET /v1/vault" not in printed
    assert len(get(gunicorn, "/v1/agents")["agents"]) == 4  # type: ignore[index]

    # A call of somebody else is one too many; Ctrl-C ends a run with all that belongs to its end.
    mark = gunicorn.requests()
    run = loader.begin(*addresses(gunicorn), *ENDLESS)
    wait_until(lambda: gunicorn.requests() > mark, "the run has begun")
    ask(gunicorn.port, "OPTIONS", "/v1/compress")
    run.send_signal(signal.SIGINT)
    code, printed = loader.finish(run)
    assert code == 130
    told = "metrics: http_requests_total{endpoint=/v1/compress,method=OPTIONS,status=405}: counted 1, sent 0: 1 too many"
    assert told in printed
    assert AGREED not in printed
    assert get(gunicorn, "/v1/agents") == {"agents": []}

    # Others may call where that is said; a run that they disturb is none that fails.
    mark = gunicorn.requests()
    run = loader.begin(*addresses(gunicorn), "--shared", "--requests", "300", "--seconds", "3600", "--without", "slow")
    wait_until(lambda: gunicorn.requests() > mark, "the run has begun")
    ask(gunicorn.port, "OPTIONS", "/v1/compress")
    code, printed = loader.finish(run)
    assert code == 0
    assert "metrics: acknowledged <= counted holds for all " in printed

    # The service goes away.
    mark = gunicorn.requests()
    run = loader.begin(*addresses(gunicorn)[:2], *ENDLESS)
    wait_until(lambda: gunicorn.requests() > mark, "the run has begun")
    gunicorn.end()
    code, printed = loader.finish(run)
    assert code == 1
    assert "\nnote: the service has stopped: " in printed
    assert "\nnote: the run could not clean up: " in printed

    # And stays away.
    code, printed = loader.run(*addresses(gunicorn)[:2])
    assert code == 1
    assert printed.startswith(f"tools.load: there is no service at http://127.0.0.1:{gunicorn.port}: ")
    assert printed.count("\n") == 1
    code, printed = loader.run(*addresses(gunicorn))
    assert code == 1
    assert printed.startswith(f"tools.load: the metrics at http://127.0.0.1:{gunicorn.metrics_port}/metrics cannot be read: ")
    assert printed.count("\n") == 1
