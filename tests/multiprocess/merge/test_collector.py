"""What a view remembers between scrapes, with numpy and without: growth, other files, removed series, keys that went."""

from __future__ import annotations

import errno
import itertools
import math
import os
from typing import TYPE_CHECKING, Any

import pytest
from prometheus_client.mmap_dict import MmapedDict, mmap_key

from monitoring.multiprocess import paths
from monitoring.multiprocess.linux import regular_file
from monitoring.multiprocess.merge import collector
from monitoring.multiprocess.storage import declarations
from tests.multiprocess.simulated_workers import Run, Worker, count, level, own, same_as_a_new_one, samples

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from monitoring.multiprocess import MergedCollector

REMOVED = -0.0


def test_it_follows_values_series_files_and_deaths(directory: Path, make: Callable[[Path], MergedCollector]) -> None:
    kept = make(directory)
    workers = [Worker(directory) for _ in range(3)]
    total = 0.0
    for turn in range(12):
        for number, worker in enumerate(workers):
            count(worker, turn + number, label=str(turn % (number + 2)))
            total += turn + number
            for mode in ("livesum", "max", "livemin", "all", "mostrecent"):
                level(worker, mode, turn * number, float(turn * 10 + number + 1))
        found = same_as_a_new_one(kept, directory, make)
        assert sum(value for (name, _), value in found.items() if name == "c_total") == total
        if turn == 5:
            workers.pop(1).kill()
        if turn == 8:
            workers.append(Worker(directory))
        assert own(kept)["g_livesum", ()] == sum(level(worker, "livesum").get() for worker in workers)
    for worker in workers:
        worker.kill()


def test_only_changed_lines_are_rendered(directory: Path, make: Callable[[Path], MergedCollector], monkeypatch: pytest.MonkeyPatch) -> None:
    worker, kept = Worker(directory), make(directory)
    for number in range(50):
        count(worker, 1, label=str(number))
    kept.render()
    rendered: list[int] = []
    write = collector.Layout.write
    monkeypatch.setattr(collector.Layout, "write", lambda self, cells, numbers: (rendered.append(len(cells)), write(self, cells, numbers)))
    accounts = 4  # scrapes, sum, one bucket or more above it, count
    kept.render()
    assert rendered.pop() <= accounts + 12
    count(worker, 1, label="7")
    count(worker, 1, label="8")
    text = kept.render().decode()
    assert 'c_total{label="7"} 2.0\n' in text
    assert rendered.pop() <= accounts + 14
    worker.kill()


def test_a_removed_series_is_shown_by_nobody_until_the_next_write(directory: Path, make: Callable[[Path], MergedCollector]) -> None:
    workers, kept = [Worker(directory) for _ in range(2)], make(directory)
    for worker in workers:
        count(worker, 5, label="a")
        count(worker, 1, label="b")
        level(worker, "max", 3.0)
    assert own(kept)["c_total", (("label", "a"),)] == 10
    cells = [worker.value("counter", "c", "c_total", label="a") for worker in workers]
    for cell in cells:
        cell._view[cell._i] = REMOVED
    for worker in workers:
        level(worker, "max")._view[level(worker, "max")._i] = REMOVED
    found = same_as_a_new_one(kept, directory, make)
    assert list(found) == [("c_total", (("label", "b"),))]
    cells[1].inc(2)
    assert same_as_a_new_one(kept, directory, make)["c_total", (("label", "a"),)] == 2
    for worker in workers:
        worker.kill()


def test_a_rewritten_file_is_no_damage(directory: Path, make: Callable[[Path], MergedCollector]) -> None:
    """A holder that drops removed series replaces its file and raises the count in its head; any other new file has lost something."""
    worker, kept = Worker(directory), make(directory)
    count(worker, 5, label="a")
    count(worker, 7, label="b")
    assert own(kept)["c_total", (("label", "a"),)] == 5
    path = directory / "counter_s0.db"
    whole = bytearray(path.read_bytes())
    key = mmap_key("c", "c_total", ["label"], ["b"], "help text")
    start = bytes(whole).index(key.encode()) - 4
    dropped = bytes([*start.to_bytes(4, "little"), *(1).to_bytes(4, "little"), *whole[8:start]]).ljust(len(whole), b"\0")
    other = path.with_suffix(".tmp")
    other.write_bytes(dropped)
    other.replace(path)
    assert ("c_total", (("label", "b"),)) not in own(kept)
    assert own(kept)["c_total", (("label", "a"),)] == 5
    other.write_bytes(dropped)
    other.replace(path)
    assert own(kept)["c_total", (("label", "a"),)] == 5
    worker.kill()


