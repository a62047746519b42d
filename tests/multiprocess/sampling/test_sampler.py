"""Gauges with a function and the metrics of each process: sampled in every worker, by a thread that is in nobody's way."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from monitoring.multiprocess import MergedCollector
from tests.multiprocess.programs import Programs
from tests.multiprocess.simulated_workers import samples
from tests.processes import wait_until

if TYPE_CHECKING:
    from pathlib import Path


INSTALL = "multiprocess.install(sample_seconds=0.1)\nfrom prometheus_client import Counter, Enum, Gauge, Info, REGISTRY\n"


STAY = "\nprint('up', flush=True); sys.stdin.read()\n"


def series(view: MergedCollector, name: str) -> dict[tuple[tuple[str, str], ...], float]:
    return {labels: value for (found, labels), value in samples(view).items() if found == name}


def test_a_function_is_sampled_in_every_worker(metrics_directory: Path, environment: dict[str, str]) -> None:
    view = MergedCollector(None, str(metrics_directory))
    program = (
        INSTALL
        + """
Gauge("early", "help", multiprocess_mode="livesum").set_function(lambda: {n})
queues = Gauge("queue", "help", ["name"], multiprocess_mode="livesum")
print(sorted(os.listdir(os.environ["PROMETHEUS_MULTIPROC_DIR"])), flush=True)
multiprocess.acquire()
box = [{n}]
child = queues.labels("a"); child.set_function(lambda: box[0])
child.set(1000); child.inc(1000)
queues.labels("slot").set_function(lambda: {n})
print("up", flush=True)
for line in sys.stdin: box[0] = float(line)
"""
    )
    with Programs(metrics_directory, environment) as programs:
        first, second = programs.start(program.format(n=1)), programs.start(program.format(n=20))
        first.wait_for("up")
        second.wait_for("up")
        wait_until(lambda: series(view, "queue").get((("name", "a"),)) == 21, "both workers' samples are summed")
        assert series(view, "early") == {(): 21}
        first.tell("5")
        wait_until(lambda: series(view, "queue").get((("name", "a"),)) == 25, "the next sample is shown")
        second.kill()
        assert series(view, "queue") == {(("name", "a"),): 5, (("name", "slot"),): 1}


def test_the_first_sample_does_not_wait_for_the_next_tick(metrics_directory: Path, environment: dict[str, str]) -> None:
    program = """
multiprocess.install(sample_seconds=3600)
from prometheus_client import CollectorRegistry, Gauge, generate_latest
multiprocess.acquire()
time.sleep(0.3)
late = Gauge("late", "help", multiprocess_mode="livesum")
late.set_function(lambda: 7)
while b"late 7.0" not in generate_latest(): time.sleep(0.01)
late.set(1); late.inc(); late.dec()
assert b"late 7.0" in generate_latest()
# Who collects the gauge itself, as a registry of this process alone does, has the function's word of now.
import itertools
words, local = itertools.count(), CollectorRegistry()
Gauge("local", "help", registry=local).set_function(lambda: next(words))
assert local.get_sample_value("local") < local.get_sample_value("local")
print("shown", flush=True)
"""
    with Programs(metrics_directory, environment) as programs:
        programs.start(program).wait_for("shown")


def test_functions_that_raise_hang_or_talk_nonsense(metrics_directory: Path, environment: dict[str, str]) -> None:
    view = MergedCollector(None, str(metrics_directory))
    program = (
        INSTALL
        + """
from monitoring.multiprocess.sampling import job_runner
job_runner.OVERDUE_SECONDS = 1.0
multiprocess.acquire()
stopped = threading.Event()
answers = {"ok": lambda: 1.0, "raises": lambda: 1.0, "hangs": lambda: 1.0, "nonsense": lambda: 1.0}
def function(name): return lambda: answers[name]()
for mode in ("liveall", "livemax", "livesum", "mostrecent"):
    gauge = Gauge(f"g_{mode}", "help", ["name"], multiprocess_mode=mode)
    for name in answers: gauge.labels(name).set_function(function(name))
print("up", flush=True)
sys.stdin.readline()
beats = 0
def beat():
    global beats
    beats += 1
    return beats
