"""Files that grow between two scrapes: a view that remembers takes in what they gained, all at once."""

from __future__ import annotations

import itertools
import os
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from monitoring.multiprocess.linux import sigbus_guard
from monitoring.multiprocess.merge import source
from monitoring.multiprocess.storage import declarations
from tests.multiprocess.simulated_workers import Worker, count, level, own, same_as_a_new_one, samples

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from monitoring.multiprocess import MergedCollector

MODES = ["all", "liveall", "min", "livemin", "max", "livemax", "sum", "livesum", "mostrecent", "livemostrecent"]
KINDS = ["counter", "summary", "histogram", *MODES]


@pytest.fixture
def three(directory: Path) -> Iterator[list[Worker]]:
    workers = [Worker(directory) for _ in range(3)]
    yield workers
    for worker in workers:
        if worker.store.held is not None:
            worker.kill()


def write(worker: Worker, kind: str, amount: float, moment: float = 1.0, family: str = "", **labels: str) -> None:
    """One observation of this kind, or what a gauge of this mode is set to."""
    name = family or f"x_{kind}"
    with worker.running():
        if kind in ("counter", "summary"):
            worker.value(kind, name, f"{name}_{'total' if kind == 'counter' else 'count'}", **labels).inc(amount)
        elif kind == "histogram":
            for le in ("1.0", "+Inf"):
                worker.value(kind, name, f"{name}_bucket", le=le, **labels).inc(1.0)
            worker.value(kind, name, f"{name}_sum", **labels).inc(amount)
        else:
            worker.value("gauge", name, name, kind, **labels).set(amount, moment)


