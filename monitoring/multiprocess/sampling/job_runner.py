"""Calls of the application's sampling functions and collectors. Any number of them may hang without delaying the others.

A call that does not return is left behind in its thread, and its job is not called again until it does. Jobs that took too long
last time come last and are not waited for. Exceptions are logged once for each cause.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections import deque
from typing import TYPE_CHECKING

from monitoring.log_once import LogOnce

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

#: Seconds for which the other jobs wait for one before they continue without it.
PATIENCE_SECONDS = 1.0
#: Seconds after which the last sample of a job that has not returned, or has not been called, is too old to be shown.
OVERDUE_SECONDS = 30.0
#: Seconds for further jobs of the same round once one has used up its time: calls that hang often hang together.
_IMPATIENCE_SECONDS = 0.1
#: Number of jobs that took too long last time and are called at once.
_SLOW_AT_ONCE = 8
#: With this many threads left behind, only jobs that answered in time last time are called; with twice as many, none.
_MOST_LEFT_BEHIND = 64
_LOOK_SECONDS = 0.02
_log = logging.getLogger(__name__)


class Job:
    """A function of the application to call in each round; `end` hides its series where it raised or does not return."""

    def __init__(self, name: str, call: Callable[[], None], end: Callable[[], None]) -> None:
        self.name, self._call, self._end = name, call, end
        #: Whether it has answered, failed or run overdue once.
        self.settled = False
        #: Whether its last call returned within `PATIENCE_SECONDS`; None before there was one.
        self.prompt: bool | None = None
        #: Since when it should be called, where it is not.
        self.due_since = 0.0
        self._began: float | None = None
        self._problems = LogOnce(_log)
        self._owner = 0

    @property
    def running(self) -> bool:
        """Whether a call of this process has not returned yet."""
        return self._began is not None and self._owner == os.getpid()

    def due(self) -> None:
        """Note that it should be called now."""
        self.due_since = self.due_since or time.monotonic()

    def begin(self) -> None:
        """Note that its call starts, so that no other call does."""
        self._owner, self._began = os.getpid(), time.monotonic()

    def cancel(self) -> None:
        """Note that it could not be called after `begin`."""
        self._began = None

    def run(self) -> None:
        """Call it once; never raises."""
        self.begin()
        began = time.monotonic()
        try:
            self._call()
        except BaseException as error:  # noqa: BLE001 - an error of one function must not stop the other samples
            self._fail(f"{type(error).__name__}: {error}")
        finally:
            self.prompt = time.monotonic() - began <= PATIENCE_SECONDS
            self.due_since, self._began, self.settled = 0.0, None, True

    def left(self, patience: float) -> float | None:
        """Return the seconds that remain for its call; None while it is not called."""
        began = self._began
        return None if began is None else began + patience - time.monotonic()

    def look(self) -> None:
        """Hide its series where its call has not returned, or has not been made, for too long."""
        since = (self._began if self.running else self.due_since) or time.monotonic()
        if time.monotonic() - since > OVERDUE_SECONDS:
            self._fail(f"it has not {'returned' if self.running else 'been called'} for {OVERDUE_SECONDS:g} s")
            self.settled = True

    def _fail(self, cause: str) -> None:
        self._problems.warn(f"sampling {self.name} failed: {cause}. Its series is hidden until sampling succeeds")
        self._end()


class JobRunner:
    """The threads that call jobs; `call` makes one round."""

    def __init__(self, report: Callable[[str], None]) -> None:
        self._report = report
        self._helpers: list[_Helper] = []
        self._closed = False

    def call(self, jobs: Iterable[Job]) -> None:
        """Call each job that is not running: the prompt ones one after the other, the slow ones in threads beside them."""
        due = [job for job in jobs if not job.running]
        for job in due:
            job.due()
        self._call_in_turn(deque(job for job in due if job.prompt is not False))
        self._call_beside(sorted((job for job in due if job.prompt is False), key=lambda job: job.due_since))

    def close(self) -> None:
        """Make no further calls: the process ends."""
        self._closed = True

    def _call_in_turn(self, pending: deque[Job]) -> None:
        patience = PATIENCE_SECONDS
        while pending and not self._closed:
            behind = self._left_behind()
            if behind >= _MOST_LEFT_BEHIND:
                self._report(
                    f"{_MOST_LEFT_BEHIND} sampling functions or collectors do not return. Only those that did last time are called"
                )
                pending = deque(job for job in pending if job.prompt)
            if behind >= 2 * _MOST_LEFT_BEHIND:
                self._report(f"{2 * _MOST_LEFT_BEHIND} sampling functions or collectors do not return. None is called until one does")
                return
            helper = self._start(pending) if pending else None
            if helper is None:
                return
            if not helper.wait(patience):
                patience = _IMPATIENCE_SECONDS

    def _call_beside(self, slow: list[Job]) -> None:
        busy = sum(helper.beside for helper in self._helpers if helper.is_alive())
        for job in slow[: max(0, _SLOW_AT_ONCE - busy)]:
            if self._closed or self._left_behind() >= _MOST_LEFT_BEHIND:
                return
            job.begin()
            if self._start(deque([job]), beside=True) is None:
                job.cancel()
                return

    def _left_behind(self) -> int:
        self._helpers = [helper for helper in self._helpers if helper.is_alive()]
        return len(self._helpers)

    def _start(self, pending: deque[Job], *, beside: bool = False) -> _Helper | None:
        helper = _Helper(pending, beside=beside)
        try:
            helper.start()
        except RuntimeError as error:
            self._report(f"no thread for sampling functions and collectors: {error}")
            return None
        self._helpers.append(helper)
        return helper


class _Helper(threading.Thread):
    """A thread that calls jobs one after the other until it is left behind."""

    def __init__(self, pending: deque[Job], *, beside: bool) -> None:
        super().__init__(name="metrics-sample", daemon=True)
        self.beside = beside
        self._pending = pending
        self._job: Job | None = None
        self._left_behind = False

    def run(self) -> None:
        while not self._left_behind:
            try:
                self._job = self._pending.popleft()
            except IndexError:
                return
            self._job.run()

    def wait(self, patience: float) -> bool:
        """Wait while each of its calls returns in time; return False where one does not. That call is its last one."""
        while self.is_alive():
            left = None if self._job is None else self._job.left(patience)
            if left is not None and left <= 0.0:
                self._left_behind = True
                return False
            self.join(_LOOK_SECONDS if left is None else left)
        return True
