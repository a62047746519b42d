"""The suite passes whatever the caller exported."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

from tests.conftest import ROOT

if TYPE_CHECKING:
    from pathlib import Path

HOSTILE = {
    "BIND": "0.0.0.0:1",
    "DATABASE_URL": "nonsense",
    "GUNICORN_CMD_ARGS": "--nonsense",
    "LISTEN_FDS": "3",
    "METRICS_BIND": "nonsense",
    "METRICS_TOKEN": "secret",
    "OTEL_RESOURCE_ATTRIBUTES": "service.version=hostile",
    "PORT": "1",
    "PROMETHEUS_MULTIPROC_DIR": "/nowhere/at/all",
    "SERVER_SOFTWARE": "gunicorn/0",
    "UVICORN_PORT": "1",
    "WEB_CONCURRENCY": "many",
}


def test_nothing_that_the_caller_exported_reaches_a_test(environment: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "test_inner.py").write_text(f"import os\n\ndef test_inner():\n    assert not set({set(HOSTILE)!r}) & set(os.environ)\n")
    command = [sys.executable, "-m", "pytest", "-q", "-n", "0", "-p", "no:cacheprovider", "--rootdir", str(ROOT), "-c", "pyproject.toml"]
    command += ["-p", "tests.conftest", str(tmp_path / "test_inner.py")]
    done = subprocess.run(command, cwd=ROOT, env=environment | HOSTILE, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
