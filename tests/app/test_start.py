"""The start without gunicorn: what is refused, and what is imported."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from tests.conftest import ROOT

if TYPE_CHECKING:
    from pathlib import Path

START = """
import asyncio, sys
import app.main

async def start():
    async with app.main.lifespan(app.main.app):
        print(*(name for name in ("openai", "obstore", "opentelemetry.sdk", "opentelemetry.exporter") if name in sys.modules))

asyncio.run(start())
"""


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"METRICS_PATH": "metrics"}, ["METRICS_PATH='metrics'", "starts with /"]),
        ({"PROMETHEUS_MULTIPROC_DIR": "/no/such/directory"}, ["PROMETHEUS_MULTIPROC_DIR=/no/such/directory", "not found"]),
    ],
)
def test_without_gunicorn_a_bad_variable_is_one_line_too(
    change: dict[str, str], words: list[str], environment: dict[str, str], metrics_directory: Path, free_port: object
) -> None:
    assert callable(free_port)
    ended = subprocess.run(
        [sys.executable, "-m", "uvicorn", "--port", str(free_port()), "app.main:app"],
        env={**environment, "PROMETHEUS_MULTIPROC_DIR": str(metrics_directory), **change},
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert ended.returncode != 0
    assert ended.stderr.count("\n") == 1, ended.stderr
    for word in words:
        assert word in ended.stderr


def test_importing_the_settings_does_not_import_prometheus_client(environment: dict[str, str]) -> None:
    program = (
        "import sys, app.settings, monitoring.scrape.endpoint, monitoring.exporter.__main__; sys.exit('prometheus_client' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", program], env=environment, cwd=ROOT, check=True, timeout=60)


@pytest.mark.parametrize("base_url", ["", "http://127.0.0.1:9/v1"])
def test_what_is_not_used_is_not_loaded_at_the_start(environment: dict[str, str], metrics_directory: Path, base_url: str) -> None:
    # Of OpenTelemetry FastAPI itself loads the API, which does nothing.
    environment |= {"PROMETHEUS_MULTIPROC_DIR": str(metrics_directory), "RYOT_BASE_URL": base_url}
    done = subprocess.run([sys.executable, "-c", START], cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.stdout.split() == (["openai"] if base_url else []), done.stderr
