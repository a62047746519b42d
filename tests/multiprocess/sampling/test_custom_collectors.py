"""Custom collectors: one process speaks for all, is followed when it is killed, and never holds up an event loop."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from monitoring.multiprocess import MergedCollector, paths
from monitoring.multiprocess.storage import slot_lease
from tests.multiprocess.programs import Program, Programs
from tests.multiprocess.simulated_workers import samples
from tests.processes import wait_until

if TYPE_CHECKING:
    from pathlib import Path


INSTALL = """
multiprocess.install(sample_seconds=0.1)
from prometheus_client import Counter, Gauge, REGISTRY
from prometheus_client.core import GaugeMetricFamily
"""


STAY = "\nprint('up', flush=True)\nsys.stdin.read()\n"


def family(view: MergedCollector, name: str) -> dict[tuple[tuple[str, str], ...], float]:
    return {labels: value for (found, labels), value in samples(view).items() if found == name}


def test_one_speaks_for_all_and_is_followed_when_killed(metrics_directory: Path, environment: dict[str, str]) -> None:
    """Ten kills at the usual pace of 2 s: one series and one value in every scrape, and never an older process's once a newer spoke."""
    view = MergedCollector(None, str(metrics_directory))
    program = """
multiprocess.install()
from prometheus_client import REGISTRY
from prometheus_client.core import GaugeMetricFamily
class Speaker:
    def collect(self):
        yield GaugeMetricFamily("speaker_pid", "Who speaks.", value=os.getpid())
REGISTRY.register(Speaker())
multiprocess.acquire()
"""
    with Programs(metrics_directory, environment) as programs:
        for _ in range(3):
            programs.start(program + STAY).wait_for("up")
        wait_until(lambda: family(view, "speaker_pid"), "somebody speaks")
        gaps = []
        for _ in range(10):
            speaker = family(view, "speaker_pid")[()]
            programs.start(program + STAY).wait_for("up")
            living = [one for one in programs.started if one.process.poll() is None]
            victim = next(one for one in living if one.pid == speaker)
            killed = victim.kill()
            while True:
                shown = family(view, "speaker_pid")
                assert len(shown) == 1, "the series is there all the time, once"
                if shown[()] != speaker:
                    break
                assert time.monotonic() < killed + 60
                time.sleep(0.01)
            gaps.append(time.monotonic() - killed)
            assert shown[()] in [one.pid for one in living]
            assert samples(view)["multiproc_elected", (("role", "collectors"),)] == 1
        print(f"longest gap after kill -9 of the elected process: {max(gaps):.2f} s of {sorted(round(gap, 2) for gap in gaps)}")
        for one in programs.started:
            if one.process.poll() is None:
                one.kill()
        assert not family(view, "speaker_pid"), "nobody is alive: nothing is shown"


def test_a_successor_says_nothing_before_its_collectors_have(metrics_directory: Path, environment: dict[str, str]) -> None:
    """Collectors that take longer than anybody waits for them: what the dead one said stays until the successor's own answer."""
    view = MergedCollector(None, str(metrics_directory))
    program = (
        INSTALL
        + """
class Slow:
    def collect(self):
        time.sleep(1.5)
        yield GaugeMetricFamily("slow_pid", "help", value=os.getpid())
REGISTRY.register(Slow())
multiprocess.acquire()
"""
    )
    with Programs(metrics_directory, environment) as programs:
        first = programs.start(program + STAY)
        wait_until(lambda: family(view, "slow_pid"), "the first has spoken")
        second = programs.start(program + STAY)
        second.wait_for("up")
        first.kill()
        while (shown := family(view, "slow_pid")) == {(): first.pid}:
            time.sleep(0.005)
        assert shown == {(): second.pid}


