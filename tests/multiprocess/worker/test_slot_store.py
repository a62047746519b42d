"""The slow path of a write under what a process may run into: limits, signals, stopped neighbours, a newer deploy."""

from __future__ import annotations

import errno
import os
import resource
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from monitoring.multiprocess import MergedCollector
from monitoring.multiprocess.linux import file_lock, regular_file
from monitoring.multiprocess.storage import declarations, lock_file, run, slot_lease
from monitoring.multiprocess.storage.declarations import Family
from monitoring.multiprocess.worker.slot_store import Phase
from tests.multiprocess.simulated_workers import Run, Worker, own, samples
from tests.multiprocess.test_install import execute

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


def dropped(directory: Path, reason: str) -> float:
    return samples(MergedCollector(None, str(directory)))["multiproc_dropped_observations_total", (("reason", reason),)]


def test_a_file_that_cannot_grow_refuses_new_series_only(metrics_directory: Path, environment: dict[str, str]) -> None:
    program = """
multiprocess.install()
import resource
from prometheus_client import Counter
c = Counter("c", "help", ["l"])
c.labels("first").inc()
# Room for Python's own objects, and none for a mapping.
holes = [[(n, float(n)) for n in range(200_000)], [bytes(n % 4000 + 600) for n in range(8000)]]
for kind in holes: kind[:] = kind[::200]
in_use = int(open("/proc/self/statm").read().split()[0]) * os.sysconf("SC_PAGESIZE")
resource.setrlimit(resource.RLIMIT_AS, (in_use, resource.RLIM_INFINITY))
made = [c.labels(f"{n} {'x' * 500}") for n in range(40)]
for child in made: child.inc()
c.labels("first").inc()
resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
time.sleep(1.1)  # as long as a refusal is believed
for child in made: child.inc()
"""
    execute(program, metrics_directory, environment)
    found = own(MergedCollector(None, str(metrics_directory)))
    counted = {labels[0][1]: value for (name, labels), value in found.items() if name == "c_total"}
    assert counted.pop("first") == 2
    assert len(counted) == 40, "there is room again"
    refused = dropped(metrics_directory, "no_space")
    assert refused > 0, "the limit refused nothing: the test proves nothing"
    # The library's own series (process_* and the like) may be refused as well, and are counted with them.
    assert sum(counted.values()) < 80 <= sum(counted.values()) + refused


@pytest.fixture
def no_descriptors() -> Iterator[None]:
    """Leave this process no descriptor."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    lowest = os.open(os.devnull, os.O_RDONLY)
    os.close(lowest)
    resource.setrlimit(resource.RLIMIT_NOFILE, (lowest, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.usefixtures("no_descriptors")
def test_without_descriptors_nothing_is_taken_for_missing_or_damaged(metrics_directory: Path) -> None:
    for read in (
        lambda: regular_file.read(metrics_directory / "counter_s0.db"),
        lambda: run.read(metrics_directory),
        lambda: declarations.read(metrics_directory),
        lambda: slot_lease.living_slots(metrics_directory),
    ):
        with pytest.raises(OSError, match="Too many open files"):
            read()


def test_a_lack_of_descriptors_does_not_reset_a_file(metrics_directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    master, worker = Run(metrics_directory), Worker(metrics_directory)
    with worker.running():
        worker.value("counter", "c", "c_total").inc(5)
    worker.kill()
    heir = Worker(metrics_directory)
    heir.store._files.clear()
    opened, refusals = os.open, [metrics_directory / "counter_s0.db"]

    def lacking(path: object, *arguments: int, **more: int) -> int:
        if path in refusals:
            refusals.clear()
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE), path)
        return opened(path, *arguments, **more)  # type: ignore[arg-type]

    with monkeypatch.context() as context, heir.running():
        context.setattr(os, "open", lacking)
        heir.value("counter", "c", "c_total").inc(1)
    assert not refusals
    assert own(MergedCollector(None, str(metrics_directory)))["c_total", ()] == 5
    heir.store._refused.end()
    with heir.running():
        heir.value("counter", "c", "c_total").inc(1)
    assert own(MergedCollector(None, str(metrics_directory)))["c_total", ()] == 6
    heir.kill()
    master.end()


@pytest.mark.parametrize("where", ["slot_lease._clean", "declarations._replace", "ValueFile._publish"])
def test_a_signal_in_the_midst_of_the_slow_path(metrics_directory: Path, environment: dict[str, str], where: str) -> None:
    program = f"""
multiprocess.install()
from prometheus_client import Counter
from monitoring.multiprocess.storage import declarations, lock_file, slot_lease
from monitoring.multiprocess.worker.slot_store import store
from monitoring.multiprocess.storage.value_file import ValueFile
lock_file.WRITER_PATIENCE = 600.0  # a handler that waits for its own thread never ends
handled = Counter("handled", "help", ["l"])
calls = 0
def handler(signum, frame):
    global calls
    calls += 1
    mine = calls  # another signal may come in here
    handled.labels(str(mine)).inc()
    Counter(f"made_{{mine}}", "help").inc()
