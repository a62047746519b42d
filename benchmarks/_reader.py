"""Scrapers of the benchmarks: a process that holds our view or prometheus-client's collector, and times a scrape when it is told to.

A cold scrape is the first of a fresh collector in a fresh (forked) process that has imported all it needs. Times are CPU seconds of the
process, which what else runs on the machine disturbs least.
"""

from __future__ import annotations

import hashlib
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from _fleet import environment

if TYPE_CHECKING:
    from collections.abc import Iterator

OURS, UPSTREAM = "ours", "upstream"
Render = Callable[[], bytes]


class Reader:
    """A process that scrapes one directory one way, idle until it is asked."""

    def __init__(self, variant: str, path: Path) -> None:
        self._process = subprocess.Popen(
            [sys.executable, __file__, variant, str(path)], env=environment(), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        #: Resident MiB with everything imported and nothing scraped.
        self.idle_mebibytes = float(self._ask("peak"))

    def warm(self) -> float:
        """Scrape with the collector that scraped before; give the seconds."""
        return float(self._ask("warm"))

    def cold(self) -> float:
        """Scrape with a fresh collector; give the seconds."""
        return float(self._ask("cold"))

    def peak_mebibytes(self) -> float:
        """Give the most that was ever resident."""
        return float(self._ask("peak"))

    def answer(self) -> tuple[int, str]:
        """Scrape; give how many samples there are beside the kit's own, and their digest in any order."""
        count, digest = self._ask("answer").split()
        return int(count), digest

    def end(self) -> None:
        """End the process."""
        self._process.kill()
        self._process.communicate()

    def _ask(self, order: str) -> str:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(order + "\n")
        self._process.stdin.flush()
        if not (line := self._process.stdout.readline()):
            raise RuntimeError(f"the benchmark's reader {self._process.pid} ended; its error is above")
        return line


@contextmanager
def reader(variant: str, path: Path) -> Iterator[Reader]:
    """Give a reader that ends with the block."""
    process = Reader(variant, path)
    try:
        yield process
    finally:
        process.end()


def check(ours: Reader, upstream: Reader) -> int:
    """Refuse to time a view that does not answer as upstream does; give the number of samples."""
    mine, theirs = ours.answer(), upstream.answer()
    assert mine == theirs, f"ours has {mine[0]} samples and upstream {theirs[0]}, or they differ"
    return mine[0]


def main(variant: str, path: str) -> None:
    """Do what each line of stdin says."""
    build = _ours if variant == OURS else _upstream
    with tempfile.TemporaryDirectory() as empty:
        build(empty)()  # imports what a first scrape imports

    def first() -> bytes:
        return build(path)()

    collect: Render | None = None
    for line in sys.stdin:
        order = line.strip()
        if order == "warm":
            collect = collect or build(path)
            print(_timed(collect), flush=True)
        elif order == "cold":
            print(_in_child(lambda: str(_timed(first))), flush=True)
        elif order == "answer":
            print(_in_child(lambda: _digest(first())), flush=True)
        else:
            status = Path("/proc/self/status").read_text()
            print(int(re.findall(r"VmHWM:\s+(\d+) kB", status)[0]) / 1024, flush=True)


def _ours(path: str) -> Render:
    from monitoring.multiprocess import MergedCollector

    return MergedCollector(None, path).render


def _upstream(path: str) -> Render:
    from prometheus_client import CollectorRegistry, generate_latest
    from prometheus_client.multiprocess import MultiProcessCollector

    registry = CollectorRegistry()
    MultiProcessCollector(registry, path)
    return lambda: generate_latest(registry)


def _timed(render: Render) -> float:
    began = time.process_time()
    body = render()
    seconds = time.process_time() - began
    assert body
    return seconds


def _digest(body: bytes) -> str:
    samples = sorted(line for line in body.splitlines() if not line.startswith((b"#", b"multiproc_", b"process_", b"python_")))
    digest = hashlib.sha256(b"\n".join(samples)).hexdigest()
    return f"{len(samples)} {digest}"


def _in_child(work: Callable[[], str]) -> str:
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            os.write(writing, work().encode())
            code = 0
        finally:
            os._exit(code)
    os.close(writing)
    with os.fdopen(reading) as answer:
        text = answer.read()
    _, status = os.waitpid(pid, 0)
    assert status == 0, "a scrape failed; its error is above"
    return text


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
