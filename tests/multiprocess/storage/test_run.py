"""Runs: who clears the directory, when, and that a view sees it as one step."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING, Any

from monitoring.multiprocess import MergedCollector
from monitoring.multiprocess.linux import file_lock
from monitoring.multiprocess.storage import lock_file, run, slot_lease
from tests.multiprocess.simulated_workers import Run, Worker, own

if TYPE_CHECKING:
    from pathlib import Path

    import pytest

COUNT = """
import os, sys
from monitoring import multiprocess
multiprocess.install()
from prometheus_client import Counter
counter = Counter("c", "help")
"""


def count(worker: Worker, amount: float = 1) -> None:
    with worker.running():
        worker.value("counter", "c", "c_total").inc(amount)


def total(view: MergedCollector) -> float | None:
    return own(view).get(("c_total", ()))


def test_nobody_clears_while_somebody_lives(metrics_directory: Path) -> None:
    first, worker = Run(metrics_directory), Worker(metrics_directory)
    count(worker, 5)
    first.end()
    second = Run(metrics_directory)  # a new master beside an orphan
    view = MergedCollector(None, str(metrics_directory))
    assert total(view) == 5
    worker.kill()
    third = Run(metrics_directory)  # the second one holds the run byte
    assert total(view) == 5
    second.end()
    third.end()
    generation = run.read(metrics_directory).generation
    last = Run(metrics_directory)
    assert run.read(metrics_directory).generation == generation + 1
    assert total(view) is None
    last.end()


def test_a_clearing_that_was_cut_off_shows_nothing_and_is_completed(metrics_directory: Path) -> None:
    first, worker = Run(metrics_directory), Worker(metrics_directory)
    count(worker, 5)
    view = MergedCollector(None, str(metrics_directory))
    assert total(view) == 5
    worker.kill()
    record = json.loads((metrics_directory / "run.json").read_text())
    (metrics_directory / "run.json").write_text(json.dumps({**record, "generation": record["generation"] + 1, "state": "clearing"}))
    assert total(view) is None, "none of the old run, as its files may be half gone"
    heir = Worker(metrics_directory)
    assert total(view) is None
    count(heir, 1)
    assert total(view) == 1
    heir.kill()
    first.end()


def test_a_view_that_reads_during_a_clearing_starts_again(metrics_directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = Run(metrics_directory)
    workers = [Worker(metrics_directory) for _ in range(3)]
    for worker in workers:
        count(worker, 1)
    view = MergedCollector(None, str(metrics_directory))
    assert total(view) == 3
    for worker in workers:
        worker.kill()
    first.end()
    refresh, reads = view._sources.refresh, []

    def clear_half_way(keys: Any) -> Any:
        result = refresh(keys)
        if not reads:
            reads.append(Run(metrics_directory))
        return result

    monkeypatch.setattr(view._sources, "refresh", clear_half_way)
    assert total(view) is None
    reads[0].end()


def test_workers_of_one_living_supervisor_never_clear(metrics_directory: Path, environment: dict[str, str]) -> None:
    program = (
        COUNT
        + """
import multiprocessing
def work(amount):
    counter.inc(amount)
    os.kill(os.getpid(), 9)
if __name__ == "__main__":
    pass
"""
    )
    script = metrics_directory / "script.py"
    script.write_text(
        "import multiprocessing, os, sys\n"
        "def work(amount):\n"
        "    from monitoring import multiprocess\n    multiprocess.install()\n"
        "    from prometheus_client import Counter\n    Counter('c', 'help').inc(amount)\n    os.kill(os.getpid(), 9)\n"
        "if __name__ == '__main__':\n"
        "    for _ in range(4):\n"
        "        child = multiprocessing.get_context('spawn').Process(target=work, args=(2,))\n"
        "        child.start(); child.join()\n"
    )
    assert program
    where = metrics_directory / "metrics"
    where.mkdir(mode=0o700)
    for expected in (8, 8):
        subprocess.run([sys.executable, str(script)], env={**environment, "PROMETHEUS_MULTIPROC_DIR": str(where)}, check=True, timeout=120)
        view = MergedCollector(None, str(where))
        assert total(view) == expected, "four workers of one supervisor count together, another supervisor starts anew"


def test_forked_children_of_an_installed_process_never_clear(metrics_directory: Path, environment: dict[str, str]) -> None:
    program = (
        COUNT
        + """
for _ in range(3):
    pid = os.fork()
    if not pid:
        counter.inc(2)
        os.kill(os.getpid(), 9)
    os.waitpid(pid, 0)
"""
    )
    subprocess.run(
        [sys.executable, "-c", program], env={**environment, "PROMETHEUS_MULTIPROC_DIR": str(metrics_directory)}, check=True, timeout=120
    )
    assert total(MergedCollector(None, str(metrics_directory))) == 6


def test_a_lease_outlives_its_descriptors_but_not_its_process(metrics_directory: Path, environment: dict[str, str]) -> None:
    program = (
        COUNT
        + """
counter.inc()
os.closerange(3, 1000)
print("ready", flush=True)
sys.stdin.read()
"""
    )
    child = subprocess.Popen(
        [sys.executable, "-c", program],
        env={**environment, "PROMETHEUS_MULTIPROC_DIR": str(metrics_directory)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    try:
        assert child.stdout is not None
        assert child.stdout.readline() == b"ready\n"
        assert slot_lease.living_slots(metrics_directory) == ({0}, {0})
    finally:
        child.kill()
        child.communicate(timeout=60)
    assert slot_lease.living_slots(metrics_directory) == (set(), set())


def test_held_bytes_finds_every_lease(metrics_directory: Path) -> None:
    fds = []
    for n in (0, 1, 2, 7, 100, 4097):
        fd = lock_file.open_lock_file(metrics_directory)
        assert file_lock.try_lock(fd, n)
        fds.append(fd)
    asking = lock_file.open_lock_file(metrics_directory, write=False)
    assert file_lock.held_bytes(asking, 0, lock_file.SLOTS) == {0, 1, 2, 7, 100, 4097}
    for fd in (*fds, asking):
        os.close(fd)
