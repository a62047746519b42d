"""`install()` in real processes: what stock metrics do afterwards, in threads, signal handlers, forks, and libraries that came first."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

from prometheus_client.parser import text_string_to_metric_families

from monitoring.multiprocess import MergedCollector

from .simulated_workers import own, samples

if TYPE_CHECKING:
    from pathlib import Path

INSTALL = "import os, sys, signal, threading, time\nfrom monitoring import multiprocess\n"


def execute(program: str, directory: Path, environment: dict[str, str]) -> str:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", INSTALL + program],
        env={**environment, "PROMETHEUS_MULTIPROC_DIR": str(directory)},
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_importing_changes_nothing(metrics_directory: Path, environment: dict[str, str]) -> None:
    program = "assert 'prometheus_client' not in sys.modules\nprint(os.listdir(os.environ['PROMETHEUS_MULTIPROC_DIR']))"
    assert execute(program, metrics_directory, environment) == "[]\n"


def test_declaring_takes_no_slot_and_shows_the_family(metrics_directory: Path, environment: dict[str, str]) -> None:
    program = """
multiprocess.install(); multiprocess.install()
from prometheus_client import Counter, Gauge, Info, generate_latest
c = Counter("c", "of c", ["l"]); c.labels("x"); Gauge("g", "of g"); Info("i", "of i").info({"v": "1"})
print(sorted(os.listdir(os.environ["PROMETHEUS_MULTIPROC_DIR"])))
multiprocess.acquire()
print(generate_latest().decode())
"""
    files, _, text = execute(program, metrics_directory, environment).partition("\n")
    assert files == "['lease.lock', 'run.json', 'series.log']"
    families = {family.name: family for family in text_string_to_metric_families(text)}
    assert families["c"].documentation == "of c"
    assert families["g"].type == "gauge"
    assert not families["g"].samples
    assert families["i_info"].samples[0].labels == {"v": "1"}
    assert [line for line in text.splitlines() if line.startswith("# TYPE")] == sorted(
        {line for line in text.splitlines() if line.startswith("# TYPE")}, key=text.splitlines().index
    )


def test_threads_lose_nothing_while_others_fork(metrics_directory: Path, environment: dict[str, str]) -> None:
    program = """
multiprocess.install()
from prometheus_client import Counter, Histogram
c, h = Counter("c", "help", ["l"]), Histogram("h", "help")
child = c.labels("x")
sys.setswitchinterval(1e-6)
def work(n):
    for i in range(20_000):
        child.inc()
        h.observe(1)
        c.labels(f"new {n} {i % 50}").inc()
threads = [threading.Thread(target=work, args=(n,)) for n in range(4)]
for thread in threads: thread.start()
pids = []
for _ in range(20):
    pid = os.fork()
    if not pid:
        child.inc(); h.observe(1); c.labels("child").inc()
        os._exit(0)
    pids.append(pid)
    time.sleep(0.005)
for pid in pids:
    assert os.waitpid(pid, 0)[1] == 0
for thread in threads: thread.join()
"""
    execute(program, metrics_directory, environment)
    found = own(MergedCollector(None, str(metrics_directory)))
    assert found["c_total", (("l", "x"),)] == 80_020
    assert found["h_count", ()] == 80_020
    assert found["c_total", (("l", "child"),)] == 20
    assert sum(value for (name, labels), value in found.items() if name == "c_total" and "new" in labels[0][1]) == 80_000


def test_a_signal_handler_may_write_at_any_moment(metrics_directory: Path, environment: dict[str, str]) -> None:
    program = """
multiprocess.install()
from prometheus_client import Counter, Histogram
from monitoring.multiprocess.linux import fork
handled = [Counter(f"handled_{n}", "help") for n in range(300)]
new = Counter("handled_new", "help", ["l"])
c = Counter("c", "help", ["l"])
once = c.labels("known")
calls = 0
def handler(signum, frame):
    global calls
    calls += 1
    mine = calls  # another signal may come in here
    (handled[mine % 300] if mine % 50 else new.labels(str(mine))).inc()