def test_a_file_without_its_last_series_and_without_a_word_has_lost_it(directory: Path, make: Callable[[Path], MergedCollector]) -> None:
    worker, kept = Worker(directory), make(directory)
    count(worker, 5, label="a")
    count(worker, 7, label="b")
    own(kept)
    path = directory / "counter_s0.db"
    whole = path.read_bytes()
    start = whole.index(mmap_key("c", "c_total", ["label"], ["b"], "help text").encode()) - 4
    other = path.with_suffix(".tmp")
    other.write_bytes(start.to_bytes(4, "little") + whole[4:start].ljust(len(whole) - 4, b"\0"))
    other.replace(path)
    assert own(kept)["c_total", (("label", "b"),)] == 7
    worker.kill()


def test_a_lost_amount_stays_while_a_file_of_another_writer_has_minus_zero(
    directory: Path, make: Callable[[Path], MergedCollector]
) -> None:
    kept, path = make(directory), directory / "counter_77.db"
    for number in (5.0, REMOVED):
        other = MmapedDict(str(path.with_suffix(".tmp")))
        other.write_value(mmap_key("c", "c_total", [], [], "help text"), number, 0.0)
        other.close()
        path.with_suffix(".tmp").replace(path)
        for _ in range(3):
            assert own(kept) == {("c_total", ()): 5}


