from __future__ import annotations

import os
import re

import pytest

from app.settings import Settings, SettingsError
from tests.conftest import ROOT


@pytest.fixture(autouse=True)
def _built_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name in {field.upper() for field in Settings.model_fields}:
            monkeypatch.delenv(name)


def load(monkeypatch: pytest.MonkeyPatch, **environ: str) -> Settings:
    with monkeypatch.context() as context:
        for name, value in environ.items():
            context.setenv(name, value)
        return Settings.load()


def test_every_variable_has_a_default_that_works(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = load(monkeypatch)
    assert settings.bind == "127.0.0.1:8000"
    assert settings.metrics_bind == "127.0.0.1:9464"
    assert settings.metrics_path == "/metrics"
    assert settings.metrics_token is None
    assert settings.web_concurrency is None
    assert settings.worker_memory_mb == 200
    assert settings.worker_class == "uvicorn"
    assert settings.limit_concurrency is None
    assert settings.preload is False
    assert settings.max_requests == settings.max_requests_jitter == 0


def test_port_alone_means_every_address(monkeypatch: pytest.MonkeyPatch) -> None:
    assert load(monkeypatch, PORT="81").bind == "0.0.0.0:81"
    assert load(monkeypatch, PORT="81", BIND="").bind == "0.0.0.0:81"
    assert load(monkeypatch, PORT="81", BIND="127.0.0.1:82").bind == "127.0.0.1:82"


def test_empty_is_unset_except_where_it_says_none(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = load(monkeypatch, WEB_CONCURRENCY="", METRICS_TOKEN="", LOG_LEVEL="", METRICS_BIND="", METRICS_PATH="")
    assert settings.web_concurrency is None
    assert settings.metrics_token is None
    assert settings.log_level == "info"
    assert settings.metrics_bind == settings.metrics_path == ""


def test_recycling_is_spread_unless_told_otherwise(monkeypatch: pytest.MonkeyPatch) -> None:
    assert load(monkeypatch, MAX_REQUESTS="1000").max_requests_jitter == 100
    assert load(monkeypatch, MAX_REQUESTS="1000", MAX_REQUESTS_JITTER="0").max_requests_jitter == 0


GOOD = [
    ("BIND", "[::1]:8000"),
    ("BIND", "127.0.0.1:8000,unix:/run/app.sock"),
    ("BIND", "localhost:0"),
    ("BIND", "fd://3"),
    ("METRICS_BIND", ":9464"),
    ("METRICS_BIND", "unix:/run/metrics.sock"),
    ("METRICS_PATH", "/internal/metrics"),
    ("PRELOAD", "yes"),
    ("WORKER_CLASS", "ASGI"),
    ("LOG_LEVEL", "DEBUG"),
    ("TIMEOUT", "0"),
    ("GPU_IN", "Exporter"),
    ("RYOT_TIMEOUT", "0.5"),
    ("RYOT_STANDIN_TOKENS_PER_SECOND", "0.5"),
    ("RYOT_STANDIN_LOADING_SECONDS", "3600"),
    ("RYOT_BREAKER", "off"),
    ("RYOT_BREAKER", "rate=0.1, failures=10"),
    ("VAULT_BREAKER", "window_seconds=0.5"),
    ("RYOT_BASE_URL", "http://127.0.0.1:8080/v1"),
    ("RYOT_BASE_URL", "https://[::1]/"),
    ("VAULT_URL", "file:///srv/a%20vault"),
    ("VAULT_URL", "s3://bucket"),
    ("VAULT_URL", "s3://bucket/pre/fix"),
    ("FORWARDED_ALLOW_IPS", "*"),
    ("FORWARDED_ALLOW_IPS", "10.0.0.0/8, ::1"),
]


@pytest.mark.parametrize(("name", "value"), GOOD)
def test_good_values(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    load(monkeypatch, **{name: value})


BAD = [
    ("BIND", "8000"),
    ("BIND", "127.0.0.1:99999"),
    ("BIND", "127.0.0.1:http"),
    ("BIND", "::1:8000"),
    ("BIND", "http://127.0.0.1:8000"),
    ("BIND", "unix:"),
    ("BIND", "a b:1"),
    ("BIND", "127.0.0.1:1,"),
    ("PORT", "65536"),
    ("PORT", "-1"),
    ("METRICS_BIND", "nonsense"),
    ("METRICS_BIND", "127.0.0.1:"),
    ("METRICS_BIND", "unix:"),
    ("METRICS_LINGER", "3601"),
    ("METRICS_PATH", "metrics"),
    ("METRICS_PATH", "/metrics?x"),
    ("WEB_CONCURRENCY", "many"),
    ("WEB_CONCURRENCY", "0"),
    ("WEB_CONCURRENCY", "2.5"),
    ("WORKER_MEMORY_MB", "0"),
    ("WORKER_CLASS", "gevent"),
    ("LIMIT_CONCURRENCY", "0"),
    ("PRELOAD", "maybe"),
    ("MAX_REQUESTS", "-1"),
    ("MAX_REQUESTS_JITTER", "x"),
    ("TIMEOUT", "-3"),
    ("GRACEFUL_TIMEOUT", "0"),
    ("KEEP_ALIVE", "long"),
    ("FORWARDED_ALLOW_IPS", "proxy.local"),
    ("FORWARDED_ALLOW_IPS", "10.0.0.1/8"),
    ("LOG_LEVEL", "loud\nvery"),
    ("RYOT_TIMEOUT", "0"),
    ("RYOT_TIMEOUT", "nan"),
    ("RYOT_STREAM_TIMEOUT", "inf"),
    ("RYOT_STANDIN_TOKENS_PER_SECOND", "0"),
    ("RYOT_STANDIN_TOKENS_PER_SECOND", "inf"),
    ("RYOT_STANDIN_LOADING_SECONDS", "-1"),
    ("RYOT_STANDIN_LOADING_SECONDS", "nan"),
    ("RYOT_BREAKER", "on"),
    ("RYOT_BREAKER", "failures=0"),
    ("RYOT_BREAKER", "failures=2.5"),
    ("RYOT_BREAKER", "rate=nan"),
    ("RYOT_BREAKER", "patience=3"),
    ("VAULT_BREAKER", "open_seconds=-1"),
    ("RYOT_BASE_URL", "127.0.0.1:8080"),
    ("RYOT_BASE_URL", "http://"),
    ("RYOT_BASE_URL", "http://x:99999/"),
    ("RYOT_BASE_URL", "http://x/?a=b"),
    ("DATA_DIR", "a\tb"),
    ("VAULT_URL", "/srv/vault"),
    ("VAULT_URL", "file://srv/vault"),
    ("VAULT_URL", "s3://"),
    ("VAULT_URL", "gs://bucket"),
    ("VAULT_URL", "s3://bucket?x=y"),
    ("VAULT_KEY_FILE", "a\tb"),
    ("VAULT_MAX_OBJECT_BYTES", "0"),
    ("SIGMALANG_MAX_DOCUMENT_BYTES", "0"),
    ("SIGMALANG_MAX_UNFOLDED_BYTES", "1 GiB"),
    ("SIGMALANG_MAX_LONG_BODIES", "0"),
    ("SIGMALANG_MAX_DICTIONARIES", "-1"),
    ("REQUIRE_API_KEY", "perhaps"),
    ("USER_WINDOW_SECONDS", "4"),
    ("GPU_SECONDS", "-1"),
    ("GPU_IN", "sidecar"),
    ("GPU_PIDS_MATCH", "perhaps"),
]


@pytest.mark.parametrize(("name", "value"), BAD)
def test_a_bad_value_is_one_line_with_name_value_and_what_is_allowed(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    with pytest.raises(SettingsError) as caught:
        load(monkeypatch, **{name: value})
    allowed = Settings.model_fields[name.lower()].description
    assert allowed
    assert str(caught.value) == f"{name}={value!r} is not allowed: it must be {allowed}"
    assert "\n" not in str(caught.value)


def test_every_variable_is_refused_somewhere_above() -> None:
    assert {name for name, _ in BAD} | {"METRICS_TOKEN", "RYOT_API_KEY", "DATABASE_URL", "ADMIN_KEY"} == {
        name.upper() for name in Settings.model_fields
    }


@pytest.mark.parametrize("name", ["METRICS_TOKEN", "RYOT_API_KEY", "ADMIN_KEY", "DATABASE_URL"])
def test_a_bad_secret_is_not_shown(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    with pytest.raises(SettingsError) as caught:
        load(monkeypatch, **{name: "my secret"})
    assert "secret" not in str(caught.value)
    assert str(caught.value).startswith(f"{name}=(hidden)")


def test_the_configuration_page_has_every_variable_with_its_default() -> None:
    page = (ROOT / "docs" / "configuration.md").read_text()
    rows = dict(re.findall(r"^\| `([A-Z_]+)` \| (.*?) \|", page, re.MULTILINE))
    for name, field in Settings.model_fields.items():
        assert name.upper() in rows
        if field.default not in (None, False) and name != "max_requests_jitter":
            assert f"`{1 if field.default is True else field.default}`" == rows[name.upper()]
