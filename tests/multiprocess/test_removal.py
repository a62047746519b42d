"""Series that are removed: gone for all workers, dead ones included, at 0 when written again, and files that stay small."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from monitoring.multiprocess import MergedCollector, locks
from monitoring.multiprocess.files import INITIAL_BYTES, ValueFile
from monitoring.multiprocess.records import encode, rebuild, removed, scan
from monitoring.multiprocess.removal import _Edited, _samples, overwrite

from .workers import Run, Worker, own, samples

if TYPE_CHECKING:
    from pathlib import Path

    from monitoring.multiprocess.values import Value

MODES = ["all", "liveall", "min", "livemin", "max", "livemax", "sum", "livesum", "mostrecent", "livemostrecent"]
PRELUDE = """
import atexit, os, random, signal, sys, threading, time, mmap, struct
from monitoring import multiprocess
multiprocess.install(INSTALL)
from prometheus_client import REGISTRY, Counter, Enum, Gauge, Histogram, Info, Summary, generate_latest
def shown(name, **labels): return REGISTRY.get_sample_value(name, labels)

class Other:
    \"\"\"A forked worker that does what it is told.\"\"\"
    def __init__(self):
        told, self.tell = os.pipe()
        self.hear, says = os.pipe()
        self.pid = os.fork()
        if not self.pid:
            with os.fdopen(told) as lines:
                for line in lines:
                    exec(line, globals())
                    os.write(says, b"x")
            os._exit(0)
        atexit.register(self.kill)                  # also where an assertion failed
    def do(self, line):
        os.write(self.tell, line.encode() + b"\\n")
        assert os.read(self.hear, 1) == b"x"
    def kill(self):
        if self.pid: os.kill(self.pid, 9); os.waitpid(self.pid, 0)
        self.pid = 0
"""


def execute(program: str, directory: Path, environment: dict[str, str], install: str = "") -> str:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", PRELUDE.replace("INSTALL", install) + program],
        env={**environment, "PROMETHEUS_MULTIPROC_DIR": str(directory)},
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


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


def test_label_sets_that_come_and_go_do_not_grow_files(metrics_directory: Path, environment: dict[str, str]) -> None:
    program = """
import gc
from monitoring.multiprocess.store import store
c = Counter("c", "help", ["l"]); kept = [c.labels(f"kept {n}") for n in range(20)]
other = Other()
other.do("kept[0].inc()")
for n in range(5000):
    kept[n % 20].inc()
    child = c.labels(f"{n} {'x' * 200}"); child.inc(); c.remove(f"{n} {'x' * 200}")
gc.collect()
assert sum(shown("c_total", l=f"kept {n}") for n in range(20)) == 5001
child.inc(3)                                        # its sample may have been dropped
assert shown("c_total", l=f"4999 {'x' * 200}") == 3
assert len(store._values) < 3000, len(store._values)
files = [os.path.join(os.environ["PROMETHEUS_MULTIPROC_DIR"], f"counter_s{n}.db") for n in range(2)]
print(max(map(os.path.getsize, files)))
with open("/proc/self/maps") as maps: mapped = [line for line in maps if "counter_s1" in line and "rw" in line]
assert len(mapped) < 3, mapped
other.kill()
"""
    assert int(execute(program, metrics_directory, environment)) <= 4 * INITIAL_BYTES


def test_threads_lose_nothing_while_files_are_rewritten(metrics_directory: Path, environment: dict[str, str]) -> None:
    program = """
from monitoring.multiprocess import store as stores
c, g, low = Counter("c", "help"), Gauge("g", "help", multiprocess_mode="sum"), Gauge("low", "help", multiprocess_mode="min")
s = Counter("sig", "help")
churn = Counter("churn", "help", ["l"])
sys.setswitchinterval(1e-6)
signal.signal(signal.SIGALRM, lambda *_: s.inc())
c.inc(); g.set(7); low.set(3)
done = threading.Event()
counts = [1]
def work():
    n = 0
    while not done.is_set(): c.inc(); g.inc(1); g.inc(-1); low.set(3 + n); assert low._value.get() > 2; n += 1
    counts.append(n)
threads = [threading.Thread(target=work) for _ in range(3)]
for thread in threads: thread.start()
files = stores.store._files
signal.setitimer(signal.ITIMER_REAL, 0.002, 0.002)
for n in range(300):
    with stores.store.undisturbed():
        for file in list(files.values()): assert file._rewrite(0)
signal.setitimer(signal.ITIMER_REAL, 0)
done.set()
for thread in threads: thread.join()
assert shown("c_total") == sum(counts), (shown("c_total"), counts)
assert shown("g") == 7 and shown("low") >= 3 and shown("sig_total") > 0
"""
    execute(program, metrics_directory, environment)


def test_killed_while_it_rewrites(metrics_directory: Path, environment: dict[str, str]) -> None:
    program = """
c = Counter("c", "help", ["l"]); kept = c.labels("kept")
shared = mmap.mmap(-1, 16); acknowledged = memoryview(shared).cast("q")
choice = random.Random(5)
rewrites = 0
for turn in range(60):
    pid = os.fork()
    if not pid:
        for n in range(10**9):
            kept.inc(); acknowledged[0] += 1
            c.labels(f"{n} {'x' * 2000}").inc(); c.remove(f"{n} {'x' * 2000}")
            kept.inc(); acknowledged[0] += 1
            if n % 4 == 0:
                from monitoring.multiprocess.store import store
                with store.undisturbed(): rewritten = store._files["counter"]._rewrite(0)
                acknowledged[1] += rewritten
    begun = acknowledged[1]
    while acknowledged[1] == begun: time.sleep(0.001)
    time.sleep(choice.random() * 0.02)
    os.kill(pid, 9); os.waitpid(pid, 0)
    value = shown("c_total", l="kept")
    assert acknowledged[0] <= value <= acknowledged[0] + turn + 1, (turn, value, acknowledged[0])
    assert shown("multiproc_bad_files", reason="corrupt") == 0