def leave(): raise SystemExit("leave")
answers.update(ok=beat, raises=lambda: 1 / 0, hangs=stopped.wait, nonsense=lambda: "nonsense")
sys.stdin.readline()
stopped.set()
answers.update(raises=leave, nonsense=lambda: 3.0, hangs=lambda: 3.0)
sys.stdin.read()
"""
    )
    with Programs(metrics_directory, environment) as programs:
        worker = programs.start(program)
        worker.wait_for("up")

        def shown(mode: str) -> dict[str, float]:
            found = {dict(labels)["name"]: value for labels, value in series(view, f"g_{mode}").items()}
            return {name: value for name, value in found.items() if value or math.copysign(1.0, value) > 0}  # -0.0 is no sample

        modes = ("liveall", "livemax", "mostrecent")
        wait_until(lambda: all(shown(mode).keys() == {"ok", "raises", "hangs", "nonsense"} for mode in modes), "all answer")
        worker.tell()
        wait_until(lambda: all(shown(mode).keys() == {"ok"} for mode in modes), "what does not answer has no sample")
        wait_until(lambda: {**shown("livesum"), "ok": 0.0} == {"ok": 0, "raises": 0, "hangs": 0, "nonsense": 0}, "nor a part of a sum")
        before = shown("livemax")["ok"]
        wait_until(lambda: shown("livemax")["ok"] > before, "a sound function is called all the time")
        worker.tell()
        wait_until(lambda: all(shown(mode).keys() == {"ok", "hangs", "nonsense"} for mode in modes), "those that answer again are back")
        text = "\n".join(worker.lines)
        assert text.count("ZeroDivisionError") == 4
        assert text.count("SystemExit") == 4
        assert text.count("has not returned") == 4


def test_a_function_that_fails_leaves_what_others_said(metrics_directory: Path, environment: dict[str, str]) -> None:
    """A former holder of the slot set the gauges; its successor's function fails, answers, and fails again."""
    view = MergedCollector(None, str(metrics_directory))
    program = (
        INSTALL
        + """
modes = ("sum", "livesum", "max", "livemax", "min", "livemin", "mostrecent", "livemostrecent", "all", "liveall")
gauges = {mode: Gauge(f"g_{mode}", "help", multiprocess_mode=mode) for mode in modes}
print("up", flush=True)
for line in sys.stdin: exec(line)
"""
    )

    def shown() -> dict[str, float]:
        values = {name.removeprefix("g_"): value for (name, _), value in samples(view).items() if name.startswith("g_")}
        return {mode: value for mode, value in values.items() if not mode.startswith("live")}

    def live() -> set[float]:
        return {value for (name, _), value in samples(view).items() if name.startswith("g_live")}

    with Programs(metrics_directory, environment) as programs:
        programs.start("multiprocess.install()" + STAY).wait_for("up")  # keeps the run from being cleared
        former = programs.start(program)
        former.wait_for("up")
        former.tell("for mode, gauge in gauges.items(): gauge.set(-10 if 'min' in mode else 10)")
        left = {"sum": 10, "max": 10, "min": -10, "mostrecent": 10, "all": 10}
        wait_until(lambda: shown() == left, "the former holder has spoken")
        former.kill()
        heir = programs.start(program)
        heir.wait_for("up")
        heir.tell("asked = 0")
        heir.tell("def function(): global asked; asked += 1; return answer")
        heir.tell("multiprocess.acquire()")
        heir.tell("for gauge in gauges.values(): gauge.set_function(function)")
        heir.tell("while asked < 30: time.sleep(0.01)")
        heir.tell("print('asked', flush=True)")
        heir.wait_for("asked")
        del left["all"]
        assert shown() == left, "a function that never answered takes nothing away"
        assert live() <= {0.0}
        heir.tell("answer = 20")
        wait_until(lambda: shown() == {"sum": 30, "max": 20, "min": -10, "mostrecent": 20, "all": 20}, "it answers")
        heir.tell("answer = -20")
        wait_until(lambda: shown() == {"sum": -10, "max": 10, "min": -20, "mostrecent": -20, "all": -20}, "it answers something else")
        assert live() == {-20}
        heir.tell("del answer")
        wait_until(lambda: shown() == {"sum": 10, "max": 10, "min": -10}, "what it said is gone, and only that")
        assert live() == {0.0}, "nothing in a sum, and no sample otherwise"
        heir.tell("answer = 15")
        wait_until(lambda: shown() == {"sum": 25, "max": 15, "min": -10, "mostrecent": 15, "all": 15}, "it answers again")


def test_what_answers_is_sampled_however_many_hang(metrics_directory: Path, environment: dict[str, str]) -> None:
    view = MergedCollector(None, str(metrics_directory))
    program = (
        INSTALL
        + """
from monitoring.multiprocess.sampling import job_runner
from prometheus_client.core import GaugeMetricFamily
job_runner.OVERDUE_SECONDS = 2.0
stopped = threading.Event()
class Hangs:
    def __init__(self, number): self.number = number
    def collect(self):
        stopped.wait()
        yield GaugeMetricFamily(f"hung_{self.number}", "help", value=1)
class Sound:
    def collect(self): yield GaugeMetricFamily("sound", "help", value=time.monotonic())
for number in range(20): REGISTRY.register(Hangs(number))
REGISTRY.register(Sound())
hanging = Gauge("hanging", "help", ["number"], multiprocess_mode="livemax")
for number in range(20): hanging.labels(str(number)).set_function(lambda: stopped.wait() and 1.0)
Gauge("beat", "help", multiprocess_mode="livemax").set_function(time.monotonic)
multiprocess.acquire()
print("up", flush=True)
sys.stdin.readline(); stopped.set(); sys.stdin.read()
"""
    )

    def value(name: str) -> float:
        return series(view, name).get((), 0.0)

    with Programs(metrics_directory, environment) as programs:
        worker = programs.start(program)
        worker.wait_for("up")
        wait_until(lambda: value("sound") and value("beat"), "sound ones are called although forty hang")
        for _ in range(5):
            sound, beat = value("sound"), value("beat")
            wait_until(lambda sound=sound, beat=beat: value("sound") > sound and value("beat") > beat, "again and again")
        assert not series(view, "hung_0")
        worker.tell()
        wait_until(lambda: len(series(view, "hanging")) == 20 and all(value(f"hung_{n}") for n in range(20)), "all are called again")


