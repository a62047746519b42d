"""Samples the application's functions and collectors every few seconds, in a thread of each process that holds a slot.

The thread begins with the lease and is nobody's concern: it keeps no process from ending, no fork copies it while it waits, and no
function or collector holds it up (jobs.py).
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
    """The ticking thread and what is said to it."""

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
    """One per process. What is registered survives forks; the thread is started anew with the child's own lease."""

    def __init__(self, store: SlotStore, seconds: float) -> None:
        #: Seconds between two samples.
        self.seconds = seconds
        self._store = store
        #: The kit's own quick work, called first, in the thread itself.
        self.own: list[Callable[[], None]] = []
        #: Each gives the jobs that there are at the moment.
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
        """Begin, where a slot is held and no thread runs; never raises."""
        if self._store.slot is None or self._closed or (self._thread is not None and self._thread.is_alive()):
            return
        thread = _Thread(self)
        try:
            thread.start()
        except RuntimeError as error:
            _log.warning("no thread for sampling functions and collectors: %s; their series do not move", error)
            return
        self._thread = thread

    def wake(self) -> None:
        """Something new is there: call it soon, not after the rest of the pause."""
        if self._thread is not None:
            self._thread.wake.set()

    def close(self) -> None:
        """The process ends: no more ticks, and a last sample of the kit's own, without waiting for anybody."""
        self._closed = True
        self._runner.close()
        if self._thread is not None and self._halt() and self._store.slot is not None:
            self._call_all(self.own)

    def tick(self, *, newly: bool = False) -> None:
        """One round; with `newly`, only of the jobs that have never settled."""
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
            except Exception as error:  # noqa: BLE001 - a full disk, /proc that is not there: the rest goes on
                self._problems.warn(f"sampling this process failed: {type(error).__name__}: {error}")

    def _halt(self) -> bool:
        """Stop the thread if it only waits; whether it has ended. One that is in the application's code is left alone."""
        thread = self._thread
        if thread is None or not thread.idle or thread is threading.current_thread():
            return False
        thread.stopping = True
        thread.wake.set()
        thread.join(_STOP_SECONDS)
        return not thread.is_alive()

    def _pause(self) -> None:
        """Before a fork: a thread that only waits is not there to be copied half way through anything."""
        self._paused = self._halt()

    def _resume(self) -> None:
        if self._paused:
            self._paused = False
            self.start()

    def _forget(self) -> None:
        """In a forked child there is no thread; its own lease starts one."""
        self._problems.clear()
        self._thread, self._runner = None, JobRunner(self._problems.warn)
        self._paused = self._closed = False
