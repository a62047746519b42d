"""What a finished request moves is moved once, whatever happens to the files under it, and even between two of its writes."""

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
from monitoring.http.request_metrics import Cells
cells = Cells("/x", "GET", 200)
def finish(): cells.finish(0.02, 0.7, 5, 2000)
finish()
direct = lambda: cells._doubles is not None and len(cells._doubles) > 0
"""

CHANGES = {
    "nothing": "",
    # The file is mapped once more, and later series stand beyond what the first mapping shows.
    "growth": "made = [metrics.http_response_size_bytes.labels('GET', str(n)) for n in range(200)]",
    "fork": """
if (child := os.fork()) == 0:
    finish(); finish()
    assert direct()
    os._exit(0)
assert os.waitpid(child, 0)[1] == 0
""",
    "rewriting": """
import glob
(path,) = glob.glob(os.environ["PROMETHEUS_MULTIPROC_DIR"] + "/**/histogram_s0.db", recursive=True)
made = [metrics.http_response_size_bytes.labels("GET", str(n)) for n in range(200)]
before = os.stat(path).st_ino
for n in range(200): metrics.http_response_size_bytes.remove("GET", str(n))
more = [metrics.http_response_size_bytes.labels("POST", str(n)) for n in range(2000)]
assert os.stat(path).st_ino != before, "the file was not rewritten: the test proves nothing"
""",
}


def moved(directory: Path, expected: float) -> None:
    found = samples(MergedCollector(None, str(directory)))
    where = (("endpoint", "/x"), ("method", "GET"))
    assert found["neurectomy_http_requests_total", (*where, ("status", "200"))] == expected
    for family, amount, bucket, below in (
        ("time_to_first_byte_seconds", 0.02, "0.05", "0.01"),
        ("request_duration_seconds", 0.7, "1.0", "0.5"),
        ("request_size_bytes", 5, "100.0", None),
        ("response_size_bytes", 2000, "10000.0", "1000.0"),
    ):
        name = f"neurectomy_http_{family}"
        assert found[f"{name}_count", where] == expected
        assert found[f"{name}_sum", where] == pytest.approx(amount * expected)
        assert found[f"{name}_bucket", tuple(sorted((*where, ("le", bucket))))] == expected
        if below:
            assert found[f"{name}_bucket", tuple(sorted((*where, ("le", below))))] == 0


@pytest.mark.parametrize("change", CHANGES)
def test_moved_once_and_directly_again(change: str, metrics_directory: Path, environment: dict[str, str]) -> None:
    execute(f"{BEGIN}{CHANGES[change]}\nfinish(); assert direct()\nfinish()", metrics_directory, environment)
    moved(metrics_directory, 5 if change == "fork" else 3)


def test_a_file_that_ends_between_two_writes(metrics_directory: Path, environment: dict[str, str]) -> None:
    """As where another thread makes the store rewrite the file just then."""
    program = """
class Ending:
    def __init__(self, view, writes): self.view, self.left = view, writes
    def __getitem__(self, at): return self.view[at]
    def __setitem__(self, at, value):
        if not self.left: raise ValueError("operation forbidden on released memoryview object")
        self.left -= 1
        self.view[at] = value
for writes in range(8):
    cells._doubles = Ending(cells._doubles, writes)
    finish()
    assert isinstance(cells._doubles, memoryview)
cells._counts = Ending(cells._counts, 0)
finish()
"""
    execute(BEGIN + program, metrics_directory, environment)
    moved(metrics_directory, 10)


def test_other_values_are_moved_through_their_own_methods(environment: dict[str, str], metrics_directory: Path) -> None:
    program = BEGIN.replace("multiprocess.install()", "del os.environ['PROMETHEUS_MULTIPROC_DIR']")
    check = """
from prometheus_client import REGISTRY
assert not direct()
finish()
assert REGISTRY.get_sample_value("neurectomy_http_requests_total", {"method": "GET", "endpoint": "/x", "status": "200"}) == 2
assert REGISTRY.get_sample_value("neurectomy_http_response_size_bytes_sum", {"method": "GET", "endpoint": "/x"}) == 4000
"""
    execute(program + check, metrics_directory, environment)


def test_values_on_both_sides_of_a_growth_are_written_directly(metrics_directory: Path, environment: dict[str, str]) -> None:
    program = """
many = [Cells(f"/{n}", "GET", 200) for n in range(80)]
views = [{id(value._view) for child in made._histograms for value in (child._sum, *child._buckets)} for made in many]
assert max(map(len, views)) > 1, "no cells' values lie in two mappings: the test proves nothing"
from monitoring.multiprocess.worker.value import Value
def refuse(*_): raise AssertionError("not written directly")
Value.inc = refuse
for made in many: made.finish(0.02, 0.7, 5, 2000)
"""
    execute(BEGIN + program, metrics_directory, environment)


def test_requests_in_progress_across_a_fork(metrics_directory: Path, environment: dict[str, str]) -> None:
    """A request that is under way while its process forks ends as it began, and the child counts its own."""
    program = """
from monitoring.metrics import MetricsMiddleware
from monitoring.multiprocess.worker.value import Value

refused = []
inc = Value.inc
def noted(value, amount):
    if "in_progress" in value.key:
        refused.append(amount)
    inc(value, amount)
Value.inc = noted
during = lambda: None

def in_progress():
    return sum(child._value.get() for child in metrics.http_requests_in_progress._metrics.values())

async def app(scope, receive, send):
    assert in_progress() == 1
    during()
    assert in_progress() == 1
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"x"})

async def ignore(message=None): pass

counting = MetricsMiddleware(app)

def request():
    scope = {"type": "http", "method": "GET", "path": "/x", "headers": [], "asgi": {"spec_version": "2.3"}}
    try:
        counting(scope, ignore, ignore).send(None)
    except StopIteration:
        pass
    assert in_progress() == 0

def fork():
    global during
    during = lambda: None
    if (child := os.fork()) == 0:
        request(); request()
        assert refused == [1.0, 1.0], refused  # asked once, and again by the store that had found a file
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0

request()
refused.clear()
during = fork
request()
assert not refused, refused
"""
    execute(BEGIN + program, metrics_directory, environment)
