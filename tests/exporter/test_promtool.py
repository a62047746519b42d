"""What the exporter serves passes `promtool check metrics`: Prometheus's own parser and its rules for names and help.

Debian's package `prometheus` has promtool.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from typing import TYPE_CHECKING

import pytest
from prometheus_client.parser import text_string_to_metric_families as parse

from tests.multiprocess.programs import Programs
from tests.processes import wait_until
from tests.server_process import Served, serving

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

#: Every word that promtool has to say. Both gauges keep the names that the seed's users query; nothing else is excused.
ALLOWED = {
    'neurectomy_sigmavault_objects_total non-counter metrics should not have "_total" suffix',
    'neurectomy_sigmavault_storage_bytes_total non-counter metrics should not have "_total" suffix',
}

#: The library's own families.
KIT = {
    "multiproc_bad_files",
    "multiproc_bytes",
    "multiproc_dropped_observations",
    "multiproc_elected",
    "multiproc_files",
    "multiproc_free_bytes",
    "multiproc_mixed_samples",
    "multiproc_refused_series",
    "multiproc_scrape_duration_seconds",
    "multiproc_scrapes",
    "multiproc_workers",
    "multiproc_workers_started",
}

#: What comes with the first samples of collectors and functions.
SAMPLED = {"custom_queue_length", "custom_threads", "process_open_fds", "python_gc_collections", "python_info", "sampled_queue_length"}

#: Two workers that give every family a sample, of every type and gauge mode, with what is hard to escape in labels and help.
WORKER = r"""
multiprocess.install(sample_seconds=0.1, max_series=3)
from prometheus_client import REGISTRY, Counter, Enum, Gauge, Histogram, Info, Summary
from prometheus_client.core import GaugeMetricFamily
from monitoring import metrics
from monitoring.multiprocess import per_worker
hard = "a\\b\"c\nd\u00fc\u4e16{},= "
class Queue:
    def collect(self):
        yield GaugeMetricFamily("custom_queue_length", "Read by one " + hard, value=7)
class Threads:
    def collect(self):
        yield GaugeMetricFamily("custom_threads", "Read by each.", value=threading.active_count())
REGISTRY.register(Queue())
REGISTRY.register(per_worker(Threads()))
families = [each for each in vars(metrics).values() if hasattr(each, "_labelnames")]
for name in ("objects", "storage_bytes"):
    full = f"neurectomy_sigmavault_{name}_total"
    if full not in REGISTRY._names_to_collectors:
        families.append(Gauge(full, "As the seed named it.", multiprocess_mode="mostrecent"))
hardly = "Help " + hard, ["name"]
families += [Counter("tasks", *hardly), Histogram("task_seconds", *hardly), Summary("payload_bytes", *hardly), Info("build", *hardly)]
for mode in ("all", "liveall", "min", "livemin", "max", "livemax", "sum", "livesum", "mostrecent", "livemostrecent"):
    families.append(Gauge(f"g_{mode}_mode", "Help.", ["name"], multiprocess_mode=mode))
Enum("phase", "Help.", states=["one", hard]).state(hard)
Gauge("sampled_queue_length", "Help.").set_function(lambda: 3)
for family in families:
    each = family.labels(*[hard] * len(family._labelnames)) if family._labelnames else family
    if hasattr(each, "observe"): each.observe(1.5)
    elif hasattr(each, "info"): each.info({"version": hard})
    else: each.inc(float("inf") if family._name == "g_livesum_mode" else 1)
for number in range(9): families[-1].labels(str(number)).set(1)
print("up", flush=True); sys.stdin.read()
"""


def promtool() -> str:
    """Where it is; a machine of CI has to have it."""
    found = shutil.which("promtool")
    if found is None:
        assert os.environ.get("CI") != "true", "CI has to check what is served with promtool: apt-get install prometheus"
        pytest.skip("no promtool here: apt-get install --no-install-recommends prometheus")
    return found


def complaints(text: bytes) -> set[str]:
    """Every line that promtool says about an exposition."""
    checked = subprocess.run([promtool(), "check", "metrics"], input=text, capture_output=True, timeout=60, check=False)
    said = set((checked.stdout + checked.stderr).decode().splitlines())
    assert bool(checked.returncode) == bool(said), f"exit code {checked.returncode} with {said}"
    return said


def declared(served: Served) -> set[str]:
    """The name of every family that is served."""
    return {family.name for family in parse(served.ask("GET", "/metrics").body.decode())}


def sampled(served: Served) -> set[str]:
    """The name of every family that is served with a sample."""
    return {family.name for family in parse(served.ask("GET", "/metrics").body.decode()) if family.samples}


def test_promtool_complains_of_two_names_and_of_nothing_else(
    metrics_directory: Path, environment: dict[str, str], free_port: Callable[[], int], tmp_path: Path
) -> None:
    port = free_port()
    with Programs(metrics_directory, environment) as programs:
        for _ in range(2):
            programs.start(WORKER).wait_for("up")
        alone = {**programs.environment, "METRICS_BIND": f"127.0.0.1:{port}"}
        with serving(["-m", "monitoring.exporter"], port, "/healthz", alone, tmp_path / "log") as served:
            wait_until(lambda: sampled(served) >= KIT | SAMPLED, "every family has a sample: one without would not have been checked")
            assert sampled(served) == declared(served)
            assert complaints(served.ask("GET", "/metrics").body) == ALLOWED
