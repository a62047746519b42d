"""Two services under one real Prometheus: one with everything, and one whose models' server is away."""

from __future__ import annotations

import contextlib
import json
import subprocess
import urllib.parse
import uuid
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from app.integrations.vault import keyring
from monitoring.prometheus import Configuration, Times
from monitoring.prometheus.files import write
from tests.conftest import built_environment
from tests.gpu.conftest import driver, library
from tests.gunicorn_service import Gunicorn
from tests.processes import MARKER, end_marked, wait_until
from tests.prometheus.executables import program
from tests.server_process import ask
from tests.tools.load.conftest import ADMIN_KEY, loader

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.gpu.conftest import Driver

__all__ = ["broken", "driver", "library", "loader", "prometheus", "whole"]

KEY = {"REQUIRE_API_KEY": "1", "ADMIN_KEY": ADMIN_KEY, "USER_WINDOW_SECONDS": "5"}


@pytest.fixture
def whole(gunicorn: Gunicorn, driver: Driver) -> Gunicorn:
    """Start a service with a vault, users, and two devices, of which a worker uses one."""
    keyring.create(gunicorn.folder / "vault.key")
    driver.tell("count", 2)
    for number in range(2):
        driver.device(number)
    devices = {"GPU_SECONDS": "0.5", "GPU_PIDS_MATCH": "1", **driver.environment}
    master = gunicorn.start(VAULT_KEY_FILE=str(gunicorn.folder / "vault.key"), **KEY, **devices)
    wait_until(lambda: gunicorn.workers(master), "a worker runs")
    driver.processes(1, {gunicorn.workers(master)[0]: 1000})
    return gunicorn


@pytest.fixture
def broken(gunicorn: Gunicorn, tmp_path: Path, free_port: Callable[[], int]) -> Iterator[Gunicorn]:
    """Start a service on the same database, whose models' server is not there, and is asked again soon."""
    for name in ("broken", "run"):
        (tmp_path / name).mkdir(mode=0o700)
    ports = free_port(), free_port()
    binds = {"BIND": f"127.0.0.1:{ports[0]}", "METRICS_BIND": f"127.0.0.1:{ports[1]}", "RUNTIME_DIRECTORY": str(tmp_path / "run")}
    environment = {name: value for name, value in gunicorn.environment.items() if name != "PROMETHEUS_MULTIPROC_DIR"} | binds
    made = Gunicorn(environment, tmp_path / "broken", *ports)
    away = f"http://127.0.0.1:{free_port()}/v1"
    try:
        made.start(RYOT_BASE_URL=away, RYOT_BREAKER="failures=2 open_seconds=0.5", **KEY)
        yield made
    finally:
        made.end()
        print(made.log.read_text() if made.log.exists() else "")


@dataclass
class Prometheus:
    """A running Prometheus, and how it is asked."""

    port: int
    began: float

    def ask(self, kind: str, **parameters: str) -> list[dict[str, Any]]:
        """Give the series of `query` or of `query_range`, each with `values`."""
        answer = json.loads(ask(self.port, "GET", f"/api/v1/{kind}?{urllib.parse.urlencode(parameters)}").body)
        assert answer["status"] == "success", (parameters, answer)
        found: list[dict[str, Any]] = answer["data"]["result"]
        return [{"values": [each["value"]], **each} if "value" in each else each for each in found]


@pytest.fixture
def prometheus(whole: Gunicorn, broken: Gunicorn, tmp_path: Path, free_port: Callable[[], int]) -> Iterator[Prometheus]:
    """Start it with the project's own configuration, scraping every second; targets of the second service have no cluster."""
    port, folder, marker = free_port(), tmp_path / "prometheus", uuid.uuid4().hex
    fast = replace(Times(), scrape=1, scrape_timeout=1, evaluation=1)
    local = [f"127.0.0.1:{number}" for number in (port, whole.metrics_port, broken.metrics_port)]
    configuration = Configuration(fast, targets=(local[1],), cluster="here", prometheus=local[0], alertmanagers=())
    write(configuration, folder)
    written = yaml.safe_load((folder / "prometheus.yml").read_text())
    written["scrape_configs"][0]["static_configs"].append({"targets": [local[2]]})
    (folder / "prometheus.yml").write_text(yaml.safe_dump(written))
    command = [program("prometheus"), f"--config.file={folder}/prometheus.yml", f"--storage.tsdb.path={folder}/data"]
    with (folder / "log").open("wb") as log:
        environment = {**built_environment(), MARKER: marker}
        process = subprocess.Popen([*command, f"--web.listen-address={local[0]}"], env=environment, stdout=log, stderr=log)
    made = Prometheus(port, 0.0)

    def scraped() -> bool:
        assert process.poll() is None, (folder / "log").read_text()
        with contextlib.suppress(OSError, ValueError):  # it does not listen, or is not ready
            found = made.ask("query", query='timestamp(up{job="neurectomy"} == 1)')
            made.began = min((float(each["values"][0][1]) for each in found), default=0.0)
            return len(found) == 2
        return False

    try:
        wait_until(scraped, "Prometheus scrapes both services")
        yield made
    finally:
        end_marked(marker)
        process.wait()
        print((folder / "log").read_text())
