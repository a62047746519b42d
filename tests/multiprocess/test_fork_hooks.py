"""The functions that a fork calls, their order, and the locks that it holds, in four orders of imports that an application may have."""

from __future__ import annotations

import itertools
import json
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pathlib import Path

#: The functions that a fork calls, by their qualified name, and their role. A renamed class or method changes a line here only.
ROLES = {
    "Sampler._pause": "pause the sampler",
    "Sampler._resume": "resume the sampler",
    "Sampler._forget": "forget the sampler's thread",
    "SlotStore.forget": "forget the slot",
    "Election._forget": "forget the roles",
    "ProcessMetrics._forget": "forget the process's metrics",
    "SeriesLog.forget": "forget the log of series",
    "Collectors._forget": "forget the snapshots",
    "MergedCollector._forget": "forget the view",
    "SharedState.forget": "forget the shared states",
}
#: Modules with hooks of their own that `USE` does not import.
OTHERS = ("monitoring.exporter.supervisor",)
PAUSE, RESUME, SLOT = "pause the sampler", "resume the sampler", "forget the slot"

ORDERS = {
    "installed first": ("INSTALL", "VIEW", "BREAKER", "USERS"),
    "view first": ("VIEW", "INSTALL", "BREAKER", "USERS"),
    "breaker first": ("BREAKER", "USERS", "VIEW", "INSTALL"),
    "users first": ("USERS", "BREAKER", "INSTALL", "VIEW"),
}
IMPORTS = {
    "INSTALL": "multiprocess.install(sample_seconds=0.05)",
    "VIEW": "from monitoring.multiprocess import MergedCollector",
    "BREAKER": "from monitoring.breaker import Breaker",
    "USERS": "from monitoring import users",
}
#: A worker that has used everything once. After `install()`, the lock of the default registry is the mutex of forks.
USE = """
from prometheus_client import REGISTRY, Counter
mutex = REGISTRY._lock
counter = Counter("c", "help", ["who"])
counter.labels("parent").inc()
breaker = Breaker("service")
with breaker.call(): pass
table = users.Table(60); table.note(1)
view = MergedCollector(None, os.environ["PROMETHEUS_MULTIPROC_DIR"])
list(view.collect())
"""
#: A forked child that has to end well.
FORK = """
def fork(in_child):
    pid = os.fork()
    if not pid:
        status = 1
        try:
            in_child()
            status = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(status)
    assert os.waitpid(pid, 0)[1] == 0
"""
#: The locks that belong to modules of the library, once each, with a name.
ALL_LOCKS = """
def locks():
    found = {}
    for name, module in list(sys.modules.items()):
        for variable, value in vars(module).items() if name.startswith("monitoring.") else ():
            if isinstance(value, (_thread.LockType, _thread.RLock)): found.setdefault(id(value), (f"{name}.{variable}", value))
    assert id(mutex) in found, found
    return found.values()
"""
#: Notes each function of the library that the main thread enters while it forks, and whether it has the mutex at that moment.
RECORD = """
called = []
def note(frame, event, _):
    if event == "call" and frame.f_globals.get("__name__", "").startswith("monitoring."):
        called.append((frame.f_code.co_qualname, mutex._is_owned()))
def child():
    sys.setprofile(None)
    print(json.dumps({"child": called}), flush=True)
    # A thread of its own, which could not take a lock that this one has.
    def write(): counter.labels("child").inc(); table.note(2)
    thread = threading.Thread(target=write); thread.start(); thread.join(30)
    assert not thread.is_alive(), "a lock is not free in the child"
time.sleep(0.3)  # so that the sampler waits, and is paused
sys.setprofile(note)
fork(child)
sys.setprofile(None)
print(json.dumps({"parent": called}), flush=True)
found = {s.labels["who"]: s.value for m in view.collect() for s in m.samples if s.name == "c_total"}
assert found == {"parent": 1.0, "child": 1.0}, found
assert [t.name for t in threading.enumerate()].count("metrics-sampler") == 1, threading.enumerate()
"""
#: Another thread holds each lock of a module in turn while the process forks: the fork waits, or the child would never get the lock.
WAIT = """
for name, lock in locks():
    held, half_done = threading.Event(), False
    def hold():
        global half_done
        with lock:
            half_done = True
            held.set()
            time.sleep(0.2)
            half_done = False
    def child():
        assert not half_done, f"{name} was held when the process forked"
        def take(): free.append(lock.acquire(blocking=False))
        free = []
        thread = threading.Thread(target=take); thread.start(); thread.join()
        assert free == [True], f"{name} is not free in the child"
    thread = threading.Thread(target=hold); thread.start(); held.wait()
    fork(child)
    thread.join()
    assert lock.acquire(timeout=30), f"{name} is not free in the parent"
    lock.release()
"""
#: While a fork waits for the mutex it has no other lock of the core: a thread that has the mutex may want that one.
MUTEX_FIRST = """
def hold():
    with mutex:
        held.set()
        time.sleep(0.2)
        for name, lock in locks():
            if name.startswith("monitoring.multiprocess.") and not lock.acquire(blocking=False): taken.append(name)
            elif name.startswith("monitoring.multiprocess."): lock.release()
taken, held = [], threading.Event()
thread = threading.Thread(target=hold); thread.start(); held.wait()
fork(lambda: None)
thread.join()
assert not taken, f"taken before the mutex: {taken}"
"""


