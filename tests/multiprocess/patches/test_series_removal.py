"""Series that are removed: gone for all workers, dead ones included, at 0 when written again, and files that stay small."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from hypothesis import example, given, settings
from hypothesis import strategies as st

from monitoring.multiprocess import MergedCollector
from monitoring.multiprocess.patches.series_removal import _Edited, _samples, overwrite
from monitoring.multiprocess.storage.record_format import encode, rebuild, scan
from tests.multiprocess.forked_workers import execute
from tests.multiprocess.simulated_workers import Run, Worker, samples

if TYPE_CHECKING:
    from pathlib import Path


def test_a_removed_series_is_gone_for_all_workers_and_begins_at_0(metrics_directory: Path, environment: dict[str, str]) -> None:
    program = """
c, s, h = Counter("c", "help", ["l", "k"]), Summary("s", "help", ["l"]), Histogram("h", "help", ["l"], buckets=[1, 2])
children = [c.labels("x", "1"), c.labels("x", "2"), c.labels("y", "1")]
for child in children: child.inc(5)
for l in "xy": s.labels(l).observe(2); h.labels(l).observe(1.5)
dead, living = Other(), Other()
for other in (dead, living):
    for line in ("for child in children: child.inc(5)", "s.labels('x').observe(3)", "h.labels('x').observe(9)"): other.do(line)
dead.kill()
assert shown("c_total", l="x", k="1") == 15 and shown("h_count", l="x") == 3 and shown("s_sum", l="x") == 8
c.remove("x", 1); s.remove("x"); h.remove("x")
text = generate_latest().decode()
assert '{l="x"' not in text.replace('k="2",l="x"', ''), text
assert shown("c_total", l="x", k="2") == 15 and shown("h_count", l="y") == 1
living.do("children[0].inc(2)")                     # held for ever by another worker
assert shown("c_total", l="x", k="1") == 2
children[0].inc()                                   # and by the one that removed it
assert shown("c_total", l="x", k="1") == 3
living.do("h.labels('x').observe(1.5)")
assert [shown("h_bucket", l="x", le=le) for le in ("1.0", "2.0", "+Inf")] == [0, 1, 1]
assert shown("h_sum", l="x") == 1.5 and shown("h_count", l="x") == 1
c.remove_by_labels({"l": "x"})
assert shown("c_total", l="x", k="1") is None and shown("c_total", l="x", k="2") is None
assert shown("c_total", l="y", k="1") == 15
assert c.labels("x", "1")._value.get() == 0 and shown("c_total", l="x", k="1") == 0, "asked for anew, it shows at 0"
h.clear()
assert "h_bucket" not in generate_latest().decode() and "# TYPE h histogram" in generate_latest().decode()
living.do("children[2].inc()")
children[2].reset()
assert shown("c_total", l="y", k="1") == 0
living.do("children[2].inc()")
assert shown("c_total", l="y", k="1") == 1
for wrong, error in (((), ValueError), (("a", "b", "c"), ValueError)):
    try: c.remove(*wrong)
    except error: pass
    else: raise AssertionError(wrong)
for wrong, error in ((["l"], TypeError), ({"nope": "x"}, ValueError)):
    try: c.remove_by_labels(wrong)
    except error: pass
    else: raise AssertionError(wrong)
living.kill()
"""
    execute(program, metrics_directory, environment)


def test_info_and_enum_are_removed_and_not_written_again_by_children(metrics_directory: Path, environment: dict[str, str]) -> None:
    program = """
i, e = Info("i", "help", ["l"]), Enum("e", "help", ["l"], states=["a", "b"])
i.labels("x").info({"v": "1"}); e.labels("x").state("b"); i.labels("y").info({"v": "2"})
multiprocess.acquire()
assert shown("i_info", l="x", v="1") == 1 and shown("e", l="x", e="b") == 1
i.remove("x"); e.clear()
other = Other()
other.do("multiprocess.acquire()")
assert shown("i_info", l="x", v="1") is None and shown("e", l="x", e="b") is None
assert shown("i_info", l="y", v="2") == 1
other.do("i.labels('x').info({'v': '3'})")
assert shown("i_info", l="x", v="3") == 1
other.kill()
"""
    execute(program, metrics_directory, environment)


def test_removals_race_with_writers_of_four_processes(metrics_directory: Path, environment: dict[str, str]) -> None:
    program = """
