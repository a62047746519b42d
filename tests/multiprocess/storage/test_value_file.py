"""The file reader: no byte string raises or hangs, damage is found, and what stands before it is salvaged."""

from __future__ import annotations

import shutil
import struct
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from monitoring.multiprocess import MergedCollector
from monitoring.multiprocess.storage.value_file import INITIAL_BYTES, ValueFile, encode, scan
from tests.multiprocess.simulated_workers import Run, Worker, own, samples


def good_file(count: int = 5) -> bytes:
    body = b"".join(encode(f'["c", "c_total", {{"l": "{n}"}}, "help"]')[:-16] + struct.pack("dd", float(n + 1), 0.0) for n in range(count))
    return struct.pack("ii", len(body) + 8, 0) + body


@settings(max_examples=400, deadline=None)
@given(st.binary(max_size=300))
def test_any_bytes_are_answered(data: bytes) -> None:
    result = scan(data)
    assert result.damage or result.used <= max(len(data), 8)


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_any_change_of_a_good_file_is_answered(data: st.DataObject) -> None:
    content = bytearray(good_file())
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    directory = Path(tempfile.mkdtemp(dir="/dev/shm"))
    try:
        (directory / "counter_1.db").write_bytes(content)
        MergedCollector(None, str(directory)).render()
        (directory / "counter_s0.db").write_bytes(content)
        ValueFile(directory / "counter_s0.db").ensure(['["new", "new", {}, ""]'])
        assert not scan((directory / "counter_s0.db").read_bytes()).damage
    finally:
        shutil.rmtree(directory)


def test_truncated_at_every_offset(metrics_directory: Path) -> None:
    content = good_file()
    path = metrics_directory / "counter_s0.db"
    for end in range(len(content)):
        path.write_bytes(content[:end])
        view = MergedCollector(None, str(metrics_directory))
        assert samples(view)["multiproc_bad_files", (("reason", "truncated" if end else "empty"),)] == 1
        assert own(view) == {}
        salvaged = ValueFile(path).found
        assert [value for value, _ in salvaged.values()] == [float(n + 1) for n in range(len(salvaged))]
        assert own(MergedCollector(None, str(metrics_directory))) == {
            ("c_total", (("l", str(n)),)): float(n + 1) for n in range(len(salvaged))
        }
    assert len(salvaged) == 4, "all records but the cut one"


@pytest.mark.parametrize("used", [-(2**31), -8, 1, 7, 12, 2**31 - 1, 2**30])
def test_a_nonsense_used_field(metrics_directory: Path, used: int) -> None:
    (metrics_directory / "counter_7.db").write_bytes(struct.pack("i", used) + good_file()[4:])
    found = samples(MergedCollector(None, str(metrics_directory)))
    assert sum(value for (name, _), value in found.items() if name == "multiproc_bad_files") == 1


def test_a_running_view_keeps_what_it_read_and_adds_what_comes_after(metrics_directory: Path) -> None:
    run, worker = Run(metrics_directory), Worker(metrics_directory)
    view = MergedCollector(None, str(metrics_directory))

    def count(who: Worker, label: str, amount: float) -> None:
        with who.running():
            who.value("counter", "c", "c_total", label=label).inc(amount)

    def shown(label: str) -> float:
        return own(view)["c_total", (("label", label),)]

    count(worker, "first", 3)
    count(worker, "last", 4)
    assert (shown("first"), shown("last")) == (3, 4)
    worker.kill()
    path = metrics_directory / "counter_s0.db"
    content = path.read_bytes()
    cut = content.index(b'"last"')
    path.write_bytes(content[:cut])
    assert (shown("first"), shown("last")) == (3, 4), "kept at its last good values"
    assert samples(view)["multiproc_bad_files", (("reason", "truncated"),)] == 1
    heir = Worker(metrics_directory)
    count(heir, "first", 1)
    count(heir, "last", 1)
    assert (shown("first"), shown("last")) == (4, 5), "salvaged, and what was lost is carried by the view"
    assert samples(view)["multiproc_bad_files", (("reason", "truncated"),)] == 0
    heir.kill()
    path.unlink()
    assert (shown("first"), shown("last")) == (4, 5)
    assert samples(view)["multiproc_bad_files", (("reason", "missing"),)] == 1
    second = Worker(metrics_directory)
    count(second, "first", 2)
    assert (shown("first"), shown("last")) == (6, 5)
    second.kill()
    run.end()


