"""A Prometheus in small: scrapes all the time, and holds every scrape against the ones before.

A counter, bucket, sum or count that falls or vanishes is a fall; a scrape that is not answered
whole with 200 is a failure, but for connections refused inside `outage()`.
"""

from __future__ import annotations

import contextlib
import threading
import time
from typing import TYPE_CHECKING, NewType, Self

from prometheus_client import CollectorRegistry
from prometheus_client.parser import text_string_to_metric_families

from monitoring.multiprocess import MergedCollector

from .client import Address, Connection, IncompleteError, Request

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

Series = tuple[str, tuple[tuple[str, str], ...]]
Samples = NewType("Samples", dict[Series, float])
Source = "Callable[[], str]"

_CUMULATIVE = {"counter": ("_total",), "histogram": ("_bucket", "_sum", "_count"), "summary": ("_sum", "_count")}


class ScrapeError(AssertionError):
    """The target answered, and not with 200."""


def http(address: Address, path: str = "/metrics") -> Callable[[], str]:
    """Scrape over HTTP."""

    def scrape() -> str:
        with Connection(address) as connection:
            connection.send(Request("GET", path))
            response = connection.receive("GET")
        if response.status != 200:
            message = f"{path} of {address[1]} answered {response.status}: {response.body[:500]!r}"
            raise ScrapeError(message)
        return response.body.decode()

    return scrape


def view(directory: Path) -> Callable[[], str]:
    """Scrape by a merged view of our own, which outlives every server."""
    collector = MergedCollector(CollectorRegistry(), str(directory))
    return lambda: collector.render().decode()


def parse(text: str) -> tuple[Samples, Samples]:
    """Give all samples, and those among them that may never fall."""
    everything: dict[Series, float] = {}
    cumulative: dict[Series, float] = {}
    for family in text_string_to_metric_families(text):
        endings = _CUMULATIVE.get(family.type, ())
        for sample in family.samples:
            series = (sample.name, tuple(sorted(sample.labels.items())))
            if series in everything:
                message = f"twice in one scrape: {series}"
                raise ScrapeError(message)
            everything[series] = sample.value
            if sample.name.endswith(endings):
                cumulative[series] = sample.value
    return Samples(everything), Samples(cumulative)


def total(samples: Samples, name: str, /, **labels: str) -> float:
    """Sum the samples of this name that carry at least these labels."""
    wanted = set(labels.items())
    return sum(value for (found, pairs), value in samples.items() if found == name and wanted <= set(pairs))


class Scraper:
    """A thread that scrapes its sources in turn until the block ends."""

    def __init__(self, *sources: Callable[[], str], cuts: bool = False, pause_seconds: float = 0.03) -> None:
        """Set `cuts` where a source is a worker that the test kills: half an answer is then no failure."""
        self.sources = list(sources)
        self.history: list[Samples] = []
        self.falls: list[str] = []
        self.failures: list[str] = []
        self.monotone = True
        self._cuts = cuts
        self._pause = pause_seconds
        self._outage = False
        self._last: dict[Series, float] = {}
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="scraper")

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        self._thread.join()

    @contextlib.contextmanager
    def outage(self) -> Iterator[None]:
        """Allow refused connections: no server is up."""
        self._outage = True
        yield
        self._outage = False

    def check(self, least: int = 3) -> None:
        """Fail for whatever a Prometheus would have stored wrongly."""
        assert not self.failures, f"{len(self.failures)} failed scrapes, the first: {self.failures[:3]}"
        assert not self.falls, f"{len(self.falls)} falls, the first: {self.falls[:5]}"
        assert len(self.history) >= least, f"only {len(self.history)} scrapes: the test was too short to prove anything"

    def _run(self) -> None:
        while not self._stopping.is_set():
            for source in list(self.sources):
                self._scrape(source)
            time.sleep(self._pause)

    def _scrape(self, source: Callable[[], str]) -> None:
        outage = self._outage
        try:
            everything, cumulative = parse(source())
        except ConnectionRefusedError as error:
            if not (outage or self._outage):
                self.failures.append(f"refused: {error}")
        except (ConnectionResetError, BrokenPipeError, IncompleteError) as error:
            if not (self._cuts or outage or self._outage):
                self.failures.append(f"cut: {error!r}")
        except Exception as error:  # noqa: BLE001 - whatever it was, the scrape failed and the test says so
            self.failures.append(repr(error))
        else:
            self.history.append(everything)
            if self.monotone:
                self._compare(cumulative)

    def _compare(self, cumulative: Samples) -> None:
        number = len(self.history)
        for series, before in self._last.items():
            now = cumulative.get(series)
            if now is None or now < before:
                self.falls.append(f"scrape {number}: {series} {before} -> {now}")
        self._last.update(cumulative)