c, h = Counter("c", "help", ["l"]), Histogram("h", "help", ["l"], buckets=[1])
sys.setswitchinterval(1e-5)
shared = mmap.mmap(-1, 64)
done = memoryview(shared).cast("q")
def work(n):
    kept, victim = c.labels("kept"), c.labels("victim")
    while not done[7]:
        kept.inc(); victim.inc(); h.labels("victim").observe(1)
        c.labels(f"{n} {done[n] % 300} {'x' * 200}").inc()
        if done[n] % 10 == 0: c.remove(f"{n} {done[n] % 300} {'x' * 200}")
        done[n] += 1
pids = []
for n in range(4):
    pid = os.fork()
    if not pid:
        work(n)
        os._exit(0)
    pids.append(pid)
last = 0
for _ in range(50):
    c.remove("victim"); h.remove("victim")
    value = shown("c_total", l="kept") or 0
    assert value >= last
    last = value
done[7] = 1
for pid in pids: assert os.waitpid(pid, 0)[1] == 0
assert shown("c_total", l="kept") == sum(done[:4]), (shown("c_total", l="kept"), sum(done[:4]))
c.remove("victim"); h.clear()
assert shown("c_total", l="victim") is None and shown("h_count", l="victim") is None
print(sum(done[:4]))
"""
    assert int(execute(program, metrics_directory, environment)) > 100


def test_an_addition_that_was_half_done_is_removed_too() -> None:
    cells = memoryview(bytearray(16)).cast("d")
    sample = _Edited(cells, 0, was=5.0, value=-0.0)
    for now, after in ((6.0, -0.0), (5.0, -0.0), (1.0, 1.0), (0.0, 0.0), (-0.0, -0.0)):
        cells[0] = now
        sample.look_again()
        assert repr(cells[0]) == repr(after)


def test_bad_files_do_not_stop_a_removal(metrics_directory: Path) -> None:
    import os

    run, worker = Run(metrics_directory), Worker(metrics_directory)
    with worker.running():
        worker.value("counter", "c", "c_total", label="x").inc(1)
    good = (metrics_directory / "counter_s0.db").read_bytes()
    (metrics_directory / "counter_s1.db").write_bytes(b"")
    (metrics_directory / "counter_s2.db").write_bytes(b"abc")
    (metrics_directory / "counter_s3.db").write_bytes(good[: good.index(b'"c_total"') + 30])
    (metrics_directory / "counter_s4.db").symlink_to("counter_s0.db")
    os.mkfifo(metrics_directory / "counter_s5.db")
    (metrics_directory / "counter_s6.db").mkdir()
    (metrics_directory / "counter_77.db").write_bytes(good)
    overwrite(metrics_directory, "c", {"label": "x"})
    assert (metrics_directory / "counter_77.db").read_bytes() == good, "another client's file is not ours to change"
    assert samples(MergedCollector(None, str(metrics_directory)))["c_total", (("label", "x"),)] == 1
    worker.kill()
    run.end()


TEXT = st.lists(
    st.sampled_from(['"', "\\", "[", "]", ",", " ", ":", "{", "}", "f", "l", "ü", "\n", "0", '["f", "', '"l": "']), max_size=8
).map("".join)


@settings(max_examples=500, deadline=None)
@example([("f", '"[', '"[')], '"[')
@given(st.lists(st.tuples(st.sampled_from(["f", "ff"]) | TEXT, TEXT, TEXT), max_size=6), TEXT)
def test_exactly_the_matching_samples_are_found(series: list[tuple[str, str, str]], wanted: str) -> None:
    keys = [json.dumps([family, family, {"l": one, "m": two}, "help"], sort_keys=True) for family, one, two in series]
    result = scan(data := rebuild(scan(len_prefixed(keys)).records))
    for labels in ({"l": wanted}, {"m": wanted, "l": wanted}, {}):
        expected = [
            record.position
            for record, (family, one, two) in zip(result.records, series, strict=True)
            if family == "f" and labels.items() <= {"l": one, "m": two}.items()
        ]
        assert sorted(position for position, _ in _samples(data, "f", labels)) == expected


def len_prefixed(keys: list[str]) -> bytes:
    body = b"".join(encode(key, float(n)) for n, key in enumerate(keys, 1))
    return (len(body) + 8).to_bytes(4, "little") + bytes(4) + body


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=200), st.binary(max_size=20))
def test_any_bytes_can_be_searched(before: bytes, after: bytes) -> None:
    data = before + b'["f", "f_total", {"l": "x"}, ""]' + after
    for position, _ in _samples(data, "f", {"l": "x"}):
        assert position % 8 == 0
        assert position + 16 <= len(data)
