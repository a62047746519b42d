"""The API used for real, under four workers: the catalogue's families move, and the seed's queries find them in a real Prometheus."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import urllib.parse
import uuid
from typing import TYPE_CHECKING

import pytest

from app.integrations.vault import keyring
from monitoring import metrics
from tests.conftest import built_environment
from tests.gunicorn_service import Gunicorn
from tests.processes import MARKER, end_marked, wait_until
from tests.server_process import ask

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

JSON = {"Content-Type": "application/json"}
MOVED = (
    "neurectomy_system_",
    "neurectomy_http_",
    "neurectomy_ryot_",
    "neurectomy_sigmalang_",
    "neurectomy_sigmavault_",
    "neurectomy_agent_",
)
#: Needs a device: tests/gpu has one that is played.
LATER = {"neurectomy_ryot_gpu_memory_usage_bytes"}
#: The seed's queries. Windows are as the seed has them.
QUERIES = {
    "high-error endpoints": 'rate(neurectomy_http_requests_total{status=~"5.."}[5m]) > 0.01',
    "slow endpoints, the quantile": """histogram_quantile(0.95,
        sum(rate(neurectomy_http_request_duration_seconds_bucket[5m])) by (endpoint, le)
    )""",
    "token generation rate": "rate(neurectomy_ryot_tokens_generated_total[1m])",
    "average compression ratio": """rate(neurectomy_sigmalang_original_size_bytes_sum[5m]) /
        rate(neurectomy_sigmalang_compressed_size_bytes_sum[5m])""",
    "storage latency": """histogram_quantile(0.95,
        sum(rate(neurectomy_sigmavault_operation_duration_seconds_bucket[5m])) by (operation, le)
    )""",
    "circuit breaker status": "neurectomy_circuit_breaker_state > 0",
}


def use(port: int) -> None:
    """One of everything, on a connection each, so that all workers get some."""
    document = b"the same words again and again, " * 50
    compressed = ask(port, "POST", "/v1/compress", document)
    assert ask(port, "POST", "/v1/decompress", compressed.body).body == document
    model = json.loads(ask(port, "GET", "/v1/models").body)["data"][0]["id"]
    plain = {"model": model, "prompt": ["The worker", "A slot"], "max_tokens": 8}
    stream = {"model": model, "messages": [{"role": "user", "content": "What is a lease?"}], "max_tokens": 8, "stream": True}
    for path, question in (("/v1/completions", plain), ("/v1/chat/completions", stream)):
        assert ask(port, "POST", path, json.dumps(question).encode(), JSON).status == 200
    assert ask(port, "PUT", "/v1/vault/objects/a/name", document).status == 201
    assert ask(port, "GET", "/v1/vault/objects/a/name").body == document


def use_rarely(port: int) -> None:
    """What changes more than its own object."""
    taken = json.loads(ask(port, "POST", "/v1/vault/snapshots").body)["id"]
    assert ask(port, "POST", f"/v1/vault/snapshots/{taken}/restore").status == 200
    assert ask(port, "POST", "/v1/agents", b'{"id": "someone"}', JSON).status == 201
    assert ask(port, "POST", "/v1/tasks", b'{"input": 1}', JSON).status == 201
    task = json.loads(ask(port, "POST", "/v1/agents/someone/tasks").body)["id"]
    assert ask(port, "POST", f"/v1/agents/someone/tasks/{task}/report", b'{"status": "success"}', JSON).status == 204
    assert ask(port, "POST", "/v1/tasks", b'{"input": 2}', JSON).status == 201
    assert ask(port, "POST", "/v1/agents/someone/tasks").status == 200  # and is busy now


@pytest.mark.usefixtures("preloaded")
def test_what_belongs_to_the_api_moves_and_the_rest_is_declared(gunicorn: Gunicorn, vault: dict[str, str]) -> None:
    gunicorn.start(WEB_CONCURRENCY="4", **vault)
    for _ in range(8):
        use(gunicorn.port)
    use_rarely(gunicorn.port)
    wait_until(lambda: moved(gunicorn.scrape().splitlines(), "neurectomy_sigmavault_storage_bytes_total"), "the vault is measured")
    wait_until(lambda: moved(gunicorn.scrape().splitlines(), "neurectomy_agent_utilization_ratio"), "the agent is shown")
    lines = gunicorn.scrape().splitlines()
    for family in metrics.FAMILIES:
        kind = "gauge" if family.kind == "info" else family.kind
        assert f"# TYPE {family.name} {kind}" in lines
        assert f"# HELP {family.name} {family.help}" in lines
        if family.name.startswith(MOVED) and family.name not in LATER:
            sample = f"{family.name}_count" if family.kind == "histogram" else family.name
            in_progress = family.name == "neurectomy_http_requests_in_progress"
            assert values(lines, sample)
            assert moved(lines, sample) is not in_progress, (sample, values(lines, sample))


def values(lines: list[str], sample: str) -> list[float]:
    return [float(line.rpartition(" ")[2]) for line in lines if line.startswith((f"{sample}{{", f"{sample} "))]


def moved(lines: list[str], sample: str) -> bool:
    return any(values(lines, sample))


@pytest.fixture
def vault(tmp_path: Path) -> dict[str, str]:
    path = tmp_path / "vault.key"
    keyring.create(path)
    return {"VAULT_KEY_FILE": str(path)}


@pytest.fixture
def prometheus(tmp_path: Path, free_port: Callable[[], int]) -> Iterator[Callable[[dict[str, int]], Callable[[str], list[object]]]]:
    """Start a real Prometheus that scrapes ports by their instance's name; gives a way to ask it."""
    found = shutil.which("prometheus")
    if found is None:
        assert os.environ.get("CI") != "true", "CI has to run the queries: apt-get install prometheus"
        pytest.skip("no prometheus here: apt-get install --no-install-recommends prometheus")
    marker = uuid.uuid4().hex
    running: list[subprocess.Popen[bytes]] = []

    def start(ports: dict[str, int]) -> Callable[[str], list[object]]:
        port = free_port()
        targets = [{"targets": [f"127.0.0.1:{number}"], "labels": {"instance": name}} for name, number in ports.items()]
        # JSON is YAML, too.
        jobs = [{"job_name": "neurectomy", "scrape_interval": "1s", "static_configs": targets}]
        (tmp_path / "prometheus.yml").write_text(json.dumps({"scrape_configs": jobs}))
        command = [found, f"--config.file={tmp_path}/prometheus.yml", f"--storage.tsdb.path={tmp_path}/data"]
        with (tmp_path / "prometheus.log").open("wb") as log:
            environment = {**built_environment(), MARKER: marker}
            process = subprocess.Popen([*command, f"--web.listen-address=127.0.0.1:{port}"], env=environment, stdout=log, stderr=log)
        running.append(process)

        def query(text: str) -> list[object]:
            with contextlib.suppress(OSError):
                answer = json.loads(ask(port, "GET", f"/api/v1/query?query={urllib.parse.quote(text)}").body)
                assert answer["status"] == "success", answer
                return list(answer["data"]["result"])
            assert process.poll() is None, (tmp_path / "prometheus.log").read_text()
            return []

        return query

    yield start
    end_marked(marker)
    for process in running:
        process.wait()


