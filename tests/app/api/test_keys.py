"""API keys on the live service, on both databases: shown once, good for what their user may do, and refused when they are over."""

from __future__ import annotations

import concurrent.futures
import json
import os
import re
import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import openai
import pytest

from tests.app.conftest import serve_app
from tests.app.keyed_service import ADMIN, JSON, Service, bearer, refused
from tests.app.schemathesis_run import run as schemathesis
from tests.conftest import ROOT, built_environment, data_directory
from tests.processes import wait_until
from tests.server_process import ask

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.gunicorn_service import Gunicorn
    from tests.postgres import PostgreSQL
    from tests.server_process import Served


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def service(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    settings = {"REQUIRE_API_KEY": "1", "ADMIN_KEY": ADMIN, "DATA_DIR": data_directory(tmp_path_factory.mktemp("keys"))}
    if request.param == "postgresql":
        made: PostgreSQL = request.getfixturevalue("server")
        settings["DATABASE_URL"] = made.create()
        subprocess.run([sys.executable, "-m", "app.migrate"], cwd=ROOT, env=built_environment() | settings, check=True)
    with serve_app(tmp_path_factory, **settings) as served:
        yield Service(served, settings)


OPEN = ["/health/live", "/health/ready", "/metrics", "/openapi.json", "/docs"]
PROTECTED = [
    ("POST", "/v1/compress", "user"),
    ("POST", "/v1/decompress", "user"),
    ("GET", "/v1/dictionaries", "user"),
    ("POST", "/v1/dictionaries", "admin"),
    ("DELETE", "/v1/dictionaries/x", "admin"),
    ("GET", "/v1/models", "openai"),
    ("GET", "/v1/models/x", "openai"),
    ("POST", "/v1/completions", "openai"),
    ("POST", "/v1/chat/completions", "openai"),
    ("GET", "/v1/keys", "admin"),
    ("POST", "/v1/keys", "admin"),
    ("DELETE", "/v1/keys/1", "admin"),
    ("GET", "/v1/users", "admin"),
    ("PATCH", "/v1/users/x", "admin"),
    ("PUT", "/v1/prices", "admin"),
    ("GET", "/v1/prices", "admin"),
    ("DELETE", "/v1/prices/1", "admin"),
    ("GET", "/v1/usage", "admin"),
]


@pytest.mark.parametrize(("method", "path", "role"), PROTECTED)
def test_no_key_and_wrong_keys_are_401_and_a_wrong_role_403(service: Service, method: str, path: str, role: str) -> None:
    body = b"not what any route takes" if method in ("POST", "PATCH", "PUT") else None
    openais = role == "openai"
    refused(service.ask(method, path, None, body), 401, "missing_key", in_openais_format=openais)
    good = service.key("somebody")["key"]
    other = good[:-1] + ("A" if good[-1] != "A" else "B")
    for wrong in ("x", "nk-000000000000-" + "a" * 43, other, good + "x", ADMIN + "x", ADMIN[:-1], "\xe9\xff"):
        refused(service.ask(method, path, wrong, body), 401, "wrong_key", in_openais_format=openais)
    answer = service.ask(method, path, good, body)
    if role == "admin":
        refused(answer, 403, "wrong_role")
    else:
        assert answer.status not in (401, 403), answer
    assert service.ask(method, path, ADMIN, body).status not in (401, 403)


def test_every_route_is_open_or_protected(service: Service) -> None:
    document = json.loads(service.ask("GET", "/openapi.json", None).body)
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            if path.startswith("/health/"):
                assert "security" not in operation
            else:
                assert operation["security"] == [{"HTTPBearer": []}], path
                assert {"401", "503"} <= set(operation["responses"]), path
                assert service.ask(method.upper(), re.sub("{[^}]*}", "1", path), None).status == 401, path
    for path in OPEN:
        assert service.ask("GET", path, None).status == 200, path


def test_a_key_is_shown_once_and_kept_as_its_hash(service: Service, tmp_path: Path) -> None:
    del tmp_path
    made = service.key("once", expires_in=1000)
    key = made.pop("key")
    assert re.fullmatch(r"nk-[0-9a-f]{12}-[\w-]{43}", key)
    assert key.startswith(made["prefix"])
    assert made["role"] == "user"
    assert made["expires"] == pytest.approx(made["created"] + 1000)
    listed = [each for each in pages(service, "keys") if each["id"] == made["id"]]
    assert listed == [made]
    secret = key.rpartition("-")[2]
    assert secret not in service.served.log.read_text()
    if "DATABASE_URL" not in service.settings:
        folder = Path(service.settings["DATA_DIR"])
        assert not any(secret.encode() in path.read_bytes() for path in folder.glob("neurectomy.db*"))
        with sqlite3.connect(folder / "neurectomy.db") as connection:
            (digest,) = connection.execute("SELECT digest FROM api_keys WHERE id = ?", (made["id"],)).fetchone()
        connection.close()
        import hashlib

        assert digest == hashlib.sha256(key.encode()).digest()


def pages(service: Service, what: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    while True:
        after = found[-1]["id"] if found else 0
        page = json.loads(service.ask("GET", f"/v1/{what}?limit=7&after={after}").body)[what]
        assert len(page) <= 7
        if not page:
            assert [each["id"] for each in found] == sorted({each["id"] for each in found})
            return found
        found += page


def test_a_revoked_key_is_refused_at_once_and_stays_listed(service: Service) -> None:
    made = service.key("leaver")
    assert service.ask("GET", "/v1/dictionaries", made["key"]).status == 200
    for _ in range(2):
        assert service.ask("DELETE", f"/v1/keys/{made['id']}").status == 204
        refused(service.ask("GET", "/v1/dictionaries", made["key"]), 401, "revoked_key")
    (listed,) = [each for each in pages(service, "keys") if each["id"] == made["id"]]
    assert listed["revoked"] >= listed["created"]
    assert service.ask("DELETE", "/v1/keys/2147483647").status == 404
    for number in ("0", "2147483648", "x"):
        assert service.ask("DELETE", f"/v1/keys/{number}").status == 422


def test_a_key_ends_when_it_expires(service: Service) -> None:
    made = service.key("guest", expires_in=1)
    forever = service.key("guest")
    wait_until(lambda: service.ask("GET", "/v1/dictionaries", made["key"]).status == 401, "it has expired")
    refused(service.ask("GET", "/v1/dictionaries", made["key"]), 401, "expired_key")
    assert service.ask("GET", "/v1/dictionaries", forever["key"]).status == 200


def test_roles_and_whether_keys_are_taken_are_the_users(service: Service) -> None:
    one, two = service.key("riser"), service.key("riser")
    refused(service.ask("GET", "/v1/keys", one["key"]), 403, "wrong_role")
    refused(service.ask("POST", "/v1/keys", body={"user": "riser", "role": "admin"}), 409, "role_differs")
    changed = service.ask("PATCH", "/v1/users/riser", body={"role": "admin"})
    assert json.loads(changed.body)["role"] == "admin"
    assert [service.ask("GET", "/v1/keys", key["key"]).status for key in (one, two)] == [200, 200]
    assert service.key("riser", role="admin")["role"] == "admin"
    assert json.loads(service.ask("PATCH", "/v1/users/riser", body={"active": False}).body)["active"] is False
    for key in (one, two):
        refused(service.ask("GET", "/v1/keys", key["key"]), 401, "revoked_key")
    assert json.loads(service.ask("PATCH", "/v1/users/riser", body={"active": True, "role": "user"}).body)["role"] == "user"
    assert service.ask("GET", "/v1/dictionaries", one["key"]).status == 200
    assert [each["name"] for each in pages(service, "users")].count("riser") == 1
    assert service.ask("PATCH", "/v1/users/nobody-at-all", body={}).status == 404


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[]",
        {},
        {"user": ""},
        {"user": "a b"},
        {"user": "x" * 65},
        {"user": 1},
        {"user": "x", "role": "god"},
        {"user": "x", "more": 1},
    ]
    + [{"user": "x", "expires_in": number} for number in (0, -1, 1.5, "1", 10**12)],
)
def test_a_body_that_is_not_as_described_is_422(service: Service, body: object) -> None:
    refused(service.ask("POST", "/v1/keys", body=body), 422, "invalid")


