"""The cap on series: shared by all workers, exact in races, cheap when refused, and it loses no observation."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from monitoring.multiprocess import paths
from monitoring.multiprocess.storage.series_log import OTHER, SeriesLog, identity, label_set
from tests.multiprocess.forked_workers import execute

if TYPE_CHECKING:
    from pathlib import Path

CAPPED = """
multiprocess.limit_series("c_total", 50)
c = Counter("c", "help", ["l"])
def sets(name="c_total"):
    found = [s for m in REGISTRY.collect() for s in m.samples if s.name == name]
    return {s.labels["l"]: s.value for s in found}
def refused(): return shown("multiproc_refused_series_total", family="c") or 0
"""


def test_past_the_cap_label_sets_go_to_the_overflow_series(metrics_directory: Path, environment: dict[str, str]) -> None:
    program = (
        CAPPED
        + """
h = Histogram("h", "help", ["l"]); i = Info("i", "help", ["l"])
other = Other()
for n in range(30): other.do(f"c.labels('{n}').inc()")
for n in range(20, 60): c.labels(str(n)).inc()
assert len(sets()) == 51 and sets()["_other"] == 10 and sum(sets().values()) == 70
assert refused() == 10
c.labels("0").inc(); c.labels(l="0").inc(); other.do("c.labels('59').inc(); c.labels(l='59').inc()")
assert sets()["0"] == 3 and sets()["_other"] == 12 and refused() == 12
assert len(c._metrics) <= 52, "what is refused is not remembered"
c.labels("_other").inc()
assert sets()["_other"] == 13 and refused() == 12
for n in range(60): h.labels(str(n)).observe(1)
assert len(sets("h_count")) == 60, "the cap is one family's"
c.remove("7")
other.do("c.labels('new').inc()")
assert sets()["new"] == 1 and "7" not in sets() and len(sets()) == 51, "what is removed makes room, for anybody"
c.labels("7").inc()
assert sets()["_other"] == 14
c.remove_by_labels({"l": "new"})
c.labels("8").inc()
c.labels("7").inc()
assert sets()["7"] == 1
other.do("c.clear()")
assert sets() == {} and not c.labels("a")._value.get()
for n in range(49): c.labels(f"again {n}").inc()
assert len(sets()) == 50 and "_other" not in sets()
c.labels("too many").inc()
assert len(sets()) == 51
"""
    )
    execute(program, metrics_directory, environment)


def test_races_of_four_processes_around_the_cap(metrics_directory: Path, environment: dict[str, str]) -> None:
    program = (
        CAPPED
        + """
shared = mmap.mmap(-1, 128); seen = memoryview(shared).cast("q")
pids = []
for worker in range(4):
    pid = os.fork()
    if not pid:
        choice = random.Random(worker)
        for n in range(1500):
            child = c.labels(str(choice.randrange(300)))
            child.inc()
            seen[worker] += child._labelvalues == ("_other",)
            seen[worker + 4] += 1
            if {removing} and n % 40 == 0: c.remove(str(choice.randrange(300)))
        os._exit(0)
    pids.append(pid)
while seen[15] < 4:
    if not {removing}: assert len(set(sets()) - {{"_other"}}) <= 50, len(sets())
    for pid in list(pids):
        done, status = os.waitpid(pid, os.WNOHANG)
        if done: pids.remove(pid); assert status == 0; seen[15] += 1
found = sets()
from monitoring.multiprocess.storage import series_log
log = series_log.SeriesLog(__import__('pathlib').Path(os.environ["PROMETHEUS_MULTIPROC_DIR"])); log.follow()
counted = log.known[series_log.identity("c")]
assert len(counted) <= 50
# A child in a worker's hands while another removes its series shows again without being counted anew.
uncounted = [label for label in found if label != "_other" and series_log.label_set({{"l": label}}) not in counted]
assert len(uncounted) <= (8 if {removing} else 0), uncounted
assert refused() == sum(seen[:4]) > 0, (refused(), list(seen))
assert found["_other"] == sum(seen[:4])
if not {removing}: assert len(found) == 51 and sum(found.values()) == 6000
"""
    )
    for removing in (False, True):
        where = metrics_directory / str(removing)
        where.mkdir(mode=0o700)
        execute(program.replace("{removing}", str(removing)).replace("{{", "{").replace("}}", "}"), where, environment)


def test_a_child_that_somebody_removed_is_let_go(metrics_directory: Path, environment: dict[str, str]) -> None:
    program = (
        CAPPED
        + """
