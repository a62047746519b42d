"""What a start costs: seconds until the service is ready, of wall and of CPU per process, and the memory of a worker.

Each round starts the real service, as `gunicorn -c gunicorn_conf.py app.main:app` does, once for each variant, every other round
backwards; a line shows medians over the rounds. PSS counts a page that several processes share as their share of it.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

from _fleet import ROOT, environment
from _service import service

if TYPE_CHECKING:
    from _service import Service

VARIANTS = {
    "default": {},
    "preloaded": {"PRELOAD": "1"},
    "models elsewhere (RYOT_BASE_URL)": {"RYOT_BASE_URL": "http://127.0.0.1:1/v1"},
    "a vault with a key": {"VAULT_KEY_FILE": "vault.key"},
}
_TICKS = os.sysconf("SC_CLK_TCK")
_QUIET_SECONDS = 0.3
_MIB = 1024 * 1024


def main() -> None:
    """Measure and print."""
    options = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    options.add_argument("--rounds", type=int, default=5)
    options.add_argument("--workers", type=int, default=2)
    chosen = options.parse_args()
    found: dict[str, list[tuple[float, ...]]] = {name: [] for name in VARIANTS}
    for number in range(chosen.rounds):
        for name in list(VARIANTS)[:: 1 if number % 2 else -1]:
            found[name].append(start(VARIANTS[name], chosen.workers))
    print(f"Python {sys.version.split()[0]}, {chosen.workers} workers, medians of {chosen.rounds} starts\n")
    print(f"{'variant':<34} {'ready s':>8} {'CPU s':>7} {'RSS MiB':>8} {'PSS MiB':>8}   per worker")
    for name, values in found.items():
        wall, cpu, rss, pss = (statistics.median(column) for column in zip(*values, strict=True))
        print(f"{name:<34} {wall:>8.2f} {cpu:>7.2f} {rss:>8.1f} {pss:>8.1f}")


def start(variant: dict[str, str], workers: int) -> tuple[float, float, float, float]:
    """Give seconds until the first answer, CPU seconds of all processes over the workers, and RSS and PSS of the median worker in MiB."""
    memory = Path("/dev/shm")
    folder = Path(tempfile.mkdtemp(prefix="bench-", dir=memory if os.access(memory, os.W_OK) else None))
    metrics = folder / "metrics"
    metrics.mkdir(mode=0o700)
    chosen = {name: str(folder / value) if name == "VAULT_KEY_FILE" else value for name, value in variant.items()}
    try:
        if "VAULT_KEY_FILE" in chosen:
            subprocess.run(
                [sys.executable, "-m", "app.vault", "create"], cwd=ROOT, env=environment(**chosen), check=True, stdout=subprocess.DEVNULL
            )
        ready = environment(DATA_DIR=str(folder))  # what only the first start of all costs
        subprocess.run([sys.executable, "-m", "app.migrate"], cwd=ROOT, env=ready, check=True, stdout=subprocess.DEVNULL)
        began = time.perf_counter()
        with service(metrics, workers, DATA_DIR=str(folder), **chosen) as served:
            wall = time.perf_counter() - began
            pids = settled(served, workers)
            cpu = sum(map(cpu_seconds, [served.process.pid, *pids])) / workers
            memories = sorted(map(memory_of, pids))
            return wall, cpu, *memories[len(memories) // 2]
    finally:
        shutil.rmtree(folder)


def settled(served: Service, workers: int) -> list[int]:
    """Wait until every worker has finished its start, after which it uses no CPU, and give their pids."""
    last: list[float] = []
    while True:
        pids = sorted(served.workers())
        used = [cpu_seconds(pid) for pid in pids]
        if len(pids) == workers and used == last:
            return pids
        last = used
        time.sleep(_QUIET_SECONDS)


def cpu_seconds(pid: int) -> float:
    """Give the seconds of CPU that a process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS


def memory_of(pid: int) -> tuple[float, float]:
    """Give RSS and PSS of a process, in MiB."""
    lines = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:])
    rss, pss = (int(lines[name].split()[0]) * 1024 / _MIB for name in ("Rss", "Pss"))
    return rss, pss


if __name__ == "__main__":
    main()