signal.signal(signal.SIGALRM, handler)
# At every line and instruction of ours, beginning in the midst of the first lease ...
def everywhere(frame, event, argument):
    if "multiprocess" not in frame.f_code.co_filename: return None
    frame.f_trace_opcodes = True
    if event in ("line", "opcode") and (calls or fork.mutex._is_owned()): signal.raise_signal(signal.SIGALRM)
    return everywhere
sys.settrace(everywhere)
for n in range(12):
    Counter(f"made_{n}", "help").inc()
    once.inc()
sys.settrace(None)
assert calls > 1000, calls
# ... and between those of the interpreter and of the system.
signal.setitimer(signal.ITIMER_REAL, 0.0005, 0.0005)
for n in range(12, 300):
    Counter(f"made_{n}", "help").inc()
    once.inc()
signal.setitimer(signal.ITIMER_REAL, 0)
print(calls)
"""
    calls = int(execute(program, metrics_directory, environment))
    found = own(MergedCollector(None, str(metrics_directory)))
    assert sum(value for (name, _), value in found.items() if name.startswith("handled")) == calls
    assert sum(value for (name, _), value in found.items() if name.startswith("made")) == 300
    assert found["c_total", (("l", "known"),)] == 300


def test_libraries_that_came_first_are_merged_with_what_they_counted(metrics_directory: Path, environment: dict[str, str]) -> None:
    program = """
mode = os.environ.pop("PROMETHEUS_MULTIPROC_DIR")
if {keep}: os.environ["PROMETHEUS_MULTIPROC_DIR"] = mode
from prometheus_client import Counter, Enum, Gauge, Histogram, Info, generate_latest
c = Counter("c", "help", ["l"]); early = c.labels("x"); early.inc(3)
g = Gauge("g", "help", multiprocess_mode="max"); g.set(7)
h = Histogram("h", "help"); h.observe(2)
i = Info("i", "help"); i.info({{"v": "1"}})
e = Enum("e", "help", states=["a", "b"]); e.state("b")
multiprocess.install(mode)
early.inc(); h.observe(2)
pid = os.fork()
if not pid:
    early.inc(); h.observe(2); g.set(5)
    os._exit(0)
os.waitpid(pid, 0)
print(generate_latest().decode())
"""
    for keep in (False, True):
        where = metrics_directory / str(keep)
        where.mkdir(mode=0o700)
        text = execute(program.format(keep=keep), where, environment)
        found = own(MergedCollector(None, str(where)))
        assert found["c_total", (("l", "x"),)] == 5
        assert found["h_count", ()] == 3
        assert found["h_sum", ()] == 6
        assert found["g", ()] == 7
        assert found["i_info", (("v", "1"),)] == 1
        assert found["e", (("e", "b"),)] == 1
        assert found["e", (("e", "a"),)] == 0
        assert text.count("# TYPE c_total counter") == 1
        assert 'c_total{l="x"} 5.0' in text


def test_upstreams_own_exposition_gives_the_merged_view(metrics_directory: Path, environment: dict[str, str]) -> None:
    program = """
multiprocess.install()
import asyncio
from prometheus_client import Counter, REGISTRY, generate_latest, make_asgi_app
c = Counter("c", "help"); d = Counter("d", "help"); c.inc(2); d.inc()
assert REGISTRY.get_sample_value("c_total") == 2
only = generate_latest(REGISTRY.restricted_registry(["c_total"])).decode()
assert "c_total 2.0" in only and "d_total" not in only, only
sent = []
async def send(message): sent.append(message)
async def receive(): return {"type": "http.request"}
asyncio.run(make_asgi_app()({"type": "http", "headers": [], "query_string": b"", "method": "GET", "path": "/"}, receive, send))
assert b"c_total 2.0" in sent[1]["body"]
"""
    execute(program, metrics_directory, environment)


def test_what_is_the_same_in_every_process_and_registry(metrics_directory: Path, environment: dict[str, str]) -> None:
    """The last section of docs/differences.md."""
    program = """