def test_forks_with_and_without_the_thread(metrics_directory: Path, environment: dict[str, str]) -> None:
    """Preload, and children of a worker: each samples once it has a slot, and no fork waits or copies a half-done sample."""
    view = MergedCollector(None, str(metrics_directory))
    program = (
        INSTALL
        + """
mine = 1
gauge = Gauge("g", "help", multiprocess_mode="livesum")
gauge.set_function(lambda: mine)
def child(number):
    global mine
    pid = os.fork()
    if not pid:
        mine = number
        multiprocess.acquire()
        print("child", number, flush=True)
        sys.stdin.read()
        os._exit(0)
child(10)
assert not [thread for thread in threading.enumerate() if thread.name == "metrics-sampler"], "a thread without a slot"
multiprocess.acquire()
child(100)
for number in range(200):
    pid = os.fork()
    if not pid: os._exit(len(threading.enumerate()) - 1)
    assert os.waitpid(pid, 0)[1] == 0
print("up", [thread.name for thread in threading.enumerate() if thread.name != "metrics-sample"][1:], flush=True)
sys.stdin.read()
"""
    )
    with Programs(metrics_directory, environment) as programs:
        worker = programs.start(program, "-W", "error")
        worker.wait_for("child 10")
        worker.wait_for("child 100")
        worker.wait_for("up ['metrics-sampler']")
        wait_until(lambda: series(view, "g") == {(): 111}, "parent and children are summed")


def test_it_keeps_no_process_from_ending(metrics_directory: Path, environment: dict[str, str]) -> None:
    program = (
        INSTALL
        + """
Gauge("g", "help").set_function(lambda: threading.Event().wait())
multiprocess.acquire()
time.sleep(0.5)
print("bye", flush=True)
"""
    )
    with Programs(metrics_directory, environment) as programs:
        for _ in range(5):
            worker = programs.start(program, "-W", "error", "-X", "dev")
            assert worker.wait() == 0, worker.lines
            wait_until(lambda worker=worker: "bye" in worker.lines, "its last word")
            assert worker.lines == ["bye"], worker.lines


def test_a_function_set_before_install(metrics_directory: Path, environment: dict[str, str]) -> None:
    view = MergedCollector(None, str(metrics_directory))
    program = """
from prometheus_client import Gauge
Gauge("g", "help", multiprocess_mode="livesum").set_function(lambda: 4)
multiprocess.install(sample_seconds=0.1); multiprocess.acquire()
"""
    with Programs(metrics_directory, environment) as programs:
        programs.start(program + STAY).wait_for("up")
        wait_until(lambda: series(view, "g") == {(): 4}, "it is sampled")


def test_info_and_enum_of_several_workers(metrics_directory: Path, environment: dict[str, str]) -> None:
    """One Info and one state of each label set: what was said last, also by a worker that is gone."""
    view = MergedCollector(None, str(metrics_directory))
    program = (
        INSTALL
        + """
info = Info("build", "help"); state = Enum("phase", "help", ["part"], states=["a", "b", "c"])
info.info({{"version": "{n}", "only_{n}": "x"}})
multiprocess.acquire()
state.labels("p").state("{state}")
print("up", flush=True); sys.stdin.readline()
state.labels("p").state("c"); info.info({{"version": "last"}})
print("again", flush=True); sys.stdin.read()
"""
    )

    def phase() -> dict[str, float]:
        return {dict(labels)["phase"]: value for labels, value in series(view, "phase").items()}

    with Programs(metrics_directory, environment) as programs:
        first = programs.start(program.format(n=1, state="a"))
        first.wait_for("up")
        second = programs.start(program.format(n=2, state="b"))
        second.wait_for("up")
        assert series(view, "build_info") == {(("only_2", "x"), ("version", "2")): 1}
        assert phase() == {"a": 0, "b": 1, "c": 0}
        first.tell()
        first.wait_for("again")
        assert series(view, "build_info") == {(("version", "last"),): 1}
        assert phase() == {"a": 0, "b": 0, "c": 1}
        first.kill()
        assert series(view, "build_info") == {(("version", "last"),): 1}
        third = programs.start(program.format(n=3, state="a"))
        third.wait_for("up")
        assert series(view, "build_info") == {(("only_3", "x"), ("version", "3")): 1}
        assert phase() == {"a": 1, "b": 0, "c": 0}
