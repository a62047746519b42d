"""The cost of merging, counted by each process that merges: `multiproc_scrapes_total` and `multiproc_scrape_duration_seconds`.

A collector writes them into files of its own (`counter_scrapes<n>.db`) that the next collector continues. Its lock is not a slot: it
does not count as a worker, nor keep a run alive. It writes nothing to a directory that is read-only or was not filled by this library.
"""

from __future__ import annotations

import contextlib
import os
from bisect import bisect_left
from typing import TYPE_CHECKING

from prometheus_client.mmap_dict import mmap_key
from prometheus_client.utils import INF, floatToGoString

from monitoring.multiprocess.linux import file_lock, fork
from monitoring.multiprocess.storage import lock_file, paths, run
from monitoring.multiprocess.storage.library_families import SCRAPE_DURATION, SCRAPES
from monitoring.multiprocess.storage.value_file import ValueFile
from monitoring.retry_later import Pause

if TYPE_CHECKING:
    from pathlib import Path

_BOUNDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, INF)


class Scrapes:
    """The counters of one collector: `opened` is called before its first merge, `done` after each."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._address, self._pid, self._number = 0, os.getpid(), 0
        self._generation = -1
        self._pause = Pause(10.0)
        self._cells: list[tuple[memoryview[float], int]] = []

    def opened(self, generation: int) -> None:
        """Open the files of this run. Where that fails it is tried again later, and merges are not counted until then."""
        if generation == self._generation and (self._cells or not self._pause.over):
            return
        self._cells, self._generation = [], generation
        self._pause.begin()
        # A read-only directory or a full disk must not fail the scrape.
        with contextlib.suppress(OSError), fork.mutex:
            if (self._directory / paths.LOCK).exists():
                self._open_in_run(generation)

    def _open_in_run(self, generation: int) -> None:
        fd = lock_file.open_lock_file(self._directory)
        try:
            # No run is cleared while this is locked: the files would be made for the one that ends.
            file_lock.lock(fd, lock_file.START, shared=True, patience=1.0)
            if run.read(self._directory).generation == generation:
                self._cells = self._open(self._taken(fd))
            file_lock.unlock(fd, lock_file.START)
        finally:
            os.close(fd)

    def done(self, seconds: float) -> None:
        """Count one merge."""
        if not self._cells:
            return
        for cell, amount in ((0, 1.0), (1, seconds), (2 + bisect_left(_BOUNDS, seconds), 1.0)):
            view, index = self._cells[cell]
            view[index] += amount

    def __del__(self) -> None:
        # A forked child has no such mapping, and perhaps another one there by now.
        if self._address and os.getpid() == self._pid:
            file_lock.drop(self._address)

    def _taken(self, fd: int) -> int:
        """Return the number of the files that no other view writes."""
        if not self._address:
            number = next((n for n in range(lock_file.MOST_VIEWS) if file_lock.try_lock(fd, lock_file.VIEWS + n)), None)
            if number is None:
                message = f"{lock_file.MOST_VIEWS} views of {self._directory} write their accounts already"
                raise OSError(message)
            self._address = file_lock.hold(fd)
            self._number = number
        return self._number

    def _open(self, number: int) -> list[tuple[memoryview[float], int]]:
        counter = ValueFile(self._directory / paths.scrapes_file("counter", number))
        histogram = ValueFile(self._directory / paths.scrapes_file("histogram", number))
        name, text = SCRAPE_DURATION.name, SCRAPE_DURATION.help
        buckets = [mmap_key(name, f"{name}_bucket", ["le"], [floatToGoString(bound)], text) for bound in _BOUNDS]  # type: ignore[no-untyped-call]
        return [
            *counter.ensure([mmap_key(SCRAPES.name, SCRAPES.sample, [], [], SCRAPES.help)]),
            *histogram.ensure([mmap_key(name, f"{name}_sum", [], [], text), *buckets]),
        ]