def test_other_bodies_are_refused(service: Service) -> None:
    refused(service.ask("POST", "/v1/keys", body=b" " * 70_000), 413, "too_large")
    answer = service.served.ask("POST", "/v1/keys", b'{"user": "x"}', bearer(ADMIN) | {"Content-Type": "text/plain"})
    refused(answer, 415, "not_json")


def test_a_user_that_many_make_at_once_is_one(service: Service) -> None:
    with concurrent.futures.ThreadPoolExecutor(16) as threads:
        made = list(threads.map(lambda _: service.key("crowd"), range(32)))
    assert len({each["key"] for each in made}) == len({each["id"] for each in made}) == 32
    assert [each["name"] for each in pages(service, "users")].count("crowd") == 1


def test_openais_own_client_works_with_a_key(service: Service) -> None:
    key = service.key("developer")["key"]
    url = f"http://127.0.0.1:{service.served.port}/v1"
    with openai.OpenAI(base_url=url, api_key=key, max_retries=0) as client:
        (model,) = [each.id for each in client.models.list()]
        answer = client.chat.completions.create(model=model, messages=[{"role": "user", "content": "Hello"}], max_tokens=3)
        assert answer.choices[0].message.content
    with openai.OpenAI(base_url=url, api_key="sk-wrong", max_retries=0) as client:
        with pytest.raises(openai.AuthenticationError, match="no such API key") as caught:
            client.models.list()
        assert caught.value.code == "invalid_api_key"