def test_a_file_that_is_put_back_counts_once(metrics_directory: Path) -> None:
    path, aside = metrics_directory / "counter_9.db", metrics_directory / "aside"
    path.write_bytes(good_file())
    view = MergedCollector(None, str(metrics_directory))
    before = own(view)
    path.rename(aside)
    assert own(view) == before
    aside.rename(path)
    assert own(view) == before
    path.write_bytes(b"garbage")
    assert own(view) == before
    path.write_bytes(good_file())
    assert own(view) == before
    aside.write_bytes(good_file())
    path.unlink()
    assert own(view) == before
    aside.rename(path)
    assert own(view) == before
    assert len(before) == 5


def test_a_bad_file_is_in_a_log_line_once_and_in_the_metric_always(metrics_directory: Path, caplog: pytest.LogCaptureFixture) -> None:
    path, other = metrics_directory / "counter_9.db", metrics_directory / "gauge_livesum_s4.db"
    (metrics_directory / "counter_8.db").write_bytes(good_file())
    view = MergedCollector(None, str(metrics_directory))
    before = own(view)
    assert len(before) == 5
    for content in (b"garbage", b"garbage", b"other garbage"):
        path.write_bytes(content)
        assert own(view) == before, "it costs its own series only"
        assert sum(value for (name, _), value in samples(view).items() if name == "multiproc_bad_files") == 1
    assert [str(path) in record.getMessage() for record in caplog.records] == [True]
    other.write_bytes(b"")
    for _ in range(3):
        assert sum(value for (name, _), value in samples(view).items() if name == "multiproc_bad_files") == 2
    assert [str(other) in record.getMessage() for record in caplog.records] == [False, True]


def test_a_file_grows_over_many_pages_and_keeps_every_value(metrics_directory: Path) -> None:
    file = ValueFile(metrics_directory / "counter_s0.db")
    cells = {}
    for n in range(3000):
        key = f'["c", "c_total", {{"l": "{n}"}}, "{"h" * 40}"]'
        [(view, index)] = file.ensure([key])
        view[index] = float(n)
        cells[key] = (view, index)
    assert (metrics_directory / "counter_s0.db").stat().st_size > 16 * INITIAL_BYTES
    for view, index in cells.values():
        view[index] += 1.0  # also through mappings from before the growth
    result = scan((metrics_directory / "counter_s0.db").read_bytes())
    assert [record.value for record in result.records] == [n + 1.0 for n in range(3000)]
    again = ValueFile(metrics_directory / "counter_s0.db")
    assert len(again.found) == 3000


def test_links_fifos_and_directories_are_left_out(metrics_directory: Path) -> None:
    import os

    outside = metrics_directory / "outside"
    outside.write_bytes(good_file())
    (metrics_directory / "counter_1.db").symlink_to(outside)
    os.mkfifo(metrics_directory / "counter_2.db")
    (metrics_directory / "counter_3.db").mkdir()
    (metrics_directory / "x.db").write_bytes(good_file())
    (metrics_directory / "counter_4.db").write_bytes(good_file())
    view = MergedCollector(None, str(metrics_directory))
    found = samples(view)
    assert found["multiproc_bad_files", (("reason", "not_regular"),)] == 3
    assert found["multiproc_bad_files", (("reason", "foreign"),)] == 1
    assert len(own(view)) == 5