signal.signal(signal.SIGUSR1, handler)
holder, name = {where.rpartition(".")[0]}, {where.rpartition(".")[2]!r}
original = getattr(holder, name)
def interrupted(*arguments):
    if threading.current_thread() is not threading.main_thread(): return original(*arguments)
    if calls < 6: signal.raise_signal(signal.SIGUSR1)
    result = original(*arguments)
    if calls < 6: signal.raise_signal(signal.SIGUSR1)
    return result
setattr(holder, name, interrupted)
multiprocess.acquire()
c = Counter("c", "help", ["l"])
setattr(holder, name, original)
assert calls, "nothing was interrupted"
slots = slot_lease.living_slots(store.directory)[0]
assert slots == {{0}}, slots
print(calls)
"""
    calls = int(execute(program, metrics_directory, environment))
    found = own(MergedCollector(None, str(metrics_directory)))
    assert sum(value for (name, _), value in found.items() if name == "handled_total") == calls
    assert sum(value for (name, _), value in found.items() if name.startswith("made_")) == calls


def test_any_number_of_values_may_wait_for_the_lease(metrics_directory: Path, environment: dict[str, str]) -> None:
    program = """
multiprocess.install()
from prometheus_client import Counter, Info
i = Info("i", "help", ["l"])
for n in range(3000): i.labels(str(n)).info({"v": "1"})
Counter("c", "help").inc()
"""
    execute(program, metrics_directory, environment)
    found = own(MergedCollector(None, str(metrics_directory)))
    assert found["c_total", ()] == 1
    assert len([name for name, _ in found if name == "i_info"]) == 3000


def test_a_late_declaration_does_not_undo_a_newer_deploy(metrics_directory: Path) -> None:
    master = Run(metrics_directory)
    old, new = Worker(metrics_directory), Worker(metrics_directory)
    old.store.declare(Family("g", "gauge", "old", "max"))
    new.store.declare(Family("g", "gauge", "new", "sum"))
    old.store.declare(Family("late", "counter", "help"))
    declared = declarations.read(metrics_directory)
    assert declared["g"].help == "new"
    assert declared["late"].help == "help"
    old.kill()
    new.kill()
    master.end()


@pytest.mark.parametrize("byte", [lock_file.FAMILIES, lock_file.START])
def test_a_stopped_neighbour_is_waited_for_once(metrics_directory: Path, monkeypatch: pytest.MonkeyPatch, byte: int) -> None:
    master = Run(metrics_directory)
    worker = Worker(metrics_directory)
    if byte == lock_file.START:
        worker.kill()
    stopped = lock_file.open_lock_file(metrics_directory)
    assert file_lock.try_lock(stopped, byte)
    monkeypatch.setattr(lock_file, "WRITER_PATIENCE", 0.05)
    waits: list[int] = []
    lock = file_lock.lock

    def counted(fd: int, start: int, **more: float) -> None:
        waits.append(start)
        lock(fd, start, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(file_lock, "lock", counted)
    with worker.running():
        worker.store.declare(Family("c", "counter", "help"))
        for n in range(5):
            worker.value("counter", "c", "c_total", l=str(n)).inc(1)
    assert waits == [byte], "each wait would stop this process as well"
    os.close(stopped)
    worker.store._refused.end()
    worker.store._silent.end()
    with worker.running():
        worker.value("counter", "c", "c_total", l="after").inc(1)
    found = own(MergedCollector(None, str(metrics_directory)))
    kept = sum(value for (name, _), value in found.items() if name == "c_total")
    assert kept == (1 if byte == lock_file.START else 6)
    assert dropped(metrics_directory, "no_slot") == (5 if byte == lock_file.START else 0)
    assert declarations.read(metrics_directory)["c"].help == "help"
    worker.kill()
    master.end()


@pytest.mark.parametrize(
    "content", [None, b"[" * 100_000, b'{"generation": Infinity, "state": "ready", "supervisor": null}', b"\xff", b"[]"]
)
def test_no_content_of_the_kits_own_files_stops_anybody(
    metrics_directory: Path, environment: dict[str, str], content: bytes | None
) -> None:
    for name in ("run.json", "families.json"):
        if content is None:
            os.mkfifo(metrics_directory / name)
        else:
            (metrics_directory / name).write_bytes(content)
    assert own(MergedCollector(None, str(metrics_directory))) == {}
    program = "multiprocess.install()\nfrom prometheus_client import Counter\nCounter('c', 'help').inc()"
    done = subprocess.run(
        [sys.executable, "-c", f"from monitoring import multiprocess\n{program}"],
        env={**environment, "PROMETHEUS_MULTIPROC_DIR": str(metrics_directory)},
        check=False,
        timeout=120,
    )
    assert done.returncode == 0
    assert own(MergedCollector(None, str(metrics_directory)))["c_total", ()] == 1


def test_the_moments_of_a_lease_have_one_order(metrics_directory: Path) -> None:
    """Whatever the order in which their functions were registered."""
    _run, worker = Run(metrics_directory), Worker(metrics_directory)
    worker.kill()
    called = []
    for phase in reversed(Phase):
        worker.store.hooks.add(phase, lambda phase=phase: called.append(phase))  # type: ignore[misc]
    assert worker.store.acquire()
    taking = [Phase.TAKEN, Phase.ATTACHED, Phase.READY]
    assert called == taking
    with worker.store.undisturbed():
        worker.store.renew(slot_lease.take(metrics_directory), again=False)
    assert called == [*taking, Phase.RENEWED, *taking]
