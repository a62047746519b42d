"""One server of the app for all tests of a module: uvicorn alone, since gunicorn is tested elsewhere."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.conftest import built_environment, unused_port
from tests.serving import Served, serving

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    directory = Path(tempfile.mkdtemp(prefix="neurectomy-test-", dir="/dev/shm"))
    port = unused_port()
    environment = {
        **built_environment(),
        "PROMETHEUS_MULTIPROC_DIR": str(directory),
        "OTEL_RESOURCE_ATTRIBUTES": "service.name=x,deployment.environment.name=testing,k8s.cluster.name=a%20b",
    }
    arguments = ["-m", "uvicorn", "--port", str(port), "app.main:app"]
    try:
        with serving(arguments, port, "/health/live", environment, tmp_path_factory.mktemp("log") / "log") as server:
            yield server
    finally:
        shutil.rmtree(directory, ignore_errors=True)