@pytest.fixture
def alone(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of files that are read by themselves, as they are."""
    looked: list[str] = []
    former = source.Source.read

    def read(self: source.Source, *arguments: Any) -> Any:
        looked.append(self.name)
        return former(self, *arguments)

    monkeypatch.setattr(source.Source, "read", read)
    return looked


def read_alone(view: MergedCollector, alone: list[str]) -> list[str]:
    """Which files of workers the next scrape reads by themselves."""
    alone.clear()
    view.render()
    return sorted(name for name in alone if "scrapes" not in name)


def append(path: Path, content: bytes) -> None:
    """Bytes behind the last record, in use from now on."""
    whole = path.read_bytes()
    used = int.from_bytes(whole[:4], "little")
    with path.open("r+b") as file:
        file.seek(used)
        file.write(content)
        file.seek(0)
        file.write((used + len(content)).to_bytes(4, "little"))


def test_all_files_at_once(directory: Path, make: Callable[[Path], MergedCollector], three: list[Worker], alone: list[str]) -> None:
    """Of every kind: series that are new in all workers, in one, in another's family, in a new family, and known ones of others."""
    kept, clock = make(directory), itertools.count(1)
    for number, (worker, kind) in enumerate(itertools.product(three, KINDS)):
        write(worker, kind, 1.5 + number, float(next(clock)), label="first")
        write(worker, kind, 2.5 + number, float(next(clock)), label=f"of {worker.store.slot}")
    assert len(read_alone(kept, alone)) == 3 * len(KINDS)
    kept.render()
    for turn in range(3):
        for number, (worker, kind) in enumerate(itertools.product(three, KINDS)):
            write(worker, kind, 3.5 + number, float(next(clock)), label=f"new {turn}")
            write(worker, kind, 0.5 + number, float(next(clock)), label=f"of {(worker.store.slot or 0) - turn}")
            if worker is three[turn]:
                write(worker, kind, 4.25, float(next(clock)), label=f"only {turn}")
                write(worker, kind, 5.75, float(next(clock)), family=f"later_{turn}_{kind}", label="a")
        assert read_alone(kept, alone) == []
        found = same_as_a_new_one(kept, directory, make)
        assert found["x_counter_total", (("label", f"new {turn}"),)] > 0
        assert found[f"later_{turn}_max", (("label", "a"),)] == 5.75
        for number, (worker, kind) in enumerate(itertools.product(three, KINDS)):
            write(worker, kind, 7.5 + number, float(next(clock)), label=f"new {turn}")
        assert read_alone(kept, alone) == []
        same_as_a_new_one(kept, directory, make)


@pytest.mark.parametrize("files", ["that grow", "that come"])
@pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
def test_what_is_added_keeps_its_order(
    order: tuple[int, ...], files: str, directory: Path, make: Callable[[Path], MergedCollector], three: list[Worker]
) -> None:
    """To the last bit what the files add up to in the order of their slots, whichever worker had the series first."""
    kept, amounts = make(directory), (1e16, 1.0, -1e16)
    for worker in three if files == "that grow" else ():
        write(worker, "sum", 1.0, label="other")
    for number in order:
        kept.render()
        write(three[number], "sum", amounts[number], label="x")
    assert (1e16 + 1.0) - 1e16 != (1e16 - 1e16) + 1.0
    assert own(kept)["x_sum", (("label", "x"),)] == (1e16 + 1.0) - 1e16


@pytest.mark.parametrize("lost", ["the header", "the values", "the file"])
@pytest.mark.parametrize("number", range(3))
def test_what_is_added_keeps_its_order_when_a_file_turns_bad(
    number: int, lost: str, directory: Path, make: Callable[[Path], MergedCollector], three: list[Worker]
) -> None:
    """A sum that were lower by its last bit would read as a counter that began again."""
    kept = make(directory)
    for amounts in itertools.permutations((0.1, 0.2, 0.3)):
        for worker, amount in zip(three, amounts, strict=True):
            count(worker, amount, label=str(amounts))
    found = own(kept)
    assert len(set(found.values())) == 2, "the order makes no difference"
    kept.render()
    (path,) = directory.glob(f"counter_s{three[number].store.slot}.db")
    if lost == "the header":
        with path.open("r+b") as file:
            file.write((-8).to_bytes(4, "little", signed=True))
    elif lost == "the values":
        os.truncate(path, 64)
    else:
        path.unlink()
    for _ in range(3):
        assert own(kept) == found


def test_one_that_grows_into_garbage(directory: Path, make: Callable[[Path], MergedCollector], three: list[Worker]) -> None:
    kept = make(directory)
    for worker in three:
        for label in "ab":
            count(worker, 5, label=label)
    before = same_as_a_new_one(kept, directory, make)
    path = directory / "counter_s1.db"
    whole = path.read_bytes()
    append(path, b"\x08\0\0\0garbage!" + b"\xff" * 28)
    for worker in three[::2]:
        count(worker, 2, label="a")
        count(worker, 3, label="new")
    after = {**before, ("c_total", (("label", "a"),)): 19, ("c_total", (("label", "new"),)): 6}
    for _ in range(2):
        assert own(kept) == after, "the bad file's last good values are kept"
        assert samples(kept)["multiproc_bad_files", (("reason", "corrupt"),)] == 1
    path.write_bytes(whole)
    assert same_as_a_new_one(kept, directory, make) == after
    count(three[1], 1, label="new")
    assert same_as_a_new_one(kept, directory, make)["c_total", (("label", "new"),)] == 7


def test_one_whose_header_is_garbage(directory: Path, make: Callable[[Path], MergedCollector], three: list[Worker]) -> None:
    kept = make(directory)
    for worker in three:
        count(worker, 5)
    before = same_as_a_new_one(kept, directory, make)
    path = directory / "counter_s1.db"
    for used in (-8, 12, 1 << 14, 1 << 30):
        whole = path.read_bytes()
        with path.open("r+b") as file:
            file.write(used.to_bytes(4, "little", signed=True))
        count(three[0], 1)
        before["c_total", ()] += 1
        assert own(kept) == before, f"{used} bytes in use"
        with path.open("r+b") as file:
            file.write(whole)
        assert same_as_a_new_one(kept, directory, make) == before


def test_one_that_grows_past_its_mapping(
    directory: Path, make: Callable[[Path], MergedCollector], three: list[Worker], alone: list[str]
) -> None:
    kept = make(directory)
    for worker in three:
        count(worker, 1, label="first")
    same_as_a_new_one(kept, directory, make)
    path = directory / "counter_s1.db"
    size, number = path.stat().st_size, 0
    while path.stat().st_size == size:
        count(three[1], 1, label=f"number {number}")
        number += 1
    count(three[2], 1, label="number 0")
    found = same_as_a_new_one(kept, directory, make)
    assert found["c_total", (("label", "number 0"),)] == 2
    assert found["c_total", (("label", f"number {number - 1}"),)] == 1
    kept.render()
    count(three[1], 1, label="afterwards")
    assert read_alone(kept, alone) == []
    same_as_a_new_one(kept, directory, make)


def test_others_vanish_and_come_while_one_grows(directory: Path, make: Callable[[Path], MergedCollector], three: list[Worker]) -> None:
    kept = make(directory)
    for worker in three:
        for kind in KINDS:
            write(worker, kind, 5.0, label="a")
    same_as_a_new_one(kept, directory, make)
    for kind in KINDS:
        write(three[0], kind, 7.0, 2.0, label="b")
    (directory / "counter_s2.db").unlink()
    fourth = Worker(directory)
    for kind in KINDS:
        write(fourth, kind, 1.0, 3.0, label="b")
    found = own(kept)
    assert found["x_counter_total", (("label", "a"),)] == 15, "what a file that is gone said last is kept"
    assert found["x_counter_total", (("label", "b"),)] == 8
    assert found["x_max", (("label", "b"),)] == 7.0
    assert found["x_mostrecent", (("label", "b"),)] == 1.0
    assert own(kept) == found
    write(fourth, "counter", 1.0, label="c")
    assert own(kept) == {**found, ("x_counter_total", (("label", "c"),)): 1.0}
    fourth.kill()


def test_a_writer_that_dies_just_after(directory: Path, make: Callable[[Path], MergedCollector], three: list[Worker]) -> None:
    """What its live gauges gained is shown by nobody, and is right again with the slot's next holder."""
    kept = make(directory)
    for worker in three:
        for kind in KINDS:
            write(worker, kind, 5.0, label="a")
    same_as_a_new_one(kept, directory, make)
    for worker in three:
        for kind in KINDS:
            write(worker, kind, 6.0 + (worker is three[1]), 2.0, label="b")
    three[1].kill()
    found = same_as_a_new_one(kept, directory, make)
    assert found["x_livemax", (("label", "b"),)] == 6.0
    assert found["x_max", (("label", "b"),)] == 7.0
    three[1] = Worker(directory)
    for kind in KINDS:
        write(three[1], kind, 9.0, 3.0, label="c")
    assert same_as_a_new_one(kept, directory, make)["x_livemax", (("label", "c"),)] == 9.0


def test_a_bound_within_a_block_lays_everything_out_anew(
    directory: Path, make: Callable[[Path], MergedCollector], three: list[Worker]
) -> None:
    kept = make(directory)
    for worker in three:
        for kind in KINDS:
            write(worker, kind, 0.5, label="a")
    same_as_a_new_one(kept, directory, make)
    for kind in KINDS:
        write(three[0], kind, 2.0, 2.0, label="b")
    with three[1].running():
        three[1].value("histogram", "x_histogram", "x_histogram_bucket", le="0.5", label="a").inc(1.0)
    found = same_as_a_new_one(kept, directory, make)
    assert found["x_histogram_bucket", (("label", "a"), ("le", "0.5"))] == 1.0
    assert found["x_histogram_bucket", (("label", "a"), ("le", "1.0"))] == 4.0
    write(three[2], "counter", 1.0, label="c")
    same_as_a_new_one(kept, directory, make)


@pytest.mark.parametrize("mode", ["all", "liveall", "max", "min", "mostrecent", "sum"])
def test_two_samples_of_one_file_that_become_one(
    mode: str, directory: Path, make: Callable[[Path], MergedCollector], three: list[Worker]
) -> None:
    """As upstream, a gauge's own label `pid` is left out; where that makes two samples one, nothing of the rule is lost."""
    kept = make(directory)
    for worker in three:
        write(worker, mode, 1.0, label="a", pid="1")
        level(worker, "max", 1.0)
    same_as_a_new_one(kept, directory, make)
    write(three[0], mode, 3.0, 2.0, label="a", pid="2")
    write(three[0], mode, 0.5, 3.0, label="a", pid="3")
    write(three[1], mode, 2.0, 2.5, label="b")
    found = same_as_a_new_one(kept, directory, make)
    merged = {"max": 3.0, "sum": 6.5}.get(mode, 0.5)
    assert found[f"x_{mode}", (("label", "a"), *((("pid", "s0"),) if mode.endswith("all") else ()))] == merged
    write(three[2], mode, 9.0, 4.0, label="c")
    found = same_as_a_new_one(kept, directory, make)
    write(three[0], mode, 4.0, 5.0, label="a", pid="4")
    found = same_as_a_new_one(kept, directory, make)
    with (directory / f"gauge_{mode}_s0.db").open("r+b") as file:
        file.write((-8).to_bytes(4, "little", signed=True))
    assert own(kept) == found, "the bad file's last good values are kept"


@pytest.mark.parametrize("grown", [False, True])
def test_files_with_the_same_keys_have_places_of_their_own(
    grown: bool, directory: Path, make: Callable[[Path], MergedCollector], three: list[Worker]
) -> None:
    """What repeats or is left out is known of each of them, also after one of them has grown."""
    kept = make(directory)
    declarations.publish(
        directory, {"x_sum": declarations.Family("x_sum", "gauge", "", "sum"), "y": declarations.Family("y", "gauge", "", "max")}
    )
    for worker in three:
        write(worker, "sum", 1.0, label="a", pid="1")
        write(worker, "sum", 2.0, label="a", pid="2")
        write(worker, "sum", 9.0, family="y", label="left out")
    assert samples(kept)["multiproc_mixed_samples", (("reason", "mode"),)] == 3
    if grown:
        write(three[1], "sum", 4.0, label="a", pid="3")
        write(three[1], "sum", 9.0, family="y", label="left out too")
        assert samples(kept)["multiproc_mixed_samples", (("reason", "mode"),)] == 4
    found = same_as_a_new_one(kept, directory, make)
    assert found["x_sum", (("label", "a"),)] == 13.0 if grown else 9.0
    for slot in range(3):
        with (directory / f"gauge_sum_s{slot}.db").open("r+b") as file:
            file.write((-8).to_bytes(4, "little", signed=True))
        assert own(kept) == found, "the bad files' last good values are kept"


def test_without_the_guard_against_cut_files(
    directory: Path,
    make: Callable[[Path], MergedCollector],
    three: list[Worker],
    monkeypatch: pytest.MonkeyPatch,
    alone: list[str],
) -> None:
    """Where another SIGBUS handler is in the place of ours, nothing is read behind what is known to be there."""
    kept = make(directory)
    for worker in three:
        count(worker, 5, label="a")
    same_as_a_new_one(kept, directory, make)
    monkeypatch.setattr(sigbus_guard, "active", lambda: False)
    for worker in three:
        count(worker, 1, label="b")
    assert read_alone(kept, alone) == ["counter_s0.db", "counter_s1.db", "counter_s2.db"]
    assert same_as_a_new_one(kept, directory, make)["c_total", (("label", "b"),)] == 3


#: Which of three workers, what kind, one of a few label sets, a number.
STEP = st.tuples(st.integers(0, 2), st.sampled_from(KINDS), st.sampled_from("abcdef"), st.floats(0.0, 1e17) | st.integers(0, 50).map(float))


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(scrapes=st.lists(st.lists(STEP, max_size=8), min_size=1, max_size=6))
def test_any_growth(scrapes: list[list[Any]], directory: Path, make: Callable[[Path], MergedCollector]) -> None:
    for path in directory.glob("*.db"):
        path.unlink()
    workers, kept, clock = [Worker(directory) for _ in range(3)], make(directory), itertools.count(1)
    try:
        for steps in scrapes:
            for number, kind, label, amount in steps:
                write(workers[number], kind, amount, float(next(clock)), label=label)
            same_as_a_new_one(kept, directory, make)
    finally:
        for worker in workers:
            worker.kill()