@pytest.mark.parametrize("lacking", [0, 1, 2])
def test_files_are_read_later_where_descriptors_lack(
    lacking: int, directory: Path, make: Callable[[Path], MergedCollector], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of three files, new or replaced, some are read before descriptors lack: the last values stay, and nothing is forgotten."""
    workers, kept, opened = [Worker(directory) for _ in range(3)], make(directory), regular_file.opened
    calls = itertools.count()

    def few(path: Path | str) -> int | str:
        if "counter_s" in str(path) and next(calls) >= lacking:
            raise OSError(errno.EMFILE, "Too many open files")
        return opened(path)

    for turn in (1, 2):
        for worker in workers:
            count(worker, 5, label=str(turn))
            if turn == 2:
                assert worker.store._files["counter"]._rewrite(0)
        calls = itertools.count()
        with monkeypatch.context() as patch:
            patch.setattr(regular_file, "opened", few)
            assert own(kept).get(("c_total", (("label", "1"),)), 0) == (15 if turn == 2 else 0)
        assert same_as_a_new_one(kept, directory, make) == {("c_total", (("label", str(n + 1)),)): 15 for n in range(turn)}
    for worker in workers:
        worker.kill()


@pytest.mark.parametrize("size", [8, 16, 1 << 14])
def test_a_file_that_lost_all_records(size: int, directory: Path, make: Callable[[Path], MergedCollector]) -> None:
    worker, kept = Worker(directory), make(directory)
    count(worker, 5, label="a")
    before = own(kept)
    path = directory / "counter_s0.db"
    path.unlink()
    path.write_bytes((8).to_bytes(4, "little").ljust(size, b"\0"))
    for _ in range(3):
        assert own(kept) == before
    assert samples(kept)["multiproc_bad_files", (("reason", "truncated"),)] == 0
    worker.kill()


@pytest.mark.parametrize("where", ["key", "value"])
def test_a_mapped_file_that_is_overwritten(where: str, directory: Path, make: Callable[[Path], MergedCollector]) -> None:
    worker, kept = Worker(directory), make(directory)
    for label in "abcdef":
        count(worker, 5, label=label)
    before = own(kept)
    path = directory / "counter_s0.db"
    whole = path.read_bytes()
    at = whole.index(b'"c"') if where == "key" else whole.index(b'"c"') // 8 * 8 + 40
    with path.open("r+b") as file:
        file.seek(at)
        file.write(os.urandom(len(whole) - at))
    assert own(kept) == before, "the last good values are kept"
    assert (
        samples(kept)["multiproc_bad_files", (("reason", "corrupt"),)] + samples(kept)["multiproc_bad_files", (("reason", "truncated"),)]
        == 1
    )
    worker.kill()


def test_a_mapped_file_that_grew_and_is_damaged(directory: Path, make: Callable[[Path], MergedCollector]) -> None:
    worker, kept = Worker(directory), make(directory)
    for label in "abcdef":
        count(worker, 5, label=label)
    before = own(kept)
    count(worker, 5, label="g")
    path = directory / "counter_s0.db"
    whole = path.read_bytes()
    at = whole.index(b'"c"')
    with path.open("r+b") as file:
        file.seek(at)
        file.write(b"\xff" * 200)
    assert own(kept) == before, "the last good values are kept"
    path.write_bytes(whole)
    assert own(kept) == {**before, ("c_total", (("label", "g"),)): 5}
    worker.kill()


def test_a_mapped_file_that_is_cut(directory: Path, make: Callable[[Path], MergedCollector]) -> None:
    writer, kept = Worker(directory), make(directory)
    for label in "abcdef":
        count(writer, 5, label=label)
    level(writer, "mostrecent", 7, 1.0)
    before = own(kept)
    for name in ("counter_s0.db", "gauge_mostrecent_s0.db"):
        path = directory / name
        whole = path.read_bytes()
        used = int.from_bytes(whole[:4], "little")
        for size in (*range(used - 1, used - 30, -1), 100, 8, 3, 0):
            os.truncate(path, size)
            assert own(kept) == before, f"{name} cut at {size} of {used}"
            with path.open("r+b") as file:
                file.write(whole)
            assert own(kept) == before, f"{name} put back"
            assert samples(kept)["multiproc_bad_files", (("reason", "truncated"),)] == 0
    writer.kill()


def test_keys_that_no_file_has_any_more_are_forgotten(
    directory: Path, make: Callable[[Path], MergedCollector], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(collector, "_FEWEST_KEYS", 100)
    kept = make(directory)
    for turn in range(20):
        worker = Worker(directory)
        for number in range(30):
            with worker.running():
                worker.value("gauge", "g", "g", "liveall", label=f"{turn}-{number}").set(1.0)
        found = same_as_a_new_one(kept, directory, make)
        assert len(found) == 30
        assert len(kept._keys) <= 220
        worker.kill()
        assert own(kept) == {}


def test_hostile_texts_and_numbers(directory: Path, make: Callable[[Path], MergedCollector]) -> None:
    worker, kept = Worker(directory), make(directory)
    for text in ('q"u\\o\nte', "ünïcödé ☃", "", " ", "{}", "\u2028", "a" * 5000):
        count(worker, 2, label=text)
    for number in (math.nan, math.inf, -math.inf, 1e6, 999999.5, 1e21, 5e-324, -1e300):
        with worker.running():
            worker.value("gauge", "numbers", "numbers", "livemax", label=repr(number)).set(number)
    found = samples(kept)
    fresh = make(directory)
    assert {key: repr(value) for key, value in found.items() if key[0] in ("numbers", "c_total")} == {
        key: repr(value) for key, value in samples(fresh).items() if key[0] in ("numbers", "c_total")
    }
    from prometheus_client import exposition
    from prometheus_client.openmetrics import exposition as openmetrics_exposition

    class Same:
        def __init__(self) -> None:
            self.metrics = list(kept.collect())

        def collect(self) -> list[Any]:
            return self.metrics

    def lines(text: bytes) -> list[bytes]:
        return [line for line in text.splitlines() if b"multiproc_" not in line]

    assert lines(kept.render()) == lines(exposition.generate_latest(Same()))
    assert lines(kept.render(openmetrics=True)) == lines(openmetrics_exposition.generate_latest(Same()))
    worker.kill()


def test_half_a_character_costs_its_own_series(directory: Path, make: Callable[[Path], MergedCollector]) -> None:
    worker, kept = Worker(directory), make(directory)
    count(worker, 1, label="good")
    count(worker, 1, label="\ud800")
    assert own(kept) == {("c_total", (("label", "good"),)): 1}
    assert samples(kept)["multiproc_mixed_samples", (("reason", "name"),)] == 1
    assert samples(kept)["multiproc_bad_files", (("reason", "corrupt"),)] == 0
    kept.render()
    worker.kill()


def test_infinities_of_opposite_sign_are_not_a_number(directory: Path, make: Callable[[Path], MergedCollector]) -> None:
    workers, kept = [Worker(directory) for _ in range(2)], make(directory)
    for worker, number in zip(workers, (math.inf, -math.inf), strict=True):
        level(worker, "livesum", number)
    assert math.isnan(own(kept)["g_livesum", ()])
    assert b"g_livesum NaN\n" in kept.render()
    for worker in workers:
        worker.kill()


def test_a_damaged_declaration_file_changes_nothing(directory: Path, make: Callable[[Path], MergedCollector]) -> None:
    kept = make(directory)
    declarations.publish(directory, {"c": declarations.Family("c", "counter", "declared help")})
    worker = Worker(directory)
    count(worker, 1)
    assert b"# HELP c_total declared help" in kept.render()
    (directory / paths.FAMILIES).write_bytes(b"{")
    assert b"# HELP c_total declared help" in kept.render()
    worker.kill()


def test_a_family_that_is_declared_later_takes_its_samples_in(directory: Path, make: Callable[[Path], MergedCollector]) -> None:
    kept, worker = make(directory), Worker(directory)
    count(worker, 3)
    assert b"# HELP c_total help text" in kept.render()
    declarations.publish(
        directory, {"c": declarations.Family("c", "counter", "declared help"), "d": declarations.Family("d", "gauge", "no series")}
    )
    text = kept.render()
    assert b"# HELP c_total declared help" in text
    assert b"# TYPE d gauge\n" in text
    assert b"\nc_total 3.0\n" in text
    declarations.publish(directory, {"c": declarations.Family("c", "gauge", "another type", "livesum")})
    assert samples(kept)["multiproc_mixed_samples", (("reason", "type"),)] == 1
    worker.kill()


def test_its_accounts_are_continued_by_the_next_view_and_are_no_worker(directory: Path, make: Callable[[Path], MergedCollector]) -> None:
    worker = Worker(directory)
    count(worker, 1)
    first = make(directory)
    for _ in range(3):
        first.render()
    assert samples(first)["multiproc_scrapes_total", ()] == 3
    assert samples(first)["multiproc_scrape_duration_seconds_count", ()] == 4
    del first
    second = make(directory)
    found = samples(second)
    assert found["multiproc_scrapes_total", ()] == 5
    assert found["multiproc_workers", ()] == 1
    assert len(list(directory.glob("*scrapes*.db"))) == 2
    assert found["multiproc_files", ()] == len(list(directory.glob("*.db")))
    assert found["multiproc_bytes", ()] == sum(path.stat().st_size for path in directory.glob("*.db"))
    assert found["multiproc_free_bytes", ()] > 0
    worker.kill()


def test_a_view_keeps_no_run_alive(metrics_directory: Path, make: Callable[[Path], MergedCollector]) -> None:
    first = Run(metrics_directory)
    worker = Worker(metrics_directory)
    count(worker, 4)
    kept = make(metrics_directory)
    assert own(kept)["c_total", ()] == 4
    worker.kill()
    first.end()
    second = Run(metrics_directory)
    assert own(kept) == {}
    worker = Worker(metrics_directory)
    count(worker, 1)
    assert own(kept)["c_total", ()] == 1
    assert samples(kept)["multiproc_scrapes_total", ()] >= 1
    worker.kill()
    second.end()
