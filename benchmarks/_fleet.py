"""Writer processes of the benchmarks: each holds a real lease and writes real files, and does what the driver says.

`Fleet` is the driver's end. The program itself is a master that has joined the run and declared the families, and forks the writers,
after as many generations of writers that were killed as it is told.
"""

from __future__ import annotations

import gc
import os
import select
import signal
import subprocess
import sys
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).resolve().parent.parent
#: What a writer of a dead generation has written before it was killed.
DEAD_SERIES = 50


@contextmanager
def directory() -> Iterator[Path]:
    """Give a metrics directory in memory, as a service has it."""
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(prefix="bench-", dir=memory if os.access(memory, os.W_OK) else None) as path:
        yield Path(path)


def environment(**more: str) -> dict[str, str]:
    """Give what a process of the benchmarks needs, and nothing of the caller's that could change it."""
    return {"PATH": os.environ.get("PATH", ""), "HOME": tempfile.gettempdir(), "LANG": "C.UTF-8", "PYTHONPATH": str(ROOT), **more}


class Fleet:
    """`workers` living writers of `series` samples each in `path`, behind `dead` writers that lived before them."""

    def __init__(self, path: Path, workers: int, series: int, *, dead: int = 0) -> None:
        self._round = 0
        self._process = subprocess.Popen(
            [sys.executable, __file__, str(path), str(workers), str(series), str(dead)],
            env=environment(),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self._answer()

    def change(self, percent: float, *, spread: bool = False) -> None:
        """Have every writer change this share of its values: the same series in all of them, or others in each (`spread`)."""
        self._round += 1
        self._order(f"change {percent} {self._round} {int(spread)}")

    def add(self, percent: float) -> None:
        """Have every writer add this share of new series, the same in all of them."""
        self._round += 1
        self._order(f"add {percent} {self._round} 0")

    def pace(self, percent: float) -> None:
        """From now on let this share change each second, one writer after the other, until the next order."""
        self._order(f"pace {percent} 0 0")

    def end(self) -> None:
        """End the writers and their master."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()

    def _order(self, line: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(line + "\n")
        self._process.stdin.flush()
        self._answer()

    def _answer(self) -> None:
        assert self._process.stdout is not None
        if self._process.stdout.readline() != "done\n":
            raise RuntimeError(f"the benchmark's writers (process {self._process.pid}) ended; their error is above")


@contextmanager
def fleet(path: Path, workers: int, series: int, *, dead: int = 0) -> Iterator[Fleet]:
    """Give writers that end with the block."""
    writers = Fleet(path, workers, series, dead=dead)
    try:
        yield writers
    finally:
        writers.end()


def main(path: str, workers: int, total: int, dead: int) -> None:
    """Be the master."""
    from monitoring import multiprocess

    multiprocess.install(path)
    from _series import Series

    series = Series(total)
    gc.disable()  # a hundred thousand cells that all stay
    while dead > 0:
        together = min(dead, workers)
        pids = [_fork_dead(series) for _ in range(together)]
        for pid in pids:
            os.waitpid(pid, 0)
        dead -= together
    writers = [_fork(series, number) for number in range(workers)]
    for _, answers in writers:
        _expect(answers)
    _done()
    _obey(writers)
    for orders, _ in writers:
        os.close(orders)
    for _ in writers:
        os.wait()


def _obey(writers: list[tuple[int, int]]) -> None:
    """Pass each line of stdin on to the writers, and between lines keep the pace that was asked for."""
    pace, turn, buffer = 0.0, 0, b""
    while True:
        ready, _, _ = select.select([0], [], [], 1 / len(writers) if pace else None)
        if not ready:
            _order([writers[turn % len(writers)]], f"change {pace} {turn // len(writers)} 0\n".encode())
            turn += 1
            continue
        if not (data := os.read(0, 4096)):
            return
        buffer += data
        while b"\n" in buffer:
            line, _, buffer = buffer.partition(b"\n")
            pace = float(line.split()[1]) if line.startswith(b"pace") else 0.0
            if not pace:
                _order(writers, line + b"\n")
            _done()


def _order(writers: list[tuple[int, int]], line: bytes) -> None:
    for orders, _ in writers:
        os.write(orders, line)
    for _, answers in writers:
        _expect(answers)


def _fork_dead(series: object) -> int:
    pid = os.fork()
    if pid == 0:
        series.write(DEAD_SERIES, "v0")  # type: ignore[attr-defined]
        os.kill(os.getpid(), signal.SIGKILL)
    return pid


def _fork(series: object, number: int) -> tuple[int, int]:
    """Start a writer; give the pipe that takes its orders and the one that gives its answers."""
    orders, ordering = os.pipe()
    answering, answers = os.pipe()
    if os.fork() == 0:
        # It keeps its own ends only, or writers would not see the master's end.
        first, second = sorted((orders, answers))
        for low, high in ((3, first), (first + 1, second), (second + 1, 4096)):
            os.closerange(low, high)
        _write(series, number, orders, answers)
        os._exit(0)
    os.close(orders)
    os.close(answers)
    return ordering, answering


def _write(series: object, number: int, orders: int, answers: int) -> None:
    from monitoring import multiprocess

    multiprocess.acquire()
    series.write(series.total, "v0")  # type: ignore[attr-defined]
    os.write(answers, b".")
    for line in os.fdopen(orders):
        order, percent, round_, spread = line.split()
        if order == "add":
            series.write(int(series.total * float(percent) / 100), f"v{round_}")  # type: ignore[attr-defined]
        else:
            series.change(float(percent), round_ if spread == "0" else f"{round_}/{number}")  # type: ignore[attr-defined]
        os.write(answers, b".")


def _expect(answers: int) -> None:
    if os.read(answers, 1) != b".":
        raise RuntimeError("a writer ended")


def _done() -> None:
    os.write(1, b"done\n")


if __name__ == "__main__":
    main(sys.argv[1], *map(int, sys.argv[2:]))