@pytest.fixture
def broken(gunicorn: Gunicorn, tmp_path: Path, free_port: Callable[[], int]) -> Iterator[Gunicorn]:
    """A second service, whose models' server is not there."""
    port, metrics_port = free_port(), free_port()
    environment = {
        **{name: value for name, value in gunicorn.environment.items() if name != "PROMETHEUS_MULTIPROC_DIR"},
        "BIND": f"127.0.0.1:{port}",
        "METRICS_BIND": f"127.0.0.1:{metrics_port}",
        "RYOT_BASE_URL": f"http://127.0.0.1:{free_port()}/v1",
        "RUNTIME_DIRECTORY": str(tmp_path / "run"),
    }
    folder = tmp_path / "broken"
    folder.mkdir()
    (tmp_path / "run").mkdir(mode=0o700)
    made = Gunicorn(environment, folder, port, metrics_port)
    yield made
    made.end()
    print(made.log.read_text())


@pytest.mark.usefixtures("preloaded")
def test_the_seeds_queries_return_data(
    gunicorn: Gunicorn,
    broken: Gunicorn,
    vault: dict[str, str],
    prometheus: Callable[[dict[str, int]], Callable[[str], list[object]]],
) -> None:
    gunicorn.start(**vault)
    broken.start()
    query = prometheus({"service": gunicorn.metrics_port, "broken": broken.metrics_port})
    question = json.dumps({"model": "any", "prompt": "x"}).encode()
    for name, text in QUERIES.items():

        def answered(text: str = text) -> bool:
            use(gunicorn.port)
            assert ask(broken.port, "POST", "/v1/completions", question, JSON).status in {502, 503}
            return bool(query(text))

        wait_until(answered, f"the seed's query for {name} returns data")