print(acknowledged[1])
"""
    assert int(execute(program, metrics_directory, environment)) > 60
    assert len(list(metrics_directory.glob("*_s[0-9]*.db"))) <= 2


def test_a_rewrite_without_room_leaves_the_old_file_in_use(metrics_directory: Path, environment: dict[str, str]) -> None:
    program = """
import resource
from monitoring.multiprocess.store import store
c = Counter("c", "help", ["l"]); kept = [c.labels(f"kept {n}") for n in range(30)]
for child in kept: child.inc()
for n in range(40): c.labels(f"{n} {'x' * 300}").inc(); c.remove(f"{n} {'x' * 300}")
file = store._files["counter"]
before = os.stat(file.path)
limits = resource.getrlimit(resource.RLIMIT_FSIZE)
resource.setrlimit(resource.RLIMIT_FSIZE, (8192, limits[1]))   # the kernel refuses to write more, as a full disk does
assert not file._rewrite(0)
for child in kept: child.inc()
assert all(child._value.attached for child in kept) and not os.path.exists(file._temporary)
assert os.stat(file.path).st_ino == before.st_ino
resource.setrlimit(resource.RLIMIT_FSIZE, limits)
assert file._rewrite(0) and os.stat(file.path).st_ino != before.st_ino
for child in kept: child.inc()
assert [shown("c_total", l=f"kept {n}") for n in range(30)] == [3] * 30
"""
    execute(program, metrics_directory, environment)


def test_a_view_tells_a_rewrite_from_damage(metrics_directory: Path) -> None:
    run, worker = Run(metrics_directory), Worker(metrics_directory)
    view = MergedCollector(None, str(metrics_directory))

    def count(who: Worker, label: str, amount: float) -> None:
        with who.running():
            who.value("counter", "c", "c_total", label=label).inc(amount)

    def shown() -> dict[str, float]:
        return {labels[0][1]: value for (_, labels), value in own(view).items()}

    count(worker, "first", 3)
    count(worker, "last", 4)
    assert shown() == {"first": 3, "last": 4}
    overwrite(metrics_directory, "c", {"label": "last"})
    assert worker.store._files["counter"]._rewrite(0)
    assert shown() == {"first": 3}, "removed and dropped between two scrapes"
    count(worker, "last", 1)
    assert shown() == {"first": 3, "last": 1}
    worker.kill()
    path = metrics_directory / "counter_s0.db"
    content = path.read_bytes()
    path.write_bytes(content[: content.index(b'"last"')])  # damaged, salvaged and rewritten, all between two scrapes
    heir = Worker(metrics_directory)
    count(heir, "first", 1)
    assert heir.store._files["counter"]._rewrite(0)
    assert shown() == {"first": 4, "last": 1}
    overwrite(metrics_directory, "c", {"label": "last"})
    assert shown() == {"first": 4, "last": 1}, "the file lacks it: what a view carries ends when the series is written again"
    count(heir, "last", 2)
    overwrite(metrics_directory, "c", {"label": "last"})
    assert shown() == {"first": 4}
    count(heir, "last", 2)
    assert shown() == {"first": 4, "last": 2}
    heir.kill()
    run.end()


def test_a_removal_is_not_undone_by_damage_that_came_after_it(metrics_directory: Path) -> None:
    run, worker = Run(metrics_directory), Worker(metrics_directory)
    view = MergedCollector(None, str(metrics_directory))
    for label, amount in (("removed", 3), ("lost", 4)):
        with worker.running():
            worker.value("counter", "c", "c_total", label=label).inc(amount)
    assert set(own(view).values()) == {3, 4}
    overwrite(metrics_directory, "c", {"label": "removed"})
    worker.kill()
    path = metrics_directory / "counter_s0.db"
    content = path.read_bytes()
    path.write_bytes(content[: content.index(b'"lost"')])
    heir = Worker(metrics_directory)
    assert own(view) == {("c_total", (("label", "lost"),)): 4}
    heir.kill()
    run.end()


def test_who_removes_and_who_rewrites_wait_for_each_other(metrics_directory: Path) -> None:
    run, worker = Run(metrics_directory), Worker(metrics_directory)
    with worker.running():
        worker.value("counter", "c", "c_total").inc(1)
    file = worker.store._files["counter"]
    with locks.alone(metrics_directory, locks.EDIT):
        assert not file._rewrite(0)
    assert file._rewrite(0)
    worker.kill()
    run.end()


def test_an_addition_that_was_half_done_is_removed_too() -> None:
    cells = memoryview(bytearray(16)).cast("d")
    sample = _Edited(cells, 0, was=5.0, value=-0.0)
    for now, after in ((6.0, -0.0), (5.0, -0.0), (1.0, 1.0), (0.0, 0.0), (-0.0, -0.0)):
        cells[0] = now
        sample.look_again()
        assert repr(cells[0]) == repr(after)


def test_a_new_holder_drops_what_was_removed(metrics_directory: Path) -> None:
    run, former = Run(metrics_directory), Worker(metrics_directory)
    for n in range(100):
        with former.running():
            former.value("counter", "c", "c_total", label=str(n)).inc(1)
    former.kill()
    for n in range(50):
        overwrite(metrics_directory, "c", {"label": str(n)})
    heir = Worker(metrics_directory)
    keys = [record.key for record in scan((metrics_directory / "counter_s0.db").read_bytes()).records]
    assert sum(b'"c_total"' in key for key in keys) == 50
    heir.kill()
    run.end()


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
