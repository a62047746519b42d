"""Workers that are killed within milliseconds of their first write.

One parent that holds no slot forks `count` children, `at_once` alive together. A child increments as
fast as it can and acknowledges each increment by a byte; the parent kills it after a random time that
is counted from the child's last step before its first write. Prints acknowledged increments.
"""

# ruff: noqa: E402 - install() comes before anything that imports prometheus_client
from __future__ import annotations

import os
import random
import select
import signal
import sys
import time

from monitoring import multiprocess

multiprocess.install()  # before prometheus_client can be imported

from prometheus_client import Counter, Gauge, Histogram

COUNTER = Counter("early_things", "Things.")
HISTOGRAM = Histogram("early_sizes", "Sizes.", buckets=(1, 2, 5))
ALIVE = Gauge("early_alive", "Living children.", multiprocess_mode="livesum")


def child(acknowledge: int) -> None:
    """Count until killed."""
    os.write(acknowledge, b"!")
    while True:
        COUNTER.inc()
        HISTOGRAM.observe(1.5)
        os.write(acknowledge, b".")
        ALIVE.set(1)


def main() -> None:
    """Kill, and tell what was acknowledged."""
    count, at_once = map(int, sys.argv[1:])
    acknowledged = 0
    for _ in range(count // at_once):
        children: dict[int, int] = {}
        for _ in range(at_once):
            reader, writer = os.pipe()
            pid = os.fork()
            if pid == 0:
                os.close(reader)
                child(writer)
            os.close(writer)
            children[reader] = pid
        for reader, pid in children.items():
            select.select([reader], [], [], 60)
            time.sleep(random.uniform(0, 0.004))
            os.kill(pid, signal.SIGKILL)
        for reader, pid in children.items():
            os.waitpid(pid, 0)
            with os.fdopen(reader, "rb") as pipe:
                acknowledged += pipe.read().count(b".")
    print(acknowledged, flush=True)


if __name__ == "__main__":
    main()