def test_the_command_makes_the_first_key(service: Service) -> None:
    made = service.command("create", "--user", "first", "--role", "admin", "--days", "1.5")
    assert made.returncode == 0, made.stderr
    key = made.stdout.strip()
    assert made.stdout.count("\n") == made.stderr.count("\n") == 1
    assert key not in made.stderr
    listed = json.loads(service.ask("GET", "/v1/keys?limit=1000", key).body)["keys"]
    (row,) = [each for each in listed if key.startswith(each["prefix"])]
    assert row["role"] == "admin"
    assert row["expires"] == pytest.approx(row["created"] + 1.5 * 86_400)
    assert re.search(rf"^{row['id']}\t{row['prefix']}\tfirst\tadmin\tuntil 2", service.command("list").stdout, re.MULTILINE)
    assert service.command("revoke", str(row["id"])).returncode == 0
    refused(service.ask("GET", "/v1/keys", key), 401, "revoked_key")
    assert service.command("revoke", "2147483647").stderr == "app.keys: there is no key 2147483647\n"
    assert service.command("create", "--user", "a b").stderr.startswith("app.keys: --user 'a b': ")
    assert service.command("create", "--user", "first", "--role", "user").stderr.startswith("app.keys: the user first has the role admin")


def test_the_command_makes_a_fresh_file_and_says_what_postgresql_needs(tmp_path: Path, server: PostgreSQL) -> None:
    def command(**settings: str) -> subprocess.CompletedProcess[str]:
        environment = built_environment() | settings
        return subprocess.run(
            [sys.executable, "-m", "app.keys", "create"], cwd=ROOT, env=environment, capture_output=True, text=True, check=False
        )

    assert command(DATA_DIR=str(tmp_path / "fresh")).stdout.startswith("nk-")
    missing = command(DATABASE_URL=server.create())
    assert (missing.returncode, missing.stdout) == (1, "")
    assert missing.stderr == "app.keys: the database does not have this version's schema yet: run `python -m app.migrate`\n"


