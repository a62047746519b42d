"""What a gauge of each mode holds in its slot: what former holders left, what this one said, and what a removal ends."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from monitoring.multiprocess import MergedCollector
from monitoring.multiprocess.patches.series_removal import overwrite
from monitoring.multiprocess.storage.record_format import removed
from monitoring.multiprocess.storage.value_file import ValueFile
from monitoring.multiprocess.worker.value import Value
from tests.multiprocess.forked_workers import execute
from tests.multiprocess.simulated_workers import Run, Worker, own

if TYPE_CHECKING:
    from pathlib import Path


MODES = ["all", "liveall", "min", "livemin", "max", "livemax", "sum", "livesum", "mostrecent", "livemostrecent"]


def test_most_recent_gauges_add_to_what_this_worker_set_last(metrics_directory: Path, environment: dict[str, str]) -> None:
    program = """
for mode in ("mostrecent", "livemostrecent"):
    g = Gauge("g_" + mode, "help", multiprocess_mode=mode)
    g.set(5)
    other = Other()
    other.do("g.set(100)")
    g.inc(2)
    assert shown("g_" + mode) == 7
    other.do("g.dec(1)")
    assert shown("g_" + mode) == 99
    other.kill()
    heir = Other()
    heir.do("g.inc()")
    assert shown("g_" + mode) == 1, "what the slot's former holder set is not its own"
    heir.kill()
l = Gauge("l", "help", ["l"], multiprocess_mode="mostrecent")
child = l.labels("x"); child.inc(3); l.remove("x"); child.inc(2)
assert shown("l", l="x") == 2
child.dec(0.0); l.remove("x"); child.dec(0.0)
assert shown("l", l="x") == 0
"""
    execute(program, metrics_directory, environment)


@pytest.mark.parametrize("mode", MODES)
def test_gauges_forget_what_they_and_former_holders_had(metrics_directory: Path, mode: str) -> None:
    run, former, beside = Run(metrics_directory), Worker(metrics_directory), Worker(metrics_directory)
    view = MergedCollector(None, str(metrics_directory))

    def cell(worker: Worker) -> Value:
        return worker.value("gauge", "g", "g", mode, l="x")

    def put(worker: Worker, amount: float, *, at: float, add: bool = False) -> None:
        with worker.running():
            cell(worker).inc(amount) if add else cell(worker).set(amount, at)

    put(former, -50 if "min" in mode else 50, at=1)
    put(beside, -9 if "min" in mode else 9, at=2)
    former.kill()
    heir = Worker(metrics_directory)
    put(heir, 3, at=3)
    overwrite(metrics_directory, "g", {"l": "x"})
    assert own(view) == {}
    assert cell(heir).get() == 0
    put(heir, 4, at=4, add=True)
    assert set(own(view).values()) == {4}
    assert cell(heir).get() == 4
    overwrite(metrics_directory, "g", {"l": "x"})
    put(heir, -0.0, at=5)
    assert set(own(view).values()) == {0}, "no write of ours is taken for a removal"
    heir.kill()
    beside.kill()
    run.end()


@pytest.mark.parametrize(("mode", "shown"), [("sum", [13, 11, 13]), ("max", [10, 10, 10]), ("min", [3, 1, 1])])
def test_holders_of_a_slot_one_after_the_other(metrics_directory: Path, mode: str, shown: list[float]) -> None:
    run = Run(metrics_directory)
    view = MergedCollector(None, str(metrics_directory))
    seen = []
    for amounts in ([10.0], [3.0, 1.0], [2.0]):
        holder = Worker(metrics_directory)
        value = holder.value("gauge", "g", "g", mode)
        for amount in amounts:
            with holder.running():
                value.set(amount)
            assert value.get() == amount
            seen += own(view).values()
        holder.kill()
    assert seen == [10, *shown]
    run.end()


@pytest.mark.parametrize("mode", ["max", "min"])
def test_a_removal_that_is_met_half_way_ends_the_base_too(metrics_directory: Path, mode: str) -> None:
    run, former = Run(metrics_directory), Worker(metrics_directory)
    with former.running():
        former.value("gauge", "g", "g", mode).set(-9 if mode == "min" else 9)
    former.kill()
    heir = Worker(metrics_directory)
    value = heir.value("gauge", "g", "g", mode)
    with heir.running():
        value.set(1)
        value._view[value._i] = -0.0  # who removes writes the value first, then takes the base away
        value.set(2)
    assert own(MergedCollector(None, str(metrics_directory))) == {("g", ()): 2}
    heir.kill()
    run.end()


@pytest.mark.parametrize(("mode", "number"), [("min", 7.0), ("max", -7.0), ("livemin", 7.0), ("livemax", -7.0)])
def test_workers_that_never_set_a_gauge_do_not_count(metrics_directory: Path, mode: str, number: float) -> None:
    run, workers = Run(metrics_directory), [Worker(metrics_directory) for _ in range(3)]
    view = MergedCollector(None, str(metrics_directory))
    gauges = [worker.value("gauge", "g", "g", mode) for worker in workers]
    assert own(view) == {}
    with workers[0].running():
        gauges[0].set(number)
    # Killed between the making of its sample and the setting of it: no sample either.
    [(cells, index)] = ValueFile(metrics_directory / f"gauge_{mode}_s1.db").ensure([gauges[1].key])
    assert removed(cells[index])
    assert own(view) == {("g", ()): number}
    for worker in workers:
        worker.kill()
    run.end()


@pytest.mark.parametrize("mode", MODES)
def test_the_mode_may_be_passed_by_position(mode: str) -> None:
    described = ("gauge", "g", "g", ("l",), ("x",), "help")
    named, positional = Value(*described, multiprocess_mode=mode), Value(*described, mode)
    assert type(positional) is type(named)
    assert positional.prefix == named.prefix


def test_a_candidate_that_was_never_asked_shows_nothing(metrics_directory: Path, environment: dict[str, str]) -> None:
    program = """
from monitoring.multiprocess import Election
from prometheus_client import generate_latest
idle = Election("idle")
multiprocess.acquire()
assert b"multiproc_elected{" not in generate_latest()
assert idle.try_hold() and b'multiproc_elected{role="idle"} 1.0' in generate_latest()
"""
    execute(program, metrics_directory, environment)