#: An error in a hook is reported, and the fork goes on: the mutex is taken before it and free after it.
FAILING = """
from monitoring.multiprocess.linux import fork as forks
errors = []
sys.unraisablehook = lambda found: errors.append(found.exc_type)
def pause(): raise ZeroDivisionError
forks.pause_across(pause, lambda: None)
def child():
    thread = threading.Thread(target=counter.labels("child").inc); thread.start(); thread.join(30)
    assert not thread.is_alive(), "the mutex is not free in the child"
fork(child)
assert errors == [ZeroDivisionError], errors
assert not mutex._is_owned()
"""
#: A SIGINT is pending when the process forks. It is raised in the first hook that is a Python function, and the others are called.
INTERRUPTED = """
import ctypes, functools, signal
from monitoring.multiprocess.linux import fork as forks
signal.signal(signal.SIGINT, signal.default_int_handler)
errors, called = [], []
sys.unraisablehook = lambda found: errors.append(found.exc_type)
forks.pause_across(lambda: None, lambda: called.append("resumed"))
forks.forget_in_child(lambda: called.append("forgotten"))
# Not a Python function: the interpreter does not look for signals before the next one.
os.register_at_fork(before=functools.partial(ctypes.CDLL(None)["raise"], signal.SIGINT))
def child():
    assert (errors, called) == ([KeyboardInterrupt], ["forgotten"]), (errors, called)
    thread = threading.Thread(target=counter.labels("child").inc); thread.start(); thread.join(30)
    assert not thread.is_alive(), "the mutex is not free in the child"
fork(child)
assert (errors, called) == ([KeyboardInterrupt], ["resumed"]), (errors, called)
assert not mutex._is_owned()
"""
#: A thread that has the mutex logs while another one forks, in an application that imports logging after the library.
LOGGING = """
import os, sys, threading, time
assert "logging" not in sys.modules
from monitoring.multiprocess.linux import fork as forks
import logging
held = threading.Event()
def log():
    with forks.mutex:
        held.set()
        time.sleep(0.3)
        logging.getLogger("slow path")
thread = threading.Thread(target=log, daemon=True); thread.start(); held.wait()
pid = os.fork()
if not pid: os._exit(0)
os.waitpid(pid, 0)
thread.join()
"""


def execute(program: str, directory: Path, environment: dict[str, str], order: tuple[str, ...]) -> dict[str, list[list[object]]]:
    """Run a worker that imports in this order; return what it has printed."""
    start = ["import json, os, sys, _thread, threading, time, traceback", "from monitoring import multiprocess"]
    start += [IMPORTS[name] for name in order] + [f"import {module}" for module in OTHERS]
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", "\n".join([*start, USE, FORK, ALL_LOCKS, program])],
        env={**environment, "PROMETHEUS_MULTIPROC_DIR": str(directory)},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    return {key: value for line in done.stdout.splitlines() for key, value in json.loads(line).items()}


def roles(called: list[list[object]]) -> list[tuple[str, bool]]:
    """Return the roles in the order of their calls, each with whether the mutex was held; neighbours of one role count once."""
    found = [(ROLES[str(name)], bool(owned)) for name, owned in called if name in ROLES]
    return [role for role, _ in itertools.groupby(found)]


@pytest.mark.parametrize("order", ORDERS.values(), ids=ORDERS)
def test_order_of_the_hooks(metrics_directory: Path, environment: dict[str, str], order: tuple[str, ...]) -> None:
    found = execute(RECORD, metrics_directory, environment, order)
    parent, child = roles(found["parent"]), roles(found["child"])
    assert parent == [(PAUSE, False), (RESUME, False)], "the sampler pauses before the mutex is taken, and resumes after its release"
    assert child[:2] == [(PAUSE, False), (SLOT, False)], "in the child the mutex is free, then the slot is forgotten, then the rest"
    assert sorted(child) == sorted((role, False) for role in ROLES.values() if role != RESUME)


@pytest.mark.parametrize("order", ORDERS.values(), ids=ORDERS)
def test_a_fork_waits_for_every_lock_of_a_module(metrics_directory: Path, environment: dict[str, str], order: tuple[str, ...]) -> None:
    execute(WAIT, metrics_directory, environment, order)


@pytest.mark.parametrize("order", ORDERS.values(), ids=ORDERS)
def test_a_fork_takes_the_mutex_first(metrics_directory: Path, environment: dict[str, str], order: tuple[str, ...]) -> None:
    execute(MUTEX_FIRST, metrics_directory, environment, order)


def test_a_pause_that_fails_does_not_disturb_a_fork(metrics_directory: Path, environment: dict[str, str]) -> None:
    execute(FAILING, metrics_directory, environment, ORDERS["installed first"])


def test_an_interrupt_does_not_disturb_a_fork(metrics_directory: Path, environment: dict[str, str]) -> None:
    execute(INTERRUPTED, metrics_directory, environment, ORDERS["installed first"])


def test_a_fork_waits_for_the_mutex_without_a_lock_of_logging(environment: dict[str, str]) -> None:
    subprocess.run([sys.executable, "-W", "error", "-c", LOGGING], env=environment, check=True, timeout=30)