def test_schemathesis_finds_nothing_with_a_key(service: Service, tmp_path: Path) -> None:
    """Of what the database is behind; tests/app/api/test_openapi.py asks all routes, without one."""
    url = f"http://127.0.0.1:{service.served.port}/openapi.json"
    behind = ("--include-path-regex", "^/v1/(keys|users|prices|usage|agents|tasks)")
    ran = schemathesis(url, tmp_path, "-H", f"Authorization: Bearer {ADMIN}", *behind)
    assert ran.returncode == 0, ran.stdout + ran.stderr


def test_a_database_away_is_503_and_the_service_stays(tmp_path_factory: pytest.TempPathFactory) -> None:
    from tests.postgres import postgresql

    with postgresql() as own:
        settings = {"REQUIRE_API_KEY": "1", "ADMIN_KEY": ADMIN, "DATABASE_URL": own.create()}
        subprocess.run([sys.executable, "-m", "app.migrate"], cwd=ROOT, env=built_environment() | settings, check=True)
        with serve_app(tmp_path_factory, **settings) as served:
            service = Service(served, settings)
            key = service.key("somebody")["key"]
            assert service.ask("GET", "/v1/dictionaries", key).status == 200
            own.stop()
            for method, path, body in (("GET", "/v1/dictionaries", None), ("POST", "/v1/compress", b"x"), ("GET", "/v1/models", None)):
                answer = service.ask(method, path, key, body)
                assert (answer.status, answer.headers["retry-after"]) == (503, "5")
                said = json.loads(answer.body)
                assert "database_away" in (said.get("reason"), said.get("error", {}).get("code"))
            assert service.ask("GET", "/v1/keys").status == 503  # also with the key that needs no database
            assert service.ask("GET", "/v1/dictionaries").status == 200
            assert service.ask("GET", "/health/live", None).status == 200
            assert service.ask("GET", "/health/ready", None).status == 200
            assert service.ask("GET", "/v1/dictionaries", "sk-nobodys").status == 401  # seen to be none of ours
            own.start()
            assert service.ask("GET", "/v1/dictionaries", key).status == 200
            assert served.process.poll() is None


def test_without_the_need_for_a_key_any_will_do(served: Served) -> None:
    for headers in ({}, bearer("sk-anything"), bearer("nk-000000000000-" + "a" * 43)):
        assert served.ask("GET", "/v1/keys", headers=headers).status == 200
        assert served.ask("GET", "/v1/models", headers=headers).status == 200
    assert "securitySchemes" not in json.loads(served.ask("GET", "/openapi.json").body).get("components", {})


@pytest.mark.parametrize("preload", ["0", "1"])
def test_keys_are_needed_by_default_and_known_to_every_worker(gunicorn: Gunicorn, preload: str) -> None:
    del gunicorn.environment["REQUIRE_API_KEY"]
    master = gunicorn.start(PRELOAD=preload, ADMIN_KEY=ADMIN)
    assert ask(gunicorn.port, "GET", "/v1/models").status == 401
    headers = bearer(ADMIN) | JSON
    made = json.loads(ask(gunicorn.port, "POST", "/v1/keys", b'{"user": "x"}', headers).body)
    for _ in range(20):
        assert ask(gunicorn.port, "GET", "/v1/models", headers=bearer(made["key"])).status == 200
    for worker in gunicorn.workers(master):
        os.kill(worker, 9)
    wait_until(lambda: ask(gunicorn.port, "DELETE", f"/v1/keys/{made['id']}", headers=headers).status == 204, "it is revoked")
    assert {ask(gunicorn.port, "GET", "/v1/models", headers=bearer(made["key"])).status for _ in range(20)} == {401}
