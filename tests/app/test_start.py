from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from tests.conftest import ROOT

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"METRICS_PATH": "metrics"}, ["METRICS_PATH='metrics'", "starts with /"]),
        ({"PROMETHEUS_MULTIPROC_DIR": "/no/such/directory"}, ["PROMETHEUS_MULTIPROC_DIR=/no/such/directory", "no such directory"]),
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
    program = "import sys, app.settings, monitoring.scrape.endpoint, monitoring.exporter; sys.exit('prometheus_client' in sys.modules)"
    subprocess.run([sys.executable, "-c", program], env=environment, cwd=ROOT, check=True, timeout=60)
