from __future__ import annotations

import asyncio
import socket
from typing import TYPE_CHECKING, Any

import pytest

from monitoring.addresses import Address
from monitoring.scrape.endpoint import MetricsEndpoint, listening_addresses
from tests.server_process import Answer, serving

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


def test_listening_sockets_are_seen() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening, socket.create_connection(listening.getsockname()) as client:
        seen = listening_addresses()
        assert Address("127.0.0.1", listening.getsockname()[1]) in seen
        assert Address("127.0.0.1", client.getsockname()[1]) not in seen


@pytest.mark.parametrize("server", [("0.0.0.0", 80), ("10.1.2.3", 80), ("/run/app.sock", None), None])
def test_under_another_server_the_connection_decides(server: object, monkeypatch: pytest.MonkeyPatch) -> None:
    class MissingError(Exception):
        pass

    async def never(*_: Any) -> None:
        raise AssertionError

    monkeypatch.delenv("SERVER_SOFTWARE", raising=False)
    endpoint = MetricsEndpoint(bind="127.0.0.1:8000", token=None, missing=MissingError)
    scope = {"type": "http", "method": "GET", "headers": [], "server": server}
    with pytest.raises(MissingError):
        asyncio.run(endpoint(scope, never, never))


def check(answer: Answer) -> None:
    assert answer.status == 200
    assert answer.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    assert b"\nmultiproc_workers 1.0\n" in answer.body


@pytest.mark.parametrize("server", ["uvicorn", "gunicorn"])
def test_served_on_loopback_with_and_without_slash(
    server: str, tmp_path: Path, metrics_directory: Path, environment: dict[str, str], free_port: Callable[[], int]
) -> None:
    port = free_port()
    environment |= {"PROMETHEUS_MULTIPROC_DIR": str(metrics_directory)}
    with serving(arguments(server, "127.0.0.1", port, environment), port, "/health/live", environment, tmp_path / "log") as served:
        for path in ("/metrics", "/metrics/"):
            check(served.ask("GET", path))
        before = served.ask("HEAD", "/metrics")
        assert (before.status, before.body) == (200, b"")
        assert served.ask("GET", "/metrics?name[]=multiproc_workers").body.splitlines()[-1] == b"multiproc_workers 1.0"
        assert served.ask("GET", "/metrics", headers={"Accept": "application/openmetrics-text"}).body.endswith(b"# EOF\n")
        assert served.ask("POST", "/metrics").status == 405


@pytest.mark.parametrize("variable", ["BIND", "PORT", "GUNICORN_CMD_ARGS"])
def test_not_served_to_the_world_without_a_token(
    variable: str, tmp_path: Path, metrics_directory: Path, environment: dict[str, str], free_port: Callable[[], int]
) -> None:
    port = free_port()
    environment |= {"PROMETHEUS_MULTIPROC_DIR": str(metrics_directory)}
    command = arguments("gunicorn", "0.0.0.0", port, environment)
    if variable != "BIND":
        del environment["BIND"]
        environment[variable] = {"PORT": str(port), "GUNICORN_CMD_ARGS": f"--bind 0.0.0.0:{port}"}[variable]
    with serving(command, port, "/health/live", environment, tmp_path / "log") as served:
        answer = served.ask("GET", "/metrics")
        assert answer.status == 404
        assert answer.body == served.ask("GET", "/nowhere").body
    environment["METRICS_TOKEN"] = "s3cret"
    with serving(command, port, "/health/live", environment, tmp_path / "log") as served:
        assert served.ask("GET", "/metrics").status == 401
        check(served.ask("GET", "/metrics", headers={"Authorization": "Bearer s3cret"}))


@pytest.mark.parametrize(("path", "statuses"), [("", {"/metrics": 404, "/": 404}), ("/internal/m", {"/internal/m": 200, "/metrics": 404})])
def test_its_path_is_configured(
    path: str,
    statuses: dict[str, int],
    tmp_path: Path,
    metrics_directory: Path,
    environment: dict[str, str],
    free_port: Callable[[], int],
) -> None:
    port = free_port()
    environment |= {"PROMETHEUS_MULTIPROC_DIR": str(metrics_directory), "METRICS_PATH": path}
    with serving(arguments("uvicorn", "127.0.0.1", port, environment), port, "/health/live", environment, tmp_path / "log") as served:
        assert {asked: served.ask("GET", asked).status for asked in statuses} == statuses


def arguments(server: str, host: str, port: int, environment: dict[str, str]) -> list[str]:
    if server == "uvicorn":
        return ["-m", "uvicorn", "--host", host, "--port", str(port), "app.main:app"]
    environment |= {"BIND": f"{host}:{port}", "METRICS_BIND": "", "WEB_CONCURRENCY": "1"}
    return ["-m", "gunicorn", "-c", "gunicorn_conf.py", "app.main:app"]
