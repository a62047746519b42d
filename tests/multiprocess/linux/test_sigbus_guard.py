"""A mapped file that is truncated at the moment at which it is read ends no process."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from tests.conftest import ROOT

if TYPE_CHECKING:
    from pathlib import Path

TRUNCATE = """
import os, sys
for _ in range(20000):
    os.truncate(sys.argv[1], 0)
    os.truncate(sys.argv[1], 1 << 20)
"""
READ = f"""
TRUNCATE = {TRUNCATE!r}
"""
READ += """
import os, subprocess, sys
from monitoring.multiprocess.linux.readonly_mapping import ReadOnlyMapping
from monitoring.multiprocess.merge.vectors import vectors
if len(sys.argv) > 2:
    from monitoring.multiprocess.linux import sigbus_guard
    sigbus_guard._install = lambda: None
path, ours = sys.argv[1], vectors()
places = ours.places([8 + 128 * number for number in range(1, 8001)])
values = ours.blank(8000)
open(path, "wb").write(b"x" * (1 << 20))
other = subprocess.Popen([sys.executable, "-c", TRUNCATE, path])
reads = cut = 0
try:
    while other.poll() is None:
        with open(path, "rb") as file:
            mapping = ReadOnlyMapping(file.fileno(), 1 << 20)
        words = ours.words(mapping.memory)
        for _ in range(20):
            keys = ours.read(words, places, values)
            reads += 1
            cut += int(keys[-1] == 0)
        del words
finally:
    other.kill()
    other.wait()
print(reads, cut)
"""


def read(path: Path, environment: dict[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", READ, str(path), *arguments],
        env=environment,
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )


def test_truncation_while_it_is_read(metrics_directory: Path, environment: dict[str, str]) -> None:
    done = read(metrics_directory / "file", environment)
    assert done.returncode == 0, done.stderr
    reads, cut = map(int, done.stdout.split())
    assert reads > cut > 0


def test_without_the_guard_it_would_have_ended(metrics_directory: Path, environment: dict[str, str]) -> None:
    done = read(metrics_directory / "file", environment, "unguarded")
    assert done.returncode == -7, (done.returncode, done.stderr)


def test_any_other_bus_error_is_left_alone(metrics_directory: Path, environment: dict[str, str]) -> None:
    program = """
import mmap, os, sys
from monitoring.multiprocess.linux.readonly_mapping import ReadOnlyMapping
with open(sys.argv[1], "wb+") as file:
    file.write(b"x" * 8192)
    file.flush()
    ours = ReadOnlyMapping(file.fileno(), 8192)
    theirs = mmap.mmap(file.fileno(), 8192)
    os.truncate(sys.argv[1], 0)
    print(ours.memory[0], flush=True)
    theirs[0]
"""
    done = subprocess.run(
        [sys.executable, "-c", program, str(metrics_directory / "file")],
        env=environment,
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.stdout, done.returncode) == ("0\n", -7), done.stderr


@pytest.mark.parametrize("handler", ["ours", "of somebody else"])
def test_a_view_survives_a_file_of_which_whole_pages_are_cut_off(
    handler: str, metrics_directory: Path, environment: dict[str, str]
) -> None:
    program = """
import faulthandler, os, sys
from pathlib import Path
from tests.multiprocess.simulated_workers import Run, Worker, own, samples
from monitoring.multiprocess import MergedCollector
directory = Path(sys.argv[1])
joined, worker, view = Run(directory), Worker(directory), MergedCollector(None, sys.argv[1])
for number in range(500):
    with worker.running():
        worker.value("counter", "c", "c_total", label=str(number)).inc(number)
own(view)
before = own(view)
if sys.argv[2] != "ours":
    faulthandler.enable()
for size in (40000, 20000, 4096, 0):
    os.truncate(directory / "counter_s0.db", size)
    assert own(view) == before, size
print(*(reason[0][1] for (name, reason), value in samples(view).items() if name == "multiproc_bad_files" and value))
"""
    done = subprocess.run(
        [sys.executable, "-c", program, str(metrics_directory), handler],
        env=environment,
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, "empty\n"), done.stderr
