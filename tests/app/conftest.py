"""One server of the app for all tests of a module: uvicorn alone, since gunicorn is tested elsewhere."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from app.integrations.vault import keyring
from tests.conftest import built_environment, data_directory, unused_port
from tests.postgres import PostgreSQL, postgresql
from tests.server_process import Served, serving

if TYPE_CHECKING:
    from collections.abc import Iterator

#: Of the server below: small enough to be exceeded in a moment.
MAX_DOCUMENT_BYTES = 16 * 1024 * 1024


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with serve_app(
        tmp_path_factory,
        SIGMALANG_MAX_DOCUMENT_BYTES=str(MAX_DOCUMENT_BYTES),
        SIGMALANG_MAX_UNFOLDED_BYTES=str(MAX_DOCUMENT_BYTES),
        SIGMALANG_MAX_DICTIONARIES="3",
        OTEL_RESOURCE_ATTRIBUTES="service.name=x,deployment.environment.name=testing,k8s.cluster.name=a%20b",
    ) as server:
        yield server


@pytest.fixture(scope="session")
def server() -> Iterator[PostgreSQL]:
    """Give the one PostgreSQL of this test process; tests make databases of their own in it."""
    with postgresql() as running:
        yield running


@contextlib.contextmanager
def serve_app(tmp_path_factory: pytest.TempPathFactory, **settings: str) -> Iterator[Served]:
    """Run the app with these settings until the block ends."""
    directory = Path(tempfile.mkdtemp(prefix="neurectomy-test-", dir="/dev/shm"))
    port = unused_port()
    key_file = tmp_path_factory.mktemp("key") / "vault.key"
    keyring.create(key_file)
    environment = {
        **built_environment(),
        "VAULT_KEY_FILE": str(key_file),
        "PROMETHEUS_MULTIPROC_DIR": str(directory),
        "DATA_DIR": data_directory(tmp_path_factory.mktemp("data")),
        **settings,
    }
    arguments = ["-m", "uvicorn", "--port", str(port), "app.main:app"]
    try:
        with serving(arguments, port, "/health/live", environment, tmp_path_factory.mktemp("log") / "log") as server:
            yield server
    finally:
        shutil.rmtree(directory, ignore_errors=True)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """Give a folder on a disk of 16 MiB."""
    path = tmp_path / "disk"
    path.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=16m,mode=0700", "tmpfs", str(path)]
    if subprocess.run(command, check=False, stderr=subprocess.DEVNULL).returncode:
        assert os.environ.get("CI") != "true", "CI has to mount a tmpfs: run it as root"
        pytest.skip("cannot mount a tmpfs here: needs root")
    yield path
    subprocess.run(["umount", "-l", str(path)], check=True)
