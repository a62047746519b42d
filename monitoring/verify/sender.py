"""Sends requests from several threads and records the outcome of each; kills workers of the service in the meantime."""

from __future__ import annotations

import http.client
import os
import random
import signal
import threading
import time
from typing import TYPE_CHECKING, Self
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .ledger import Ledger, Sample

_TIMEOUT_SECONDS = 60.0
_REFUSED_PAUSE_SECONDS = 0.01


class Sender:
    """Sends GET requests to `url` until the block ends. A request moves `sample` by one if the service answers `status`."""

    def __init__(self, url: str, ledger: Ledger, sample: Sample, *, status: int = 200, threads: int = 4) -> None:
        parts = urlsplit(url)
        self._address, self._path = parts.netloc, (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        self._ledger, self._sample, self._status = ledger, sample, status
        self._mutex = threading.Lock()
        self._stopping = threading.Event()
        self._threads = [threading.Thread(target=self._run, name=f"sender-{number}") for number in range(threads)]
        self.acknowledged = 0

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        for thread in self._threads:
            thread.join()

    def wait_acknowledged(self, more: int, timeout_seconds: float = _TIMEOUT_SECONDS) -> None:
        """Wait until this many more requests were acknowledged; TimeoutError if the service does not answer them in time."""
        goal, end = self.acknowledged + more, time.monotonic() + timeout_seconds
        while self.acknowledged < goal:
            if time.monotonic() > end:
                raise TimeoutError(f"{self._address} acknowledged {self.acknowledged} requests, not {goal}, in {timeout_seconds:g} s")
            time.sleep(0.01)

    def _run(self) -> None:
        while not self._stopping.is_set():
            connection = http.client.HTTPConnection(self._address, timeout=_TIMEOUT_SECONDS)
            try:
                connection.connect()
            except OSError:  # nothing was sent
                with self._mutex:
                    self._ledger.refused += 1
                time.sleep(_REFUSED_PAUSE_SECONDS)
                continue
            try:
                while connection.sock is not None and not self._stopping.is_set():  # the server closes it now and then
                    self._send(connection)
            finally:
                connection.close()

    def _send(self, connection: http.client.HTTPConnection) -> None:
        status = None
        try:
            connection.request("GET", self._path)
            response = connection.getresponse()
            response.read()
            status = response.status
        except (OSError, http.client.HTTPException):
            connection.close()
        with self._mutex:
            if status == self._status:
                self._ledger.certain(self._sample)
                self.acknowledged += 1
            elif status is None:
                self._ledger.between(self._sample, 0, 1)


def kill_one(pids: Sequence[int]) -> int:
    """Kill one of these processes, chosen at random, as the kernel does when memory runs out; return its pid."""
    pid = random.choice(pids)
    os.kill(pid, signal.SIGKILL)
    return pid
