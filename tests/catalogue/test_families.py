"""The catalogue: names, types, labels, buckets and modes are what dashboards, alerts and the documentation rely on."""

from __future__ import annotations

import importlib
import pkgutil
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
from prometheus_client import REGISTRY, Counter, Gauge, Histogram, Info

from monitoring import catalogue, metrics
from monitoring.catalogue.reference_page import table
from tests.conftest import ROOT

if TYPE_CHECKING:
    from pathlib import Path

HTTP_SECONDS = (0.01, 0.05, 0.1, 0.5, 1, 2.5, 5, 10)
WORK_SECONDS = (0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1, 5, 10)
RYOT_SECONDS = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 20, 30, 60, 120)
BYTES = tuple(10**power for power in range(2, 9))
ANY = None
REQUEST = ("method", "endpoint")
DEVICE = ("gpu", "uuid")
#: What the seed promised to its users, and with which buckets where it or the catalogue says so.
SEED: dict[str, tuple[str, tuple[str, ...], tuple[float, ...] | None]] = {
    "http_requests_total": ("counter", (*REQUEST, "status"), ()),
    "ryot_requests_total": ("counter", ("model", "status"), ()),
    "ryot_tokens_generated_total": ("counter", ("model",), ()),
    "sigmalang_compression_requests_total": ("counter", ("status",), ()),
    "sigmavault_operations_total": ("counter", ("operation", "status"), ()),
    "circuit_breaker_failures_total": ("counter", ("service",), ()),
    "tokens_generated_total": ("counter", ("model",), ()),
    "http_request_duration_seconds": ("histogram", REQUEST, HTTP_SECONDS),
    "http_request_size_bytes": ("histogram", REQUEST, BYTES),
    "http_response_size_bytes": ("histogram", REQUEST, BYTES),
    "ryot_request_duration_seconds": ("histogram", ("model",), RYOT_SECONDS),
    "ryot_batch_size": ("histogram", ("model",), ANY),
    "sigmalang_compression_ratio": ("histogram", (), (1, 2, 5, 10, 15, 20, 25, 30, 40, 50)),
    "sigmalang_compression_duration_seconds": ("histogram", (), WORK_SECONDS),
    "sigmavault_operation_duration_seconds": ("histogram", ("operation",), WORK_SECONDS),
    "sigmavault_encryption_duration_seconds": ("histogram", ("operation",), ANY),
    "requests_per_user": ("histogram", (), ANY),
    "circuit_breaker_state": ("gauge", ("service",), ()),
    "ryot_model_loading_duration_seconds": ("gauge", ("model",), ()),
    "ryot_gpu_memory_usage_bytes": ("gauge", DEVICE, ()),
    "active_users": ("gauge", (), ()),
    "api_keys_active": ("gauge", (), ()),
    "sigmavault_storage_bytes_total": ("gauge", (), ()),
    "sigmavault_objects_total": ("gauge", (), ()),
    "cost_per_request": ("gauge", ("endpoint",), ()),
}
#: What the seed's queries use, and what the project adds.
ADDED: dict[str, tuple[str, tuple[str, ...], tuple[float, ...] | None]] = {
    "system_info": ("info", ("version", "environment", "cluster"), ()),
    "http_time_to_first_byte_seconds": ("histogram", REQUEST, HTTP_SECONDS),
    "http_requests_in_progress": ("gauge", ("method",), ()),
    "ryot_time_to_first_token_seconds": ("histogram", ("model",), ANY),
    "ryot_time_per_output_token_seconds": ("histogram", ("model",), ANY),
    "ryot_prompt_tokens_total": ("counter", ("model",), ()),
    "gpu_utilization_ratio": ("gauge", DEVICE, ()),
    "gpu_temperature_celsius": ("gauge", DEVICE, ()),
    "gpu_power_watts": ("gauge", DEVICE, ()),
    "gpu_memory_total_bytes": ("gauge", DEVICE, ()),
    "gpu_problems": ("gauge", ("reason",), ()),
    "gpu_process_memory_bytes": ("gauge", (*DEVICE, "worker"), ()),
    "sigmalang_decompression_requests_total": ("counter", ("status",), ()),
    "sigmalang_decompression_duration_seconds": ("histogram", (), WORK_SECONDS),
    "sigmalang_original_size_bytes": ("histogram", (), BYTES),
    "sigmalang_compressed_size_bytes": ("histogram", (), BYTES),
    "sigmavault_snapshots_total": ("counter", ("operation", "status"), ()),
    "sigmavault_snapshot_duration_seconds": ("histogram", ("operation", "status"), ANY),
    "circuit_breaker_calls_total": ("counter", ("service", "result"), ()),
    "circuit_breaker_rebuilt_total": ("counter", ("service",), ()),
    "circuit_breaker_transitions_total": ("counter", ("service", "from_state", "to_state"), ()),
    "users_unnoted_requests_total": ("counter", (), ()),
    "cost_dollars_total": ("counter", ("endpoint", "model"), ()),
    "agent_healthy": ("gauge", ("agent",), ()),
    "agent_utilization_ratio": ("gauge", ("agent",), ()),
    "agent_last_heartbeat_timestamp_seconds": ("gauge", ("agent",), ()),
    "agent_tasks_total": ("counter", ("agent", "status"), ()),
    "agent_task_duration_seconds": ("histogram", ("agent", "status"), ANY),
}
CATALOGUE = {f"neurectomy_{name}": what for name, what in {**SEED, **ADDED}.items()}
FAMILIES = {family.name: family for family in metrics.FAMILIES}
#: The mode of each gauge that is not written by one elected process.
MODES = {
    "neurectomy_http_requests_in_progress": "livesum",
    "neurectomy_ryot_model_loading_duration_seconds": "livemax",
    "neurectomy_gpu_process_memory_bytes": "livesum",
}


