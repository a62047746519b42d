"""Processes that die at each moment of a failing call that opens a breaker: what each leaves, one line each."""

from __future__ import annotations

import contextlib
import os
import signal
from typing import Any

from monitoring import multiprocess

MOST = 60


class Mortal:
    """A breaker's words and counter, whose process is killed before the n-th write to either."""

    def __init__(self, left: int) -> None:
        self.left = left
        self.words: Any = None
        self.cell: Any = None

    def live(self) -> None:
        """Live through one more moment, or not."""
        if not self.left:
            os.kill(os.getpid(), signal.SIGKILL)
        self.left -= 1

    def __getitem__(self, at: int) -> int:
        return int(self.words[at])

    def __setitem__(self, at: int, value: int) -> None:
        self.live()
        self.words[at] = value

    def inc(self, amount: float) -> None:
        self.live()
        self.cell.inc(amount)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.cell, name)


def main() -> None:
    """For each moment: a process that dies then, and one that asks afterwards."""
    multiprocess.install()
    from monitoring import metrics
    from monitoring.breaker import Breaker, CircuitOpenError, Policy

    def fail(breaker: Breaker) -> None:
        with contextlib.suppress(ValueError, CircuitOpenError), breaker.call():
            raise ValueError

    for moment in range(MOST):
        name = f"service-{moment}"
        pid = os.fork()
        if pid == 0:
            breaker, mortal = Breaker(name, Policy(failures=1, open_seconds=3600)), Mortal(moment)
            # The slot's former holders have counted as well: what the counter shows does not begin at 0.
            child = metrics.circuit_breaker_transitions.labels(name, "closed", "open")
            child.inc(7)
            assert breaker.state == 0
            mortal.words, mortal.cell = breaker._shared.words, child._value
            breaker._shared.words, child._value = mortal, mortal  # type: ignore[assignment]
            fail(breaker)
            os._exit(0)
        died = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        after = Breaker(name, Policy(failures=1, open_seconds=3600))
        left = after.state
        fail(after)
        fail(after)
        lines = multiprocess.MergedCollector(None).render().decode().splitlines()
        counted = [line.rpartition(" ")[2] for line in lines if "transitions_total{" in line and f'"{name}"' in line]
        print(died, left, after.state, *counted, flush=True)
        if died == 0:
            return


if __name__ == "__main__":
    main()
