"""A bare process that counts on command: a worker without a server.

Reads commands from stdin, one a line, and answers each with one line on stdout. A test that needs a
worker in a certain state at a certain moment asks here, and needs no timing.
"""

# ruff: noqa: E402 - install() comes before anything that imports prometheus_client
from __future__ import annotations

import os
import sys
import threading

from monitoring import multiprocess

multiprocess.install()  # before prometheus_client can be imported

from prometheus_client import Counter, Gauge, Histogram, Summary


class Writer:
    """The families of one deploy of an application; the second deploy changes what can change."""

    def __init__(self, deploy: int) -> None:
        buckets = (1, 2, 5) if deploy == 1 else (1, 3, 5)
        self.counter = Counter("bare_things", f"Things, deploy {deploy}.", ["kind"])
        self.histogram = Histogram("bare_sizes", f"Sizes, deploy {deploy}.", buckets=buckets)
        self.summary = Summary("bare_times", "Times.")
        self.alive = Gauge("bare_alive", "Living writers.", multiprocess_mode="livesum")
        self.level = Gauge("bare_level", "A level.", multiprocess_mode="sum" if deploy == 1 else "max")

    def inc(self, kind: str = "a", times: str = "1") -> None:
        """Count."""
        for _ in range(int(times)):
            self.counter.labels(kind).inc()

    def observe(self, value: str) -> None:
        """Observe."""
        self.histogram.observe(float(value))
        self.summary.observe(float(value))

    def gauge(self, value: str) -> None:
        """Set both gauges."""
        self.alive.set(1)
        self.level.set(float(value))

    def closefds(self) -> None:
        """Close every descriptor but those that the test talks through."""
        os.closerange(3, 65536)

    def series(self, count: str, width: str = "100") -> None:
        """Make many new series with so long labels, each counted once."""
        for number in range(int(count)):
            self.counter.labels(f"{os.getpid()}-{number}-{'x' * int(width)}").inc()

    def fork(self, kind: str = "forked") -> None:
        """Let a forked child count once, with a child object that was cached before the fork."""
        cached = self.counter.labels(kind)
        forked = os.fork()
        if forked == 0:
            cached.inc()
            os._exit(0)
        os.waitpid(forked, 0)

    def storm(self, forks: str) -> int:
        """Fork while another thread increments; tell how often that thread did."""
        stopping = threading.Event()
        done = 0

        def increment() -> None:
            nonlocal done
            while not stopping.is_set():
                self.counter.labels("thread").inc()
                done += 1

        thread = threading.Thread(target=increment)
        thread.start()
        for _ in range(int(forks)):
            self.fork("storm")
        stopping.set()
        thread.join()
        return done

    def pid(self) -> int:
        """Tell the pid as this process sees it."""
        return os.getpid()


def main() -> None:
    """Obey until stdin ends."""
    writer = Writer(int(sys.argv[1]))
    print("ready", flush=True)
    for line in sys.stdin:
        command, *arguments = line.split()
        print("done", getattr(writer, command)(*arguments), flush=True)


if __name__ == "__main__":
    main()