def test_no_event_loop_waits_for_a_collector(metrics_directory: Path, environment: dict[str, str]) -> None:
    """A heartbeat of 10 ms in a process whose collector sleeps 2 s, and a set_function that never returns."""
    program = (
        INSTALL
        + """
import asyncio
from prometheus_client import generate_latest
calls = []
class Slow:
    def collect(self):
        calls.append(time.monotonic())
        time.sleep(2)
        yield GaugeMetricFamily("slow", "help", value=len(calls))
before = time.monotonic()
REGISTRY.register(Slow())
assert time.monotonic() - before < 1 and not calls, "registering called it"
Gauge("stuck", "help").set_function(lambda: threading.Event().wait())
async def main():
    multiprocess.acquire()
    longest, last = 0.0, time.monotonic()
    while len(calls) < 3:
        await asyncio.sleep(0.01)
        now = time.monotonic()
        longest, last = max(longest, now - last), now
    assert b"slow 1.0" in generate_latest() or b"slow 2.0" in generate_latest()
    print("longest beat", round(longest, 3), flush=True)
    assert longest < 1.0, longest
asyncio.run(main())
print("done", flush=True)
"""
    )
    with Programs(metrics_directory, environment) as programs:
        worker = programs.start(program)
        worker.wait_for("done")


def test_collectors_that_raise_hang_or_talk_nonsense(metrics_directory: Path, environment: dict[str, str]) -> None:
    view = MergedCollector(None, str(metrics_directory))
    program = (
        INSTALL
        + """
from monitoring.multiprocess.sampling import job_runner
job_runner.OVERDUE_SECONDS = 1.0
from prometheus_client.core import Metric
bad = threading.Event(); stopped = threading.Event()
def collector(name, worse):
    class Collector:
        def collect(self):
            if bad.is_set(): worse()
            yield GaugeMetricFamily(name, "help", value=1)
            if name == "mixed":
                yield "no family"
                broken = Metric("broken", "help", "gauge"); broken.add_sample("elsewhere", {}, 1); yield broken
                twice = GaugeMetricFamily("twice", "help"); twice.add_metric([], 1); twice.add_metric([], 2); yield twice
                odd = GaugeMetricFamily("odd", "help", value="text"); yield odd
                clash = GaugeMetricFamily("stock_total", "help", value=666); yield clash
                yield GaugeMetricFamily("mixed", "again", value=7)
    REGISTRY.register(Collector())
collector("ok", lambda: None)
collector("raises", lambda: 1 / 0)
collector("hangs", stopped.wait)
collector("mixed", lambda: None)
Counter("stock", "help").inc(3)
print("up", flush=True); sys.stdin.readline()
bad.set(); sys.stdin.readline()
bad.clear(); stopped.set(); sys.stdin.read()
"""
    )

    def shown() -> set[str]:
        names = {name for name, _ in samples(view) if not name.startswith(("process_", "python_", "multiproc_"))}
        return names - {"stock_total", "stock_created"}

    with Programs(metrics_directory, environment) as programs:
        worker = programs.start(program)
        worker.wait_for("up")
        wait_until(lambda: shown() == {"ok", "raises", "hangs", "mixed"}, "sound families are shown, others left out")
        assert family(view, "mixed") == {(): 1}
        assert family(view, "stock_total") == {(): 3}
        assert view.render().count(b"# TYPE stock_total") == 1
        worker.tell()
        wait_until(lambda: shown() == {"ok", "mixed"}, "what fails shows nothing")
        worker.tell()
        wait_until(lambda: shown() == {"ok", "raises", "hangs", "mixed"}, "and comes back")
        text = "\n".join(worker.lines)
        for cause in (
            "ZeroDivisionError",
            "has not returned",
            "does not belong",
            "comes twice\n",
            "'mixed' comes twice",
            "'odd'",
            "'no family'",
        ):
            assert text.count(cause) == 1, (cause, text)


def test_per_worker_collectors_end_with_their_worker(metrics_directory: Path, environment: dict[str, str]) -> None:
    view = MergedCollector(None, str(metrics_directory))
    program = (
        INSTALL
        + """
class Own:
    def collect(self):
        g = GaugeMetricFamily("own", "help", labels=["worker", "l"]); g.add_metric(["mine", "x"], {n}); yield g
REGISTRY.register(multiprocess.per_worker(Own()))
multiprocess.acquire()
"""
    )

    def shown() -> dict[str, float]:
        return {dict(labels)["worker"]: value for labels, value in family(view, "own").items() if ("exported_worker", "mine") in labels}

    with Programs(metrics_directory, environment) as programs:
        first, second = (programs.start(program.format(n=n) + STAY) for n in (1, 2))
        wait_until(lambda: sorted(shown().values()) == [1, 2], "both say their own")
        assert set(shown()) == {"s0", "s1"}
        assert b"# TYPE own gauge" in view.render()
        first.kill()
        assert list(shown().values()) == [2]
        third = programs.start(INSTALL + "multiprocess.acquire()" + STAY)
        third.wait_for("up")
        assert list(shown().values()) == [2], "the slot's next holder has said nothing"
        second.kill()
        assert not shown()


