"""What former workers leave behind: `python benchmarks/generations.py` compares a service in its 2nd and one in its 200th generation.

Two real services (gunicorn with gunicorn_conf.py, the app preloaded). A generation ends when all its workers have answered requests and are
killed with SIGKILL; the master replaces them. Then both directories are scraped in turn by a fresh and by a warm view, between requests.
"""

from __future__ import annotations

import argparse
import os
import re
import signal
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from _fleet import directory
from _reader import OURS, reader
from _report import Report
from _service import Service, get, service

if TYPE_CHECKING:
    from pathlib import Path

BAR = 1.2
_PATIENCE_SECONDS = 60
_PATHS = ("/health/live", "/health/ready", "/openapi.json")
#: Requests at once: enough for a kernel that wakes the same idle worker each time to need the others.
_TOGETHER = 8
#: A worker's first request makes this file, and no worker continues a former one's.
_ANSWERED = "gauge_livesum_s*.db"
#: Batches of requests without a new series, before all workers are believed to have all of theirs.
_QUIET = 8


def main() -> None:
    """Measure, print, and fail above the bar if that was asked for."""
    options = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    options.add_argument("--generations", type=int, nargs=2, default=[2, 200], metavar=("FEW", "MANY"))
    options.add_argument("--workers", type=int, default=4)
    options.add_argument("--rounds", type=int, default=60)
    options.add_argument(
        "--bar", action="store_true", help=f"exit with 1 where a scrape is more than {BAR} times as long, or files are more"
    )
    chosen = options.parse_args()
    few, many = chosen.generations
    report = Report()
    settings = {"PRELOAD": "1", "METRICS_BIND": "", "LOG_LEVEL": "critical"}
    with (
        directory() as young_path,
        directory() as old_path,
        service(young_path, chosen.workers, **settings) as young,
        service(old_path, chosen.workers, **settings) as old,
        ThreadPoolExecutor(_TOGETHER) as clients,
    ):
        began = time.monotonic()
        for served, path, generations in ((young, young_path, few), (old, old_path, many)):
            sent = live(served, path, clients, chosen.workers, generations)
            counted = count(get(served.port, "/metrics"))
            assert counted == sent, f"{counted} of {sent} requests were counted"
        took = time.monotonic() - began
        print(f"Python {sys.version.split()[0]}; {chosen.workers} workers in generation {many} / in generation {few}, after {took:.0f} s")
        compare(report, young_path, old_path, young, old, chosen.rounds)
    sys.exit(report.code(enforced=chosen.bar))


def live(served: Service, path: Path, clients: ThreadPoolExecutor, workers: int, generations: int) -> int:
    """Let generations of workers answer requests and die, all but the last; give the number of requests that were answered."""
    sent = 1  # the one that showed that the service is up
    everybody = replaced(served, workers, set())
    for _ in range(generations - 1):
        sent += ask_all(served, path, clients, workers)
        for pid in everybody:
            os.kill(pid, signal.SIGKILL)
        everybody = replaced(served, workers, everybody)
    sent += ask_all(served, path, clients, workers)
    quiet, used = 0, 0
    while quiet < _QUIET:
        sent += ask(served, clients)
        now = sum(int.from_bytes(file.read_bytes()[:4], sys.byteorder) for file in path.glob("*.db"))
        quiet, used = (quiet + 1, used) if now == used else (0, now)
    return sent


def ask_all(served: Service, path: Path, clients: ThreadPoolExecutor, workers: int) -> int:
    """Ask until every worker of this generation has answered; give the number of requests."""
    deadline = time.monotonic() + _PATIENCE_SECONDS
    sent = 0
    while sent == 0 or len(list(path.glob(_ANSWERED))) < workers:
        sent += ask(served, clients)
        if time.monotonic() > deadline:
            raise TimeoutError(f"a worker of the master {served.process.pid} answers nothing")
    return sent


def ask(served: Service, clients: ThreadPoolExecutor) -> int:
    """Ask for each path a few times at once; give the number of requests."""
    paths = [path for path in _PATHS for _ in range(_TOGETHER)]
    return len(list(clients.map(lambda path: get(served.port, path), paths)))


def replaced(served: Service, workers: int, former: set[int]) -> set[int]:
    """Wait until there are as many workers as wanted and none of the former ones; give their pids."""
    deadline = time.monotonic() + _PATIENCE_SECONDS
    while True:
        found = served.workers()
        if len(found) == workers and not found & former:
            return found
        if time.monotonic() > deadline:
            raise TimeoutError(f"the master {served.process.pid} has workers {found} instead of {workers} new ones")
        time.sleep(0.005)


def count(exposition: bytes) -> int:
    """Give how many requests the service says it has answered."""
    return round(sum(map(float, re.findall(rb"^neurectomy_http_requests_total\{.*\} (\S+)$", exposition, re.MULTILINE))))


def compare(report: Report, young_path: Path, old_path: Path, young: Service, old: Service, rounds: int) -> None:
    """Print files, bytes, and the paired scrapes."""
    files = [sorted(path.glob("*.db")) for path in (old_path, young_path)]
    sizes = [sum(file.stat().st_size for file in found) / 1024 for found in files]
    report.figure("files", len(files[0]), f"/ {len(files[1])}", at_most=len(files[1]))
    report.figure("KiB", sizes[0], f"/ {sizes[1]:.0f}", at_most=sizes[1])
    with reader(OURS, old_path) as behind, reader(OURS, young_path) as none:
        behind.warm()
        none.warm()
        pairs: dict[str, list[tuple[float, float]]] = {"warm": [], "cold": []}
        for number in range(rounds):
            taken = {}
            for served, process in ((old, behind), (young, none))[:: 1 if number % 2 else -1]:
                for path in _PATHS:
                    get(served.port, path)
                taken[process] = (process.warm(), process.cold())
            for index, kind in enumerate(pairs):
                pairs[kind].append((taken[behind][index], taken[none][index]))
    for kind, values in pairs.items():
        report.ratio(f"{kind} scrape", values, at_most=BAR)


if __name__ == "__main__":
    main()
