"""`process_*`, `python_gc_*` and `python_info` of each process that holds a slot."""

from __future__ import annotations

from typing import TYPE_CHECKING

from monitoring.multiprocess import MergedCollector
from tests.multiprocess.programs import Programs
from tests.multiprocess.simulated_workers import samples
from tests.processes import wait_until

from .test_sampler import INSTALL, STAY, series

if TYPE_CHECKING:
    from pathlib import Path


def test_process_metrics_continue_in_the_slot(metrics_directory: Path, environment: dict[str, str]) -> None:
    view = MergedCollector(None, str(metrics_directory))
    program = (
        INSTALL
        + """
import gc
multiprocess.acquire()
for _ in range(10): gc.collect()
end = time.process_time() + 0.3
while time.process_time() < end: pass
"""
    )
    zero = (("worker", "s0"),)
    with Programs(metrics_directory, environment) as programs:
        keeper = programs.start("multiprocess.install()" + STAY)  # joins the run, takes no slot, and keeps it from being cleared
        keeper.wait_for("up")
        seconds = collections = 0.0
        for number in range(3):
            worker = programs.start(program + STAY)
            worker.wait_for("up")
            started, known = seconds, collections

            def moved(started: float = started, known: float = known) -> bool:
                shown = samples(view)
                full = shown.get(("python_gc_collections_total", (("generation", "2"), *zero)), 0.0)
                return shown.get(("process_cpu_seconds_total", zero), 0.0) >= started + 0.3 and full >= known + 10

            wait_until(moved, f"holder {number} adds its own to what the former left")
            shown = samples(view)
            seconds = shown["process_cpu_seconds_total", zero]
            collections = shown["python_gc_collections_total", (("generation", "2"), *zero)]
            assert shown["process_resident_memory_bytes", zero] > 1e6
            assert shown["process_open_fds", zero] >= 3
            assert len(series(view, "python_info")) == 1
            worker.kill()
            assert not series(view, "process_resident_memory_bytes")
            assert not series(view, "python_info")
            assert series(view, "process_cpu_seconds_total") == {zero: seconds} or number < 3
        assert collections < 3 * 30  # each holder adds what it did, not what it found


def test_process_metrics_of_a_forked_child_are_its_own(metrics_directory: Path, environment: dict[str, str]) -> None:
    view = MergedCollector(None, str(metrics_directory))
    program = (
        INSTALL
        + """
import gc
for _ in range(500): gc.collect()
multiprocess.acquire()
time.sleep(0.5)
if not os.fork():
    multiprocess.acquire()
    print("child", flush=True)
    sys.stdin.read()
"""
    )
    with Programs(metrics_directory, environment) as programs:
        worker = programs.start(program + STAY)
        worker.wait_for("child")
        at = "python_gc_collections_total"
        wait_until(lambda: len(series(view, "process_open_fds")) == 2, "both are sampled")
        found = {dict(labels)["worker"]: value for labels, value in series(view, at).items() if ("generation", "2") in labels}
        assert found["s0"] >= 500
        assert found["s1"] < 100
        cpu = series(view, "process_cpu_seconds_total")
        assert cpu[(("worker", "s1"),)] < cpu[(("worker", "s0"),)]


def test_standard_collectors_that_were_taken_out_stay_out(metrics_directory: Path, environment: dict[str, str]) -> None:
    view = MergedCollector(None, str(metrics_directory))
    program = (
        INSTALL
        + """
from prometheus_client import GC_COLLECTOR
REGISTRY.unregister(GC_COLLECTOR)
multiprocess.acquire()
"""
    )
    with Programs(metrics_directory, environment) as programs:
        programs.start(program + STAY).wait_for("up")
        wait_until(lambda: series(view, "process_open_fds"), "the process is sampled")
        assert not series(view, "python_gc_collections_total")
