"""A lock file, or the whole directory, taken away under living processes: noticed, said, and lived with."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from monitoring.multiprocess import MergedCollector, paths
from monitoring.multiprocess.storage import slot_lease
from tests.multiprocess.programs import Program, Programs
from tests.multiprocess.simulated_workers import own, samples
from tests.processes import take_away, wait_until

if TYPE_CHECKING:
    from pathlib import Path

# Each line that it is told is a statement; what it has done is printed.
WORKER = """
multiprocess.install(sample_seconds={seconds})
from prometheus_client import Counter, Enum, Gauge, Histogram
from monitoring.multiprocess.worker import lease_recovery
from monitoring.multiprocess.worker.election import Election
from monitoring.multiprocess.worker.slot_store import store
c, h = Counter("c", "help", ["l"]), Histogram("h", "help")
child = c.labels("x")
modes = ("livesum", "liveall", "livemax", "livemostrecent", "sum", "max", "min", "mostrecent", "all")
gauges = {{mode: Gauge("g_" + mode, "help", multiprocess_mode=mode) for mode in modes}}
e = Enum("e", "help", states=["a", "b"])
election = Election("warden")
print("ready", flush=True)
for line in sys.stdin:
    exec(line)
    print("did", line.strip(), store.slot, flush=True)
"""
COUNT = "child.inc(5); h.observe(1); e.state('b'); [gauge.inc(3) for gauge in gauges.values()]"
MORE = "child.inc(); [gauge.inc() for gauge in gauges.values()]"


def worker(programs: Programs, slot: int, seconds: float = 3600.0) -> Program:
    program = programs.start(WORKER.format(seconds=seconds))
    program.wait_for("ready")
    do(program, "multiprocess.acquire()", slot)
    return program


def do(program: Program, line: str, slot: int) -> None:
    done = len(program.lines)
    program.tell(line)
    wait_until(lambda: f"did {line} {slot}" in program.lines[done:] or program.process.poll() is not None, f"slot {slot} has done {line!r}")
    assert program.process.poll() is None, program.lines


def shown(directory: Path) -> dict[str, float]:
    """The values of the test's own families by name."""
    return {name: value for (name, _), value in own(MergedCollector(None, str(directory))).items() if name[:2] in ("c_", "h_", "g_", "e")}


@pytest.fixture
def directory(metrics_directory: Path) -> Path:
    path = metrics_directory / "metrics"
    path.mkdir(mode=0o700)
    return path


def test_a_lock_file_that_a_cleaner_took_is_noticed_by_itself(directory: Path, environment: dict[str, str]) -> None:
    with Programs(directory, environment) as programs:
        first = worker(programs, 0, seconds=0.05)
        do(first, COUNT, 0)
        do(first, "assert election.try_hold()", 0)
        before = shown(directory)
        (directory / paths.LOCK).unlink()
        wait_until(lambda: slot_lease.living_slots(directory) == ({0}, {0}), "its slot is held in the new lock file")
        do(first, "assert election.try_hold()", 0)
        assert any("lease.lock: removed or replaced while slot 0 was held" in line for line in first.lines)
        assert shown(directory) == before, "nothing is lost or counted twice"
        do(first, MORE, 0)
        after = shown(directory)
        assert after["c_total"] == 6
        assert {after[f"g_{mode}"] for mode in ("livesum", "liveall", "livemax", "livemostrecent", "sum", "max", "mostrecent", "all")} == {
            4
        }
        assert after["g_min"] == 3, "what was the least stays, as after any change of the slot's holder"
        second = worker(programs, 1)
        do(second, "assert not election.try_hold()", 1)
        assert samples(MergedCollector(None, str(directory)))["multiproc_workers", ()] == 2


def test_a_slot_that_was_taken_meanwhile_is_left_to_the_other(directory: Path, environment: dict[str, str]) -> None:
    with Programs(directory, environment) as programs:
        first, second = worker(programs, 0), worker(programs, 1)
        third = programs.start(WORKER.format(seconds=3600))
        third.wait_for("ready")
        for program, slot in ((first, 0), (second, 1)):
            do(program, "child.inc(5); gauges['livesum'].set(3)", slot)
        (directory / paths.LOCK).unlink()
        do(third, "multiprocess.acquire()", 0)  # nobody holds anything in the new lock file
        do(first, "lease_recovery.check()", 2)
        do(second, "lease_recovery.check()", 1)
        for program, slot in ((first, 2), (second, 1), (third, 0)):
            do(program, "[child.inc() for _ in range(1000)]", slot)
        found = shown(directory)
        assert found["c_total"] == 3010
        assert found["g_livesum"] == 6
        assert samples(MergedCollector(None, str(directory)))["multiproc_workers", ()] == 3


def test_a_directory_that_was_removed_is_used_again_when_it_is_back(directory: Path, environment: dict[str, str]) -> None:
    with Programs(directory, environment) as programs:
        first = worker(programs, 0, seconds=0.05)
        do(first, COUNT, 0)
        take_away(directory)
        do(first, f"{MORE}; c.labels('new').inc()", 0)
        wait_until(lambda: any("removed while this process used it" in line for line in first.lines), "it says so")
        directory.mkdir(mode=0o700)
        wait_until(lambda: slot_lease.living_slots(directory) == ({0}, {0}), "its slot is held in the new directory")
        do(first, MORE, 0)
        found = shown(directory)
        # What was counted into files that are gone is gone; a gauge is what its process says.
        assert found["g_livesum"] == found["g_max"] == found["g_sum"] == 5
        counted = own(MergedCollector(None, str(directory)))
        assert counted["c_total", (("l", "x"),)] == 1
        assert counted["e", (("e", "b"),)] == 1
        text = MergedCollector(None, str(directory)).render().decode()
        assert "# TYPE h histogram" in text
        assert len([line for line in first.lines if "removed while this process used it" in line]) == 1

        def counted_anew() -> bool:
            do(first, "c.labels('newer').inc()", 0)
            return ("c_total", (("l", "newer"),)) in own(MergedCollector(None, str(directory)))

        wait_until(counted_anew, "new label sets are taken again")