def test_nothing_is_missing_and_nothing_is_made_up() -> None:
    assert sorted(FAMILIES) == sorted(CATALOGUE)
    assert len(FAMILIES) == len(metrics.FAMILIES)


@pytest.mark.parametrize("name", CATALOGUE)
def test_each_family_is_what_the_catalogue_says(name: str) -> None:
    kind, labels, buckets = CATALOGUE[name]
    family = FAMILIES[name]
    assert type(family.metric) is {"counter": Counter, "gauge": Gauge, "histogram": Histogram, "info": Info}[kind]
    assert family.kind == kind
    assert family.labels == labels
    assert family.metric._labelnames == (() if kind == "info" else labels)
    (described,) = family.metric.describe()
    assert described.name + {"counter": "_total", "info": "_info"}.get(kind, "") == name
    assert described.documentation == family.help
    assert described.documentation.endswith(".")
    assert REGISTRY._names_to_collectors[described.name] is family.metric
    assert getattr(metrics, described.name.removeprefix("neurectomy_") if kind != "info" else "system_info") is family.metric
    if isinstance(family.metric, Histogram):
        assert tuple(family.metric._kwargs["buckets"]) == family.buckets
        if buckets is not ANY:
            assert family.buckets == buckets
        assert list(family.buckets) == sorted(set(family.buckets))
    if isinstance(family.metric, Gauge):
        assert family.metric._multiprocess_mode == MODES.get(name, "livemostrecent")


def test_no_family_has_a_label_that_a_client_could_fill() -> None:
    known = {"method", "endpoint", "status", "model", "operation", "service", "result", "from_state", "to_state", "agent", "reason"}
    for family in metrics.FAMILIES:
        assert set(family.labels) <= known | {*DEVICE, "worker", "version", "environment", "cluster"}


def test_the_documentations_table_is_the_declarations() -> None:
    assert (ROOT / "docs" / "metrics.md").read_text() == table()


def test_public_names_are_those_of_the_catalogue_and_the_tracking() -> None:
    from monitoring.http import middleware
    from monitoring.tracking import decorators

    tracking = ["track_ryot_request", "track_compression", "track_decompression", "track_storage_operation", "increment_tokens_generated"]
    assert metrics.MetricsMiddleware is middleware.MetricsMiddleware
    for name in tracking:
        assert getattr(metrics, name) is getattr(decorators, name)
    modules = [importlib.import_module(f"monitoring.catalogue.{each.name}") for each in pkgutil.iter_modules(catalogue.__path__)]
    declared = {id(family.metric) for family in metrics.FAMILIES}
    families = {name: value for module in modules for name, value in vars(module).items() if id(value) in declared}
    assert len(families) == len(declared)
    assert sorted(metrics.__all__) == sorted([*families, *tracking, "FAMILIES", "Family", "MetricsMiddleware", "Rule"])
    for name, family in families.items():
        assert getattr(metrics, name) is family
    with pytest.raises(AttributeError, match="no attribute 'track_nonsense'"):
        metrics.track_nonsense  # noqa: B018


EXPOSED = """
from monitoring import multiprocess
multiprocess.install()
from prometheus_client import generate_latest
from monitoring import catalogue, metrics
multiprocess.acquire()
metrics.system_info.info({"version": "1", "environment": "e", "cluster": "c"})
print(generate_latest().decode())
"""


def test_a_family_shows_its_help_and_type_before_it_has_a_series(metrics_directory: Path, environment: dict[str, str]) -> None:
    environment["PROMETHEUS_MULTIPROC_DIR"] = str(metrics_directory)
    ran = subprocess.run([sys.executable, "-c", EXPOSED], env=environment, cwd=ROOT, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    lines = ran.stdout.splitlines()
    for family in metrics.FAMILIES:
        kind = {"info": "gauge"}.get(family.kind, family.kind)
        assert lines.count(f"# TYPE {family.name} {kind}") == 1
        assert lines.count(f"# HELP {family.name} {family.help}") == 1
    assert [line for line in lines if line.startswith("neurectomy_system_info{")] == [
        'neurectomy_system_info{cluster="c",environment="e",version="1"} 1.0'
    ]
