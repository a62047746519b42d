"""What `labels()` costs under the cap: `python benchmarks/labels.py` prints ratios to prometheus-client's own, and what a refusal costs.

Two processes in multiprocess mode, ours and upstream's, take turns in short rounds; each round's CPU times make one ratio. A refused label
set is compared with the new series that upstream makes of it, and with a known one of ours.
"""

from __future__ import annotations

import argparse
import gc
import itertools
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

from _report import Report

if TYPE_CHECKING:
    from collections.abc import Callable

    from prometheus_client import Counter

ROOT = Path(__file__).resolve().parent.parent
CAP = 100


def main() -> None:
    """Measure and print."""
    options = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    options.add_argument("--rounds", type=int, default=40)
    options.add_argument("--calls", type=int, default=5000, help="calls of a known label set per round; a tenth of that for new ones")
    options.add_argument("--bar", action="store_true", help="exit with 1 where a figure misses its bar")
    options.add_argument("--serve", choices=["ours", "stock"], help=argparse.SUPPRESS)
    chosen = options.parse_args()
    if chosen.serve:
        serve(chosen.serve)
        return
    report = Report()
    report.head(
        f"labels(), {chosen.rounds} rounds of {chosen.calls} calls (a tenth of that for new and refused ones), microseconds of CPU time"
    )
    ours, stock = Side("ours"), Side("stock")
    try:
        for what, first, second, at_most in (
            ("labels() of a known series, ours / upstream", (ours, "known"), (stock, "known"), 1.0),
            ("labels().inc() of a known series, likewise", (ours, "inc"), (stock, "inc"), 1.0),
            ("a new series, likewise", (ours, "new"), (stock, "new"), None),
            ("a refused label set, ours / new, upstream", (ours, "refused"), (stock, "new"), 1.0),
            ("a refused label set / a known one, ours", (ours, "refused"), (ours, "known"), None),
        ):
            pairs = list(measure(first, second, chosen.rounds, chosen.calls))
            report.ratio(what, [(mine * 1e6, theirs * 1e6) for mine, theirs in pairs], at_most=at_most, milli=False)
    finally:
        for side in (ours, stock):
            side.end()
    sys.exit(report.code(enforced=chosen.bar))


def measure(first: tuple[Side, str], second: tuple[Side, str], rounds: int, calls: int) -> list[tuple[float, float]]:
    """Give each round's seconds per call of both."""
    pairs = []
    for number in range(rounds + 1):
        taken = [0.0, 0.0]
        for at in (0, 1) if number % 2 else (1, 0):
            side, what = (first, second)[at]
            taken[at] = side.run(what, calls if what in {"known", "inc"} else max(1, calls // 10))
        pairs.append((taken[0], taken[1]))
    return pairs[1:]  # the first one warms up


class Side:
    """A process that holds one side's metrics, idle until it is told what to call and how often."""

    def __init__(self, name: str) -> None:
        memory = Path("/dev/shm")
        self._directory = tempfile.mkdtemp(prefix="bench-", dir=memory if os.access(memory, os.W_OK) else None)
        self._process = subprocess.Popen(
            [sys.executable, __file__, "--serve", name],
            env={"PATH": os.environ.get("PATH", ""), "PYTHONPATH": str(ROOT), "PROMETHEUS_MULTIPROC_DIR": self._directory},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def run(self, what: str, calls: int) -> float:
        """Give the seconds that one call took."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(f"{what} {calls}\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"the benchmark's process {self._process.pid} ended; its error is above")
        return float(line)

    def end(self) -> None:
        """End the process and remove its metrics."""
        self._process.kill()
        self._process.communicate()
        shutil.rmtree(self._directory, ignore_errors=True)


def serve(name: str) -> None:
    """Do what each line of stdin says, and print the seconds per call."""
    if name == "ours":
        from monitoring import multiprocess

        multiprocess.install(max_series=1 << 30)
        multiprocess.limit_series("full", CAP)
    from prometheus_client import Counter

    open_, full = Counter("open", "Has room.", ["route", "status"]), Counter("full", "Has none.", ["route", "status"])
    for number in range(CAP):
        open_.labels("/items", str(number)).inc()
        full.labels("/items", str(number)).inc()
    numbers = itertools.count(CAP)
    calls: dict[str, Callable[[int], None]] = {
        "known": lambda count: known(open_, count),
        "inc": lambda count: increment(open_, count),
        "new": lambda count: new(open_, numbers, count),
        "refused": lambda count: new(full, numbers, count),
    }
    gc.collect()
    gc.freeze()
    asked = 0
    for line in sys.stdin:
        what, count = line.split()
        began = time.process_time()
        calls[what](int(count))
        print((time.process_time() - began) / int(count), flush=True)
        if what == "refused":
            asked += int(count)
            assert len(full._metrics) == CAP + 1, "it was refused"
            assert full.labels("_other", "_other")._value.get() == asked, "and counted"


def known(counter: Counter, count: int) -> None:
    """Ask for series that there are."""
    labels = counter.labels
    for number in range(count):
        labels("/items", TEXTS[number % CAP])


def increment(counter: Counter, count: int) -> None:
    """Count in series that there are."""
    labels = counter.labels
    for number in range(count):
        labels("/items", TEXTS[number % CAP]).inc()


def new(counter: Counter, numbers: itertools.count[int], count: int) -> None:
    """Count in series that there are not."""
    labels = counter.labels
    for _ in range(count):
        labels("/items", str(next(numbers))).inc()


TEXTS = [str(number) for number in range(CAP)]

if __name__ == "__main__":
    main()
