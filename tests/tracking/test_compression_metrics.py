"""What a compression moves is moved once, whatever happens to the files under it, and even between two of its writes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from monitoring.multiprocess import MergedCollector
from tests.multiprocess.simulated_workers import samples
from tests.multiprocess.test_install import execute

if TYPE_CHECKING:
    from pathlib import Path

BEGIN = """
multiprocess.install()
from monitoring import metrics
from monitoring.tracking.compression_metrics import Compressions
done = Compressions()
def count(): done.count(0.02, 3000, 1000)
count(); count()
direct = lambda: done._doubles is not None and len(done._doubles) > 0
"""

CHANGES = {
    "nothing": "",
    "growth": "made = [metrics.ryot_batch_size.labels(str(n)) for n in range(200)]",
    "fork": """
if (child := os.fork()) == 0:
    count(); count()
    assert direct()
    os._exit(0)
assert os.waitpid(child, 0)[1] == 0
""",
    "rewriting": """
import glob
(path,) = glob.glob(os.environ["PROMETHEUS_MULTIPROC_DIR"] + "/**/histogram_s0.db", recursive=True)
made = [metrics.ryot_batch_size.labels(str(n)) for n in range(200)]
before = os.stat(path).st_ino
for n in range(200): metrics.ryot_batch_size.remove(str(n))
more = [metrics.ryot_batch_size.labels("x" + str(n)) for n in range(2000)]
assert os.stat(path).st_ino != before, "the file was not rewritten: the test proves nothing"
""",
}


def moved(directory: Path, expected: float) -> None:
    found = samples(MergedCollector(None, str(directory)))
    assert found["neurectomy_sigmalang_compression_requests_total", (("status", "success"),)] == expected
    for family, amount, bucket, below in (
        ("compression_duration_seconds", 0.02, "0.05", "0.01"),
        ("original_size_bytes", 3000, "10000.0", "1000.0"),
        ("compressed_size_bytes", 1000, "1000.0", "100.0"),
        ("compression_ratio", 3, "5.0", "2.0"),
    ):
        name = f"neurectomy_sigmalang_{family}"
        assert found[f"{name}_count", ()] == expected
        assert found[f"{name}_sum", ()] == pytest.approx(amount * expected)
        assert found[f"{name}_bucket", (("le", bucket),)] == expected
        assert found[f"{name}_bucket", (("le", below),)] == 0


@pytest.mark.parametrize("change", CHANGES)
def test_counted_once_and_directly_again(change: str, metrics_directory: Path, environment: dict[str, str]) -> None:
    execute(f"{BEGIN}{CHANGES[change]}\ncount(); assert direct()\ncount()", metrics_directory, environment)
    moved(metrics_directory, 6 if change == "fork" else 4)


def test_a_file_that_ends_between_two_writes(metrics_directory: Path, environment: dict[str, str]) -> None:
    program = """
class Ending:
    def __init__(self, view, writes): self.view, self.left = view, writes
    def __getitem__(self, at): return self.view[at]
    def __setitem__(self, at, value):
        if not self.left: raise ValueError("operation forbidden on released memoryview object")
        self.left -= 1
        self.view[at] = value
for writes in range(8):
    done._doubles = Ending(done._doubles, writes)
    count()
    assert isinstance(done._doubles, memoryview)
done._counts = Ending(done._counts, 0)
count()
"""
    execute(BEGIN + program, metrics_directory, environment)
    moved(metrics_directory, 11)


CAPPED = (
    BEGIN.replace("install()", "install(max_series=1)")
    + """
from monitoring.multiprocess import MergedCollector
requests = metrics.sigmalang_compression_requests
def counted():
    families = MergedCollector(None, os.environ["PROMETHEUS_MULTIPROC_DIR"]).collect()
    found = [sample for family in families for sample in family.samples]
    return {sample.labels["status"]: sample.value for sample in found if sample.name == "neurectomy_sigmalang_compression_requests_total"}
assert direct() and counted() == {"success": 2}
"""
)


def test_past_the_cap_and_after_room_is_made_as_the_stock_child(metrics_directory: Path, environment: dict[str, str]) -> None:
    program = """
requests.remove("success")
requests.labels("error").inc()
count(); count()
assert not direct() and counted() == {"error": 1, "_other": 2}, counted()
requests.remove("error")
count(); count()
assert direct() and counted() == {"_other": 2, "success": 2}, counted()
"""
    execute(CAPPED + program, metrics_directory, environment)


def test_after_clear_the_cap_is_asked_again(metrics_directory: Path, environment: dict[str, str]) -> None:
    program = """
requests.clear()
assert counted() == {}
requests.labels("error").inc()
count(); count()
assert counted() == {"error": 1, "_other": 2}, counted()
requests.clear()
count(); count()
assert direct() and counted() == {"success": 2}, counted()
"""
    execute(CAPPED + program, metrics_directory, environment)


def test_a_late_install_takes_over(metrics_directory: Path, environment: dict[str, str]) -> None:
    execute(
        BEGIN.replace("multiprocess.install()", "", 1) + "multiprocess.install()\ncount(); assert direct()", metrics_directory, environment
    )
    found = samples(MergedCollector(None, str(metrics_directory)))
    assert found["neurectomy_sigmalang_compression_ratio_count", ()] >= 1


def test_other_values_are_moved_through_their_own_methods(environment: dict[str, str], metrics_directory: Path) -> None:
    check = """
from prometheus_client import REGISTRY
assert not direct()
count()
assert REGISTRY.get_sample_value("neurectomy_sigmalang_compression_requests_total", {"status": "success"}) == 3
assert REGISTRY.get_sample_value("neurectomy_sigmalang_original_size_bytes_sum") == 9000
metrics.sigmalang_compression_requests.clear()
count()
assert REGISTRY.get_sample_value("neurectomy_sigmalang_compression_requests_total", {"status": "success"}) == 1
"""
    program = BEGIN.replace("multiprocess.install()", "del os.environ['PROMETHEUS_MULTIPROC_DIR']")
    execute(program + check, metrics_directory, environment)
