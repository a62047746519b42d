"""What decorators add to a call, and a note of a user: `python benchmarks/tracking.py` prints the microseconds, multiprocess mode on.

Each round times the bare function and the decorated one right after the other; the figure is the median of the rounds' differences.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import sys
import tempfile
import timeit
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

ROOT = Path(__file__).resolve().parent.parent
CALLS = 2000


def main() -> None:
    """Measure, print, and fail where a decorator is above the bar that was asked for."""
    options = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    options.add_argument("--rounds", type=int, default=100)
    options.add_argument("--bar", type=float, help="exit with 1 where a decorator adds more microseconds than this")
    chosen = options.parse_args()
    memory = Path("/dev/shm")
    directory = tempfile.mkdtemp(prefix="bench-", dir=memory if os.access(memory, os.W_OK) else None)
    os.environ["PROMETHEUS_MULTIPROC_DIR"] = directory
    sys.path.insert(0, str(ROOT))
    try:
        added = measure(chosen.rounds)
    finally:
        shutil.rmtree(directory, ignore_errors=True)
    print(f"Python {sys.version.split()[0]}, medians of {chosen.rounds} rounds of {CALLS} calls, interleaved with the bare function\n")
    for name, microseconds in added.items():
        print(f"{name:<40} {microseconds:6.2f} us")
    if chosen.bar is not None and max(added.values()) > chosen.bar:
        sys.exit(1)


def measure(rounds: int) -> dict[str, float]:
    """Give the microseconds that each decorator adds to a call."""
    from monitoring import multiprocess

    multiprocess.install()
    from monitoring import metrics
    from monitoring.breaker import Breaker
    from monitoring.users import Table

    def work(data: bytes, model: str = "model") -> bytes:
        del model
        return data

    table = Table(300)

    def noted(data: bytes) -> bytes:
        table.note(len(data))
        return work(data)

    data = bytes(1000)
    tracked: dict[str, Callable[[bytes], bytes]] = {
        "track_ryot_request": metrics.track_ryot_request(work),
        'track_storage_operation("store")': metrics.track_storage_operation("store")(work),
        "track_compression": metrics.track_compression(work),
        "track_decompression": metrics.track_decompression(work),
        "a closed breaker": Breaker("service")(work),
        "a note of a user, and a call": noted,
    }
    added: dict[str, list[float]] = {name: [] for name in tracked}
    for number in range(rounds + 1):
        for name, function in tracked.items():
            bare = timeit.timeit(lambda: work(data), number=CALLS)
            both = timeit.timeit(lambda function=function: function(data), number=CALLS)  # type: ignore[misc]
            if number:  # the first round warms up
                added[name].append((both - bare) / CALLS * 1e6)
    return {name: statistics.median(times) for name, times in added.items()}


if __name__ == "__main__":
    main()