multiprocess.install()
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector, mark_process_dead
from prometheus_client.openmetrics.exposition import generate_latest as openmetrics
c = Counter("c", "help"); h = Histogram("h", "help", buckets=[1]); g = Gauge("g", "help"); Counter("silent", "help", ["l"])
other = CollectorRegistry()
Counter("elsewhere", "help", registry=other).inc(3)
c.inc(1, exemplar={"trace": "1"}); h.observe(0.5, exemplar={"trace": "2"}); g.set(1)
live = Gauge("live", "help", multiprocess_mode="livesum"); live.set(4)
mark_process_dead(os.getpid())
text = generate_latest().decode()
assert "c_total 1.0" in text and 'h_bucket{le="1.0"} 1.0' in text and "live 4.0" in text
assert "elsewhere_total 3.0" in text
assert "# TYPE silent_total counter" in text
assert 'g{pid="s0"} 1.0' in text
from prometheus_client import REGISTRY
for each in (text, openmetrics(REGISTRY).decode(), multiprocess.MergedCollector(None).render(openmetrics=True).decode()):
    assert "_created" not in each and "trace" not in each, each
both = CollectorRegistry(); multiprocess.MergedCollector(both)
assert generate_latest(both).decode().count("# TYPE c_total counter") == 1
upstream = CollectorRegistry(); MultiProcessCollector(upstream)
assert "c_total 1.0" in generate_latest(upstream).decode()
"""
    execute(program, metrics_directory, environment)


def test_elsewhere_than_on_linux_it_warns_and_upstream_stays(metrics_directory: Path, environment: dict[str, str]) -> None:
    program = """
import warnings
here, sys.platform = sys.platform, "darwin"
with warnings.catch_warnings(record=True) as said:
    warnings.simplefilter("always")
    multiprocess.install()
    multiprocess.acquire()
sys.platform = here
assert [str(each.message).partition(" (")[0] for each in said] == ["monitoring.multiprocess needs Linux"]
from prometheus_client import CollectorRegistry, Counter
from prometheus_client.multiprocess import MultiProcessCollector
Counter("c", "help").inc(2)
registry = CollectorRegistry(); MultiProcessCollector(registry)
assert registry.get_sample_value("c_total") == 2
print(*sorted(os.listdir(os.environ["PROMETHEUS_MULTIPROC_DIR"])))
"""
    names = execute(program, metrics_directory, environment).split()
    assert names
    assert all(name.startswith("counter_") and "_s" not in name for name in names), "upstream's own file, and nothing of ours"


def test_a_deploy_that_changes_declarations(metrics_directory: Path, environment: dict[str, str]) -> None:
    old = """
multiprocess.install()
from prometheus_client import Counter, Gauge, Histogram
h = Histogram("h", "old help", buckets=[1, 2, 5])
for v in (0.5, 1.5, 3, 9): h.observe(v)
Gauge("g", "help", multiprocess_mode="max").set(9)
Gauge("turns", "help").set(1)
print("ready", flush=True); sys.stdin.read()
"""
    child = subprocess.Popen(
        [sys.executable, "-c", INSTALL + old],
        env={**environment, "PROMETHEUS_MULTIPROC_DIR": str(metrics_directory)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    try:
        assert child.stdout is not None
        assert child.stdout.readline() == b"ready\n"
        new = """
multiprocess.install()
from prometheus_client import Counter, Gauge, Histogram
h = Histogram("h", "new help", buckets=[2, 4])
h.observe(3)
Gauge("g", "help", multiprocess_mode="sum").set(4)
Counter("turns", "help").inc(2)
"""
        execute(new, metrics_directory, environment)
        view = MergedCollector(None, str(metrics_directory))
        found = samples(view)
        assert {le: found["h_bucket", (("le", le),)] for le in ("2.0", "4.0", "+Inf")} == {"2.0": 2, "4.0": 3, "+Inf": 5}
        assert found["h_count", ()] == 5
        assert found["g", ()] == 4
        assert found["turns_total", ()] == 2
        assert found["multiproc_mixed_samples", (("reason", "mode"),)] == 1
        assert found["multiproc_mixed_samples", (("reason", "type"),)] == 1
        assert b"# HELP h new help" in view.render()
    finally:
        child.kill()
        child.communicate(timeout=60)
