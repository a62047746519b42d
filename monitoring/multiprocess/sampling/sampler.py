"""The thread that samples the functions and collectors of the application every few seconds, in each process that holds a slot.

It starts with the lease. It keeps no process from ending, a fork does not copy it while it waits, and no function or collector
delays it (job_runner.py).
"""

from __future__ import annotations

import atexit
import logging
import threading
from typing import TYPE_CHECKING

from monitoring.log_once import LogOnce
from monitoring.multiprocess.linux import fork
from monitoring.multiprocess.worker.slot_store import Phase

from .job_runner import JobRunner

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from monitoring.multiprocess.worker.slot_store import SlotStore

    from .job_runner import Job

_STOP_SECONDS = 0.1
_log = logging.getLogger(__name__)


class _Thread(threading.Thread):
    """The thread, and the signals to it."""

    def __init__(self, sampler: Sampler) -> None:
        super().__init__(name="metrics-sampler", daemon=True)
        self.wake = threading.Event()
        self.stopping = self.idle = False
        self._sampler = sampler

    def run(self) -> None:
        newly = False
        while not self.stopping:
            self.wake.clear()
            self._sampler.tick(newly=newly)
            self.idle = True
            newly = self.wake.wait(self._sampler.seconds)
            self.idle = False


class Sampler:
    """One per process. Registered functions survive forks; a child starts its own thread with its own lease."""

    def __init__(self, store: SlotStore, seconds: float) -> None:
        #: Seconds between two samples.
        self.seconds = seconds
        self._store = store
        #: Quick work of the library itself, called first, in the thread.
        self.own: list[Callable[[], None]] = []
        #: Each returns the jobs of the moment.
        self.sources: list[Callable[[], Iterable[Job]]] = []
        #: Called after the jobs of each tick.
        self.finish: list[Callable[[], None]] = []
        self._thread: _Thread | None = None
        self._problems = LogOnce(_log)
        self._runner = JobRunner(self._problems.warn)
        self._paused = self._closed = False
        store.hooks.add(Phase.READY, self.start)
        fork.pause_across(self._pause, self._resume)
        fork.forget_in_child(self._forget)
        atexit.register(self.close)

    def start(self) -> None:
        """Start the thread where a slot is held and no thread runs; never raises."""
        if self._store.slot is None or self._closed or (self._thread is not None and self._thread.is_alive()):
            return
        thread = _Thread(self)
        try:
            thread.start()
        except RuntimeError as error:
            _log.warning("no thread for sampling functions and collectors: %s. Their series do not change", error)
            return
        self._thread = thread

    def wake(self) -> None:
        """Call new jobs soon, not after the rest of the interval."""
        if self._thread is not None:
            self._thread.wake.set()

    def close(self) -> None:
        """Stop: the process ends. The library's own values are sampled once more, without waiting."""
        self._closed = True
        self._runner.close()
        if self._thread is not None and self._halt() and self._store.slot is not None:
            self._call_all(self.own)

    def tick(self, *, newly: bool = False) -> None:
        """Make one round; with `newly`, only of the jobs that have never settled."""
        if not newly:
            self._call_all(self.own)
        jobs = [job for source in self.sources for job in source()]
        self._runner.call(job for job in jobs if not (newly and job.settled))
        for job in jobs:
            job.look()
        if not self._closed:
            self._call_all(self.finish)

    def _call_all(self, functions: Iterable[Callable[[], None]]) -> None:
        for function in functions:
            try:
                function()
            except Exception as error:  # noqa: BLE001 - a full disk, or /proc is missing: the rest continues
                self._problems.warn(f"sampling this process failed: {type(error).__name__}: {error}")

    def _halt(self) -> bool:
        """Stop the thread if it only waits, and return whether it has ended. In the application's code it is left alone."""
        thread = self._thread
        if thread is None or not thread.idle or thread is threading.current_thread():
            return False
        thread.stopping = True
        thread.wake.set()
        thread.join(_STOP_SECONDS)
        return not thread.is_alive()

    def _pause(self) -> None:
        """Before a fork: stop the thread if it only waits, so that the child is not a copy of half a round."""
        self._paused = self._halt()

    def _resume(self) -> None:
        if self._paused:
            self._paused = False
            self.start()

    def _forget(self) -> None:
        """In a forked child: forget the thread, which only the parent has. A lease of its own starts one."""
        self._problems.clear()
        self._thread, self._runner = None, JobRunner(self._problems.warn)
        self._paused = self._closed = False
