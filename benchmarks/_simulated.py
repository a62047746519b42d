"""Pods of the simulation: each has a copy of a service's metrics directory, in which values grow, and a real merged view over it."""

from __future__ import annotations

import contextlib
import re
import shutil
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING

from monitoring.multiprocess import MergedCollector
from monitoring.multiprocess.storage import slot_lease as leases

if TYPE_CHECKING:
    import random
    from collections.abc import Iterator
    from pathlib import Path

CHANGED = 0.3
"""The share of values that grows between two scrapes."""


class Pod:
    """One copy of the service's metrics: files that somebody writes, and a view over them."""

    def __init__(self, template: Path, path: Path) -> None:
        from prometheus_client import CollectorRegistry
        from prometheus_client.mmap_dict import MmapedDict

        files = sorted(template.glob("*.db"))
        slots = {int(found[1]) for file in files if (found := re.search(r"_s(\d+)\.db$", file.name))}
        path.mkdir(mode=0o700)
        shutil.copytree(template, path, dirs_exist_ok=True, ignore=shutil.ignore_patterns("*.db", "*.sock", "lease.lock"))
        # A lease is taken before its slot's files are there: whoever takes one ends the live gauges of its former holder.
        self._leases = [leases.take(path) for _ in range(max(slots) + 1)]
        for file in files:
            shutil.copy(file, path)
        self._growing = [MmapedDict(str(path / file.name)) for file in files if file.name.startswith(("counter", "histogram"))]
        self._keys = [(values, key, value) for values in self._growing for key, value, *_ in values.read_all_values()]
        self.view = MergedCollector(CollectorRegistry(), str(path))
        self.view.render()  # cold views of all pods at once would let the first scrapes wait too long

    def grow(self, chance: random.Random) -> None:
        """Have some values grow, as requests have them."""
        for number in chance.sample(range(len(self._keys)), round(len(self._keys) * CHANGED)):
            values, key, value = self._keys[number]
            value += chance.randrange(1, 5)
            values.write_value(key, value, 0.0)
            self._keys[number] = values, key, value


class Pods(ThreadingHTTPServer):
    """Answers for all pods: `/N` is the exporter of pod N."""

    request_queue_size = 512
    daemon_threads = True

    def __init__(self, pods: list[Pod]) -> None:
        super().__init__(("127.0.0.1", 0), _Exporter)
        self.pods, self.merging = pods, threading.Lock()
        self.merges, self.seconds = 0, 0.0


class _Exporter(BaseHTTPRequestHandler):
    server: Pods

    def log_message(self, *_: object) -> None:
        pass

    def do_GET(self) -> None:
        with self.server.merging:
            begun = time.thread_time()
            body = self.server.pods[int(self.path[1:])].view.render()
            self.server.seconds += time.thread_time() - begun
            self.server.merges += 1
        self.send_response(200)
        self.send_header("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


@contextlib.contextmanager
def serving(pods: list[Pod]) -> Iterator[Pods]:
    """Answer scrapes until the block ends."""
    server = Pods(pods)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
