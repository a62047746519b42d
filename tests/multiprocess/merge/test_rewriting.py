"""Files are rewritten without what was removed: they stay small, nothing else is lost, and a view tells it from damage."""

from __future__ import annotations

from typing import TYPE_CHECKING

from monitoring.multiprocess import MergedCollector
from monitoring.multiprocess.patches.series_removal import overwrite
from monitoring.multiprocess.storage import lock_file
from monitoring.multiprocess.storage.record_format import scan
from monitoring.multiprocess.storage.value_file import INITIAL_BYTES
from tests.multiprocess.forked_workers import execute
from tests.multiprocess.simulated_workers import Run, Worker, own

if TYPE_CHECKING:
    from pathlib import Path


def test_label_sets_that_come_and_go_do_not_grow_files(metrics_directory: Path, environment: dict[str, str]) -> None:
    program = """
import gc
from monitoring.multiprocess.worker.slot_store import store
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
from monitoring.multiprocess.worker.slot_store import store
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
files = store._files
signal.setitimer(signal.ITIMER_REAL, 0.002, 0.002)
for n in range(300):
    with store.undisturbed():
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
                from monitoring.multiprocess.worker.slot_store import store
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
from monitoring.multiprocess.worker.slot_store import store
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
    with lock_file.alone(metrics_directory, lock_file.EDIT):
        assert not file._rewrite(0)
    assert file._rewrite(0)
    worker.kill()
    run.end()


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