import gc, weakref
i = Info("i", "help", ["l"])
other = Other()
other.do("for n in range(40): c.labels(str(n)).inc()")
other.do("kept = c.labels('0')")
for n in range(40): c.remove(str(n))
other.do("c.labels('x')")
other.do("assert set(c._metrics) == {('x',)} and len(c._by_hash) == 1")
other.do("kept.inc(2)")
assert sets() == {"x": 0, "0": 2}
i.labels("x").info({"v": "1"}); other.do("held = i.labels('x'); held.info({'v': '1'})")
i.remove("x")
other.do("c.labels('any'); mine = Other(); mine.do('multiprocess.acquire()'); mine.kill()")
grandchild = Other()                                # forked with nothing of it left
grandchild.do("multiprocess.acquire()")
assert not [s for m in REGISTRY.collect() for s in m.samples if s.name == "i_info"]
"""
    )
    execute(program, metrics_directory, environment)


def test_labels_mean_what_they_mean_upstream(metrics_directory: Path, environment: dict[str, str]) -> None:
    program = """
import enum
c = Counter("c", "help", ["a", "b"])
class Word(str, enum.Enum): X = "x"
class Odd(str): __str__ = lambda self: "odd"
assert c.labels("x", "y") is c.labels(a="x", b="y") is c.labels(b="y", a="x")
assert c.labels(1, None)._labelvalues == ("1", "None")
assert c.labels(Word.X, "y")._labelvalues == (str(Word.X), "y")
assert c.labels(Odd("x"), "y")._labelvalues == ("odd", "y")
assert c.labels(["unhashable"], "y")._labelvalues == ("['unhashable']", "y")
for call in (lambda: c.labels("x"), lambda: c.labels(), lambda: c.labels("x", a="x", b="y"), lambda: c.labels(a="x"),
             lambda: c.labels(a="x", b="y", c="z"), lambda: c.labels("x", "y").labels("x", "y"), lambda: Counter("d", "help").labels("x")):
    try: call()
    except ValueError: pass
    else: raise AssertionError("no ValueError")
"""
    execute(program, metrics_directory, environment)


def test_without_a_cap_and_with_wrong_ones(metrics_directory: Path, environment: dict[str, str]) -> None:
    program = """
c = Counter("c", "help", ["l"])
for n in range(100): c.labels(str(n)).inc()
c.remove("1")
assert shown("c_total", l="99") == 1 and shown("c_total", l="1") is None
assert not os.path.exists(os.path.join(os.environ["PROMETHEUS_MULTIPROC_DIR"], "series.log"))
try: multiprocess.limit_series("c", 0)
except ValueError as error: assert "1 or more" in str(error)
else: raise AssertionError
"""
    execute(program, metrics_directory, environment, install="max_series=0")


@pytest.mark.parametrize("damage", ["unlink()", "write_bytes(b'')", "write_bytes(b'garbage' * 100)", "write_bytes(bytes(4096))"])
def test_a_log_that_is_lost_or_damaged_is_rebuilt_from_the_files(metrics_directory: Path, environment: dict[str, str], damage: str) -> None:
    program = (
        CAPPED
        + f"""
