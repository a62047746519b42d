"""A disk that is full from the start: each file that a start makes fails in turn, in one line, and blocks no later start."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from monitoring.multiprocess import MergedCollector
from tests.conftest import built_environment
from tests.faults.test_full_disk import fill

from .simulated_workers import Run, Worker, count, samples
from .test_install import execute

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

# Imports once, and then starts a process for each line that it is told.
STARTS = r"""
import logging, os, sys
from monitoring import multiprocess
from monitoring.multiprocess.patches import metrics  # imports once, before the forks
logging.basicConfig(format="%(message)s", stream=sys.stdout)
def start():
    try:
        multiprocess.install()
    except ValueError as refused:
        print("REFUSED", refused)
        return
    multiprocess.acquire()
    from prometheus_client import Counter, Gauge, Histogram
    c = Counter("c", "help", ["l"])
    for label in ("x", "y"): c.labels(label).inc()
    Histogram("h", "help").observe(1)
    Gauge("g", "help", multiprocess_mode="max").set(1)
    sys.stdout.write("SERVED\n")
for line in sys.stdin:
    pid = os.fork()
    if not pid:
        try: start()
        except BaseException as error: print("RAISED", type(error), error)
        sys.stdout.flush()
        os._exit(0)
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    if status: print("DIED", status)
    print("ENDED", flush=True)
"""


class Disk:
    """A tmpfs with as little room as a test wants, and a process that starts on it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        environment = built_environment() | {"PROMETHEUS_MULTIPROC_DIR": str(path)}
        self.process = subprocess.Popen(
            [sys.executable, "-c", STARTS],
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def mount(self, option: str, *, again: bool = False) -> None:
        options = f"remount,{option}" if again else f"mode=0700,{option}"
        subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(self.path)], check=True)

    def unmount(self) -> None:
        subprocess.run(["umount", "-l", str(self.path)], check=True)

    def start(self) -> list[str]:
        """Start, write some metrics and end; give what was said."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        lines = []
        while (line := self.process.stdout.readline()) != "ENDED\n":
            assert line, f"it ended after {lines}"
            lines.append(line.rstrip("\n"))
        return lines

    def end(self) -> None:
        self.process.communicate(timeout=60)


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Disk]:
    path = tmp_path / "disk"
    path.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "tmpfs", str(path)], check=False, stderr=subprocess.DEVNULL).returncode:
        assert os.environ.get("CI") != "true", "CI has to mount a tmpfs: run it as root"
        pytest.skip("cannot mount a tmpfs here: needs root")
    subprocess.run(["umount", str(path)], check=True)
    made = Disk(path)
    yield made
    made.end()
    if os.path.ismount(path):
        made.unmount()


def counted(path: Path) -> float | None:
    found = samples(MergedCollector(None, str(path)))
    return sum(value for (name, _), value in found.items() if name == "c_total") if ("h_count", ()) in found else None


ROOM = "size=8m,nr_inodes=1000"
LITTLE = [f"nr_inodes={number}" for number in range(1, 10)] + [f"size={4 * pages}k" for pages in (1, 2, 3, 4, 8, 16, 17, 18, 20, 22, 26)]


def test_every_write_of_a_start_fails_in_turn(disk: Disk) -> None:
    outcomes = set()
    for option in LITTLE:
        disk.mount(option)
        said = disk.start()
        found = [line for line in said if line.partition(" ")[0] in ("SERVED", "REFUSED")]
        assert len(found) == 1, (option, said)
        outcomes.add(found[0].partition(" ")[0])
        for line in said:
            assert line == "SERVED" or str(disk.path) in line, (option, said)
            assert line == "SERVED" or "No space left on device" in line or "wait for room" in line, (option, said)
        disk.mount(ROOM, again=True)
        assert disk.start() == ["SERVED"], option
        assert counted(disk.path) == 2, option
        disk.unmount()
    assert outcomes == {"SERVED", "REFUSED"}


def test_a_cold_start_on_a_full_disk_begins_at_0_all_the_same(disk: Disk) -> None:
    disk.mount("size=2m")
    assert disk.start() == ["SERVED"]
    filler = fill(disk.path)
    assert "SERVED" in disk.start()
    found = counted(disk.path)
    assert found in (None, 0, 2), "none of the old run, and of the new one all that found room"
    filler.unlink()
    assert disk.start() == ["SERVED"]
    assert counted(disk.path) == 2


def test_refused_observations_are_counted_once_there_is_room(disk: Disk) -> None:
    disk.mount("size=2m")
    master = Run(disk.path)
    filler = fill(disk.path)
    worker = Worker(disk.path)
    for _ in range(3):
        count(worker, 1, l="x")
    assert not (disk.path / "counter_s0.db").exists(), "there was room: nothing is proved"
    filler.unlink()
    worker.store._refused.end()
    count(worker, 1, l="x")
    found = samples(MergedCollector(None, str(disk.path)))
    assert found["c_total", (("l", "x"),)] == 1
    assert found["multiproc_dropped_observations_total", (("reason", "no_space"),)] == 3
    worker.kill()
    master.end()


@pytest.mark.parametrize("mode", ["livesum", "sum", "liveall"])
def test_a_gauge_raised_without_room_does_not_fall_below_zero(disk: Disk, mode: str) -> None:
    disk.mount("size=2m")
    master = Run(disk.path)
    filler = fill(disk.path)
    worker = Worker(disk.path)
    under_way, level = (worker.value("gauge", name, name, mode) for name in ("g", "h"))
    with worker.running():
        for _ in range(3):
            under_way.inc(1)
        under_way.inc(-1)
        level.inc(5)
        level.set(7)
    filler.unlink()
    worker.store._refused.end()
    with worker.running():
        under_way.inc(-1)
        level.inc(1)
    found = {name: value for (name, _), value in samples(MergedCollector(None, str(disk.path))).items()}
    assert (found["g"], found["h"]) == (1, 8)
    assert under_way.get() == 1
    worker.kill()
    master.end()


@pytest.mark.parametrize("function", ["posix_fallocate", "fstat", "open"])
def test_a_descriptor_that_is_closed_under_a_writer_costs_nothing(
    function: str, metrics_directory: Path, environment: dict[str, str]
) -> None:
    """As where a program closes all of them just when a thread of ours was about to close one: its number is another file's by then."""
    program = f"""
import errno, os
multiprocess.install()
from prometheus_client import Counter
counter = Counter("a", "a", ["n"])
counter.labels("before").inc()
real = os.{function}
def closed(*arguments, **named):
    os.{function} = real
    raise OSError(errno.EBADF, "Bad file descriptor")
os.{function} = closed
for number in range(2000):
    counter.labels(str(number)).inc()
assert os.{function} is real, "no file was touched: the test proves nothing"
"""
    execute(program, metrics_directory, environment)
    found = samples(MergedCollector(None, str(metrics_directory)))
    assert sum(value for (name, _), value in found.items() if name == "a_total") == 2001
    assert not any(value for (name, _), value in found.items() if name == "multiproc_dropped_observations_total")
