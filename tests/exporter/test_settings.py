"""The exporter and the service read the same variables: both accept the same values, and refuse the others with the same line."""

from __future__ import annotations

import pytest

from app.settings import Settings as ServiceSettings
from app.settings import SettingsError
from monitoring.exporter.settings import Settings

GOOD: list[tuple[str, str, str, object]] = [
    ("METRICS_BIND", "127.0.0.1:1", "bind", "127.0.0.1:1"),
    ("METRICS_BIND", "[::1]:1", "bind", "[::1]:1"),
    ("METRICS_BIND", ":9464", "bind", ":9464"),
    ("METRICS_BIND", "tcp://localhost:0", "bind", "tcp://localhost:0"),
    ("METRICS_BIND", "unix:/run/metrics.sock", "bind", "unix:/run/metrics.sock"),
    ("METRICS_TOKEN", "s3cret~!", "token", "s3cret~!"),
    ("METRICS_LINGER", "0", "linger_seconds", 0.0),
    ("METRICS_LINGER", "20", "linger_seconds", 20.0),
    ("METRICS_LINGER", " 1e3 ", "linger_seconds", 1000.0),
    ("METRICS_LINGER", "3600.0", "linger_seconds", 3600.0),
    ("GPU_SECONDS", "0.5", "gpu_seconds", 0.5),
    ("GPU_IN", " Exporter", "gpu_seconds", 5.0),
    ("GPU_IN", "WORKER", "gpu_seconds", 0.0),
]
BAD = [
    *(
        ("METRICS_BIND", text)
        for text in ("nonsense", "9464", "127.0.0.1:", "::1:9464", "127.0.0.1:65536", "unix:", "unix:/", "fd://3", "a b:1")
    ),
    *(("METRICS_TOKEN", text) for text in ("my secret", " ", "s3cret\n", "geheim\u00e4", "\x7f")),
    *(("METRICS_LINGER", text) for text in ("soon", "-1", "-0.1", "3600.1", "nan", "inf", "0x1", " ", "1,5")),
    *(("GPU_SECONDS", text) for text in ("often", "-1", "3601", "nan", "-inf")),
    *(("GPU_IN", text) for text in ("sidecar", "worker,exporter", " ")),
]
SERVICE_NAMES = {"bind": "metrics_bind", "token": "metrics_token", "linger_seconds": "metrics_linger", "gpu_seconds": "gpu_seconds"}


def load(monkeypatch: pytest.MonkeyPatch, **environ: str) -> ServiceSettings:
    for name in ServiceSettings.model_fields:
        monkeypatch.delenv(name.upper(), raising=False)
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    return ServiceSettings.load()


@pytest.mark.parametrize(("name", "text", "field", "value"), GOOD)
def test_both_accept(monkeypatch: pytest.MonkeyPatch, name: str, text: str, field: str, value: object) -> None:
    environ = {"GPU_IN": "exporter", name: text}
    assert getattr(Settings.load(environ), field) == value
    service = load(monkeypatch, **environ)
    if name == "GPU_IN":
        assert service.gpu_in == text.strip().lower()
    else:
        assert getattr(service, SERVICE_NAMES[field]) == value


@pytest.mark.parametrize(("name", "text"), BAD)
@pytest.mark.parametrize("reader", ["worker", "exporter"])
def test_both_refuse_with_one_line(monkeypatch: pytest.MonkeyPatch, name: str, text: str, reader: str) -> None:
    environ = {"GPU_IN": reader, name: text}
    with pytest.raises(ValueError, match=f"^{name}=.* is not allowed: it must be [^\\n]*$") as exporter:
        Settings.load(environ)
    with pytest.raises(SettingsError) as service:
        load(monkeypatch, **environ)
    assert str(service.value) == str(exporter.value)
    assert "secret" not in str(exporter.value)


def test_both_have_the_same_defaults(monkeypatch: pytest.MonkeyPatch) -> None:
    service, exporter = load(monkeypatch, GPU_IN="exporter"), Settings.load({"GPU_IN": "exporter"})
    assert {name: getattr(service, SERVICE_NAMES[name]) or "" for name in exporter._fields} == {
        name: value or "" for name, value in exporter._asdict().items()
    }


def test_an_empty_value_is_the_default() -> None:
    assert Settings.load(dict.fromkeys(("METRICS_BIND", "METRICS_TOKEN", "METRICS_LINGER", "GPU_IN", "GPU_SECONDS"), "")) == Settings.load(
        {}
    )