def test_unregistered_forked_and_registered_before_install(metrics_directory: Path, environment: dict[str, str]) -> None:
    view = MergedCollector(None, str(metrics_directory))
    program = """
from prometheus_client import REGISTRY
from prometheus_client.core import GaugeMetricFamily
class Early:
    def collect(self): yield GaugeMetricFamily("early", "help", value=os.getpid())
early = Early(); REGISTRY.register(early)
multiprocess.install(sample_seconds=0.1)
children = []
for _ in range(2):
    pid = os.fork()
    if not pid:
        multiprocess.acquire(); print("child", os.getpid(), flush=True)
        os.read(0, 1)  # one byte each: a buffered read would take the other child's as well
        REGISTRY.unregister(early); print("unregistered", flush=True); time.sleep(3600)
    children.append(pid)
print("children", *children, flush=True); time.sleep(3600)
"""
    with Programs(metrics_directory, environment) as programs:
        master = programs.start(program)
        wait_until(lambda: any(line.startswith("children") for line in master.lines), "a preloading master forks")
        pids = {float(pid) for pid in next(line for line in master.lines if line.startswith("children")).split()[1:]}
        wait_until(lambda: set(family(view, "early").values()) <= pids and family(view, "early"), "a worker speaks, not the master")
        master.tell()
        master.tell()
        wait_until(lambda: not family(view, "early"), "unregistered: gone")


def test_a_deploy_without_collectors_shows_them_no_longer(metrics_directory: Path, environment: dict[str, str]) -> None:
    view = MergedCollector(None, str(metrics_directory))
    old = (
        "class C:\n    def collect(self): yield GaugeMetricFamily('old', 'help', value=1)\nREGISTRY.register(C())\nmultiprocess.acquire()\n"
    )
    with Programs(metrics_directory, environment) as programs:
        former = programs.start(INSTALL + old + STAY)
        former.wait_for("up")
        wait_until(lambda: family(view, "old"), "the old deploy collects")
        programs.start(INSTALL + "multiprocess.acquire()" + STAY).wait_for("up")
        former.kill()
        assert family(view, "old"), "it stays for a successor"
        wait_until(lambda: not family(view, "old"), "nobody collects it any more")


def test_a_cold_start_clears_snapshots(metrics_directory: Path, environment: dict[str, str]) -> None:
    program = (
        "class C:\n    def collect(self): yield GaugeMetricFamily('old', 'help', value=1)\nREGISTRY.register(C())\nmultiprocess.acquire()\n"
    )
    with Programs(metrics_directory, environment) as programs:
        former = programs.start(INSTALL + program + STAY)
        wait_until((metrics_directory / paths.SHARED_SNAPSHOT).exists, "a snapshot is there")
        former.kill()
        programs.start("multiprocess.install(); multiprocess.acquire()" + STAY).wait_for("up")
        assert not (metrics_directory / paths.SHARED_SNAPSHOT).exists()


def test_the_role_follows_a_stopped_slot_only_when_it_dies(metrics_directory: Path, environment: dict[str, str]) -> None:
    """Both register; the elected one is the one whose value is shown, while both live."""
    view = MergedCollector(None, str(metrics_directory))
    program = (
        INSTALL
        + "class C:\n    def collect(self): yield GaugeMetricFamily('pid', 'help', value=os.getpid())\n"
        + "REGISTRY.register(C())\nmultiprocess.acquire()\n"
    )
    with Programs(metrics_directory, environment) as programs:
        workers: list[Program] = [programs.start(program + STAY) for _ in range(3)]
        for worker in workers:
            worker.wait_for("up")
        wait_until(lambda: family(view, "pid"), "somebody speaks")
        assert len(slot_lease.living_slots(metrics_directory)[1]) == 3
        speaker = family(view, "pid")[()]
        end = time.monotonic() + 2.0  # twenty ticks of three candidates
        while time.monotonic() < end:
            assert family(view, "pid") == {(): speaker}
            time.sleep(0.02)