import pathlib
e = Enum("e", "help", ["l"], states=["a", "b"])
e.labels("x").state("b")
for n in range(40): c.labels(str(n)).inc()
c.remove("0")
other = Other()
fresh = pathlib.Path(os.environ["PROMETHEUS_MULTIPROC_DIR"], "aside.log")
path = fresh.with_name("series.log")
if {damage!r} == "unlink()": path.unlink()
else: fresh.{damage}; fresh.rename(path)            # truncating a mapped file is a SIGBUS, as with any
late = Other()
late.do("for n in range(100, 130): c.labels(str(n)).inc()")
assert len(set(sets()) - {{"_other"}}) == 50 and sets()["_other"] == 19, sets()
for n in range(40): other.do(f"c.labels('{{n}}').inc()")
assert sets()["39"] == 2 and sets()["_other"] == 20
late.do("e.labels('x').state('a')")
assert shown("e", l="x", e="a") == 1
"""
    )
    execute(program, metrics_directory, environment)


def test_a_full_disk_costs_new_series_only(metrics_directory: Path, environment: dict[str, str]) -> None:
    program = """
import logging, resource
logging.disable(logging.CRITICAL)
c = Counter("c", "help", ["l"])
first = c.labels("first"); first.inc(); c.labels("_other").inc(0)
# The last series of the first sampling: a sampling that finds no room would stop new series for a second.
while shown("python_gc_collections_total", worker="s0", generation="2") is None: time.sleep(0.01)
limits = resource.getrlimit(resource.RLIMIT_FSIZE)
resource.setrlimit(resource.RLIMIT_FSIZE, (16, limits[1]))
for n in range(10): c.labels(str(n)).inc()
c.labels("first").inc()
assert first._value.get() == 2
resource.setrlimit(resource.RLIMIT_FSIZE, limits)
assert shown("c_total", l="_other") == 10 and shown("multiproc_refused_series_total", family="c") == 10
deadline = time.monotonic() + 60
while c.labels("later")._labelvalues != ("later",): assert time.monotonic() < deadline; time.sleep(0.05)
"""
    execute(program, metrics_directory, environment)


def test_a_cold_start_begins_with_room(metrics_directory: Path, environment: dict[str, str]) -> None:
    program = (
        CAPPED + "for n in range(60): c.labels(f'{os.getpid()} {n}').inc()\nassert len(sets()) == 51 and sets()['_other'] == 10, sets()"
    )
    for _ in range(2):
        execute(program, metrics_directory, environment)


@pytest.fixture
def logs(metrics_directory: Path) -> tuple[SeriesLog, SeriesLog]:
    return SeriesLog(metrics_directory), SeriesLog(metrics_directory)


def test_the_log_is_rewritten_when_most_of_it_is_gone(logs: tuple[SeriesLog, SeriesLog], metrics_directory: Path) -> None:
    one, two = logs
    family = identity("f")
    assert two.add(family, label_set({"l": "kept"}), 10) == (True, [])
    sizes, gone = set(), []
    for n in range(20_000):
        each = label_set({"l": str(n)})
        assert one.add(family, each, 10)[0]
        with one.removing(family, [each]):
            pass
        if n % 999 == 0:
            sizes.add((metrics_directory / paths.SERIES_LOG).stat().st_size)
        if n % 7000 == 0:
            gone += [labels for _, labels in two.add(family, each, 10)[1]]
            gone += [labels for _, labels in two.follow()]
            with one.removing(family, [each]):
                pass
    assert max(sizes) <= 1 << 18
    gone += [labels for _, labels in two.follow()]
    assert {label_set({"l": str(n)}) for n in (0, 7000, 14_000)} <= set(gone), "also what a log that was replaced does not have any more"
    assert two.known[family] == one.known[family] == {label_set({"l": "kept"})}


def test_hashes_tell_families_and_label_sets_apart() -> None:
    sets = [{"l": OTHER}, {"l": "", "m": ""}, {"l": "\ud800"}, {"l": '", "m": "'}, {"m": OTHER}, {"l": "a", "m": "b"}, {"l": "b", "m": "a"}]
    assert len({label_set(each) for each in sets}) == len(sets)
    assert label_set({"a": "1", "b": "2"}) == label_set({"b": "2", "a": "1"})
    assert all(identity(name) % 2 == 0 for name in "abcdefgh")
