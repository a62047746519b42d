"""The catalogue: names, types, labels, buckets and modes are what dashboards, alerts and the documentation rely on."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest
from prometheus_client import REGISTRY, Counter, Gauge, Histogram, Info

from monitoring import metrics
from tests.conftest import ROOT

if TYPE_CHECKING:
    from pathlib import Path

HTTP_SECONDS = [0.01, 0.05, 0.1, 0.5, 1.0, 2.5, 5.0, 10.0]
WORK_SECONDS = [0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 10.0]
BYTES = [10.0**power for power in range(2, 9)]
REQUEST = ("method", "endpoint")
CATALOGUE: dict[str, tuple[Any, type, tuple[str, ...], list[float] | None]] = {
    "neurectomy_http_requests": (metrics.http_requests, Counter, (*REQUEST, "status"), None),
    "neurectomy_http_request_duration_seconds": (metrics.http_request_duration_seconds, Histogram, REQUEST, HTTP_SECONDS),
    "neurectomy_http_time_to_first_byte_seconds": (metrics.http_time_to_first_byte_seconds, Histogram, REQUEST, HTTP_SECONDS),
    "neurectomy_http_request_size_bytes": (metrics.http_request_size_bytes, Histogram, REQUEST, BYTES),
    "neurectomy_http_response_size_bytes": (metrics.http_response_size_bytes, Histogram, REQUEST, BYTES),
    "neurectomy_http_requests_in_progress": (metrics.http_requests_in_progress, Gauge, ("method",), None),
    "neurectomy_sigmalang_compression_requests": (metrics.sigmalang_compression_requests, Counter, ("status",), None),
    "neurectomy_sigmalang_decompression_requests": (metrics.sigmalang_decompression_requests, Counter, ("status",), None),
    "neurectomy_sigmalang_compression_ratio": (
        metrics.sigmalang_compression_ratio,
        Histogram,
        (),
        [1, 2, 5, 10, 15, 20, 25, 30, 40, 50],
    ),
    "neurectomy_sigmalang_compression_duration_seconds": (metrics.sigmalang_compression_duration_seconds, Histogram, (), WORK_SECONDS),
    "neurectomy_sigmalang_decompression_duration_seconds": (metrics.sigmalang_decompression_duration_seconds, Histogram, (), WORK_SECONDS),
    "neurectomy_sigmalang_original_size_bytes": (metrics.sigmalang_original_size_bytes, Histogram, (), BYTES),
    "neurectomy_sigmalang_compressed_size_bytes": (metrics.sigmalang_compressed_size_bytes, Histogram, (), BYTES),
}


@pytest.mark.parametrize("name", CATALOGUE)
def test_each_family_is_what_the_catalogue_says(name: str) -> None:
    family, kind, labels, buckets = CATALOGUE[name]
    (described,) = family.describe()
    assert described.name == name
    assert type(family) is kind
    assert family._labelnames == labels
    assert described.documentation.endswith(".")
    assert REGISTRY._names_to_collectors[name] is family
    if buckets is not None:
        assert family._upper_bounds == [*buckets, float("inf")]


def test_the_requests_in_progress_are_those_of_living_workers() -> None:
    assert metrics.http_requests_in_progress._multiprocess_mode == "livesum"


def test_the_system_info() -> None:
    assert type(metrics.system_info) is Info
    assert metrics.system_info.describe()[0].name == "neurectomy_system"


def test_no_family_has_a_label_that_a_client_could_fill() -> None:
    for family in vars(metrics).values():
        for label in getattr(family, "_labelnames", ()):
            assert label in {"method", "endpoint", "status"}


def test_what_others_import_is_there_and_nothing_else_is_made_up() -> None:
    from monitoring.middleware import MetricsMiddleware
    from monitoring.tracking import track_compression, track_decompression

    assert metrics.MetricsMiddleware is MetricsMiddleware
    assert metrics.track_compression is track_compression
    assert metrics.track_decompression is track_decompression
    for name in metrics.__all__:
        assert getattr(metrics, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'track_nonsense'"):
        metrics.track_nonsense  # noqa: B018


EXPOSED = """
from monitoring import multiprocess
multiprocess.install()
from prometheus_client import generate_latest
from monitoring import metrics
multiprocess.acquire()
metrics.system_info.info({"version": "1", "environment": "e", "cluster": "c"})
print(generate_latest().decode())
"""


def test_a_family_shows_its_help_and_type_before_it_has_a_series(metrics_directory: Path, environment: dict[str, str]) -> None:
    environment["PROMETHEUS_MULTIPROC_DIR"] = str(metrics_directory)
    ran = subprocess.run([sys.executable, "-c", EXPOSED], env=environment, cwd=ROOT, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    lines = ran.stdout.splitlines()
    for name, (family, kind, _, _) in CATALOGUE.items():
        exposed = f"{name}_total" if kind is Counter else name
        assert lines.count(f"# TYPE {exposed} {kind.__name__.lower()}") == 1
        assert lines.count(f"# HELP {exposed} {family._documentation}") == 1
    assert [line for line in lines if line.startswith("neurectomy_system_info{")] == [
        'neurectomy_system_info{cluster="c",environment="e",version="1"} 1.0'
    ]
