"""What one writer of the benchmarks holds: series as a service has them, written through the stock classes and our values.

Of the samples 40% are of histograms (11 samples each), 20% of gauges of six modes, the rest counters; three labels each. Gauges of
mode `all` and `liveall`, which no merge makes fewer, are a tenth of the gauges. All writers have the same label sets, as workers of
one service do. Import it after `multiprocess.install()`.
"""

from __future__ import annotations

import random
import time
from typing import TYPE_CHECKING, Any

from prometheus_client import Counter, Gauge, Histogram

if TYPE_CHECKING:
    from collections.abc import Iterator

_LABELS = ("method", "endpoint", "version")
_METHODS = ("GET", "POST", "PUT", "DELETE")
_BOUNDS = (0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 2.5, 5.0, 10.0)
_PER_HISTOGRAM = len(_BOUNDS) + 2  # +Inf and the sum
_PER_FAMILY = 200
_MERGED_MODES = ("sum", "livesum", "max", "livemin", "mostrecent")
_KEPT_MODES = ("all", "liveall")


class Series:
    """The families for `total` samples; `write` gives this process its label sets, `change` other values to some of them."""

    def __init__(self, total: int) -> None:
        self.total = total
        self._values: list[Any] = []
        histograms, counters, merged, _ = _shares(total)
        self._histograms = [
            Histogram(f"bench_work_{n}_seconds", "How long this kind of work took, to its last byte.", _LABELS, buckets=_BOUNDS)
            for n in range(1 + histograms // _PER_FAMILY)
        ]
        self._counters = [
            Counter(f"bench_events_{n}", "How often this has happened since the start.", _LABELS)
            for n in range(1 + counters // _PER_FAMILY)
        ]
        self._merged = [
            Gauge(f"bench_level_{mode}_{n}", "Where this stands at the moment.", _LABELS, multiprocess_mode=mode)
            for mode in _MERGED_MODES
            for n in range(1 + merged // (_PER_FAMILY * len(_MERGED_MODES)))
        ]
        self._kept = [
            Gauge(f"bench_own_{mode}", "Where this stands at the moment, by worker.", _LABELS, multiprocess_mode=mode)
            for mode in _KEPT_MODES
        ]

    def write(self, total: int, version: str) -> None:
        """Make label sets of their own for about `total` samples (exactly as many, where that is possible) and write each once."""
        histograms, counters, merged, kept = _shares(total)
        for child in _children(self._histograms, histograms, version):
            self._values += [child._sum, *child._buckets]
        for families, count in ((self._counters, counters), (self._merged, merged), (self._kept, kept)):
            self._values += [child._value for child in _children(families, count, version)]
        for value in self._values[-(histograms * _PER_HISTOGRAM + counters + merged + kept) :]:
            _write(value, 3.0)

    def change(self, percent: float, seed: str) -> int:
        """Write another value to this share of the samples; the same ones in each process that is given the same seed."""
        count = round(len(self._values) * percent / 100)
        chosen = self._values if percent >= 100 else random.Random(seed).sample(self._values, count)
        for value in chosen:
            _write(value, 1.0)
        return count


def _write(value: Any, amount: float) -> None:
    if value.prefix == "gauge_mostrecent":
        value.set(value.get() + amount, time.time())
    else:
        value.inc(amount)


def _shares(total: int) -> tuple[int, int, int, int]:
    """Say how many histograms, counters, merged and kept gauges make `total` samples."""
    histograms = total * 2 // 5 // _PER_HISTOGRAM
    kept = total // 50
    merged = total // 5 - kept
    return histograms, total - histograms * _PER_HISTOGRAM - kept - merged, merged, kept


def _children(families: list[Any], count: int, version: str) -> Iterator[Any]:
    for number in range(count):
        family, item = number % len(families), number // len(families)
        yield families[family].labels(_METHODS[item % len(_METHODS)], f"/v1/collections/{{collection}}/documents/{item:04}", version)
