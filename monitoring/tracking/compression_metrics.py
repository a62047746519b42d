"""Records a successful compression in five families without a call for each value, which would cost more than the rest.

As with the cells of the HTTP families, a rewrite of the file or a fork between two writes loses nothing and counts nothing twice.
"""

from __future__ import annotations

from bisect import bisect_left
from itertools import islice
from typing import TYPE_CHECKING

from monitoring.catalogue import sigmalang as families
from monitoring.multiprocess.worker.value import direct

from .children import count
from .wrapping import SUCCESS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_LABELS = (SUCCESS,)
_REQUESTS = families.sigmalang_compression_requests
_SECONDS, _SIZES, _RATIOS = (
    tuple(family._upper_bounds)
    for family in (
        families.sigmalang_compression_duration_seconds,
        families.sigmalang_original_size_bytes,
        families.sigmalang_compression_ratio,
    )
)


class Compressions:
    """The cells of the four histograms and of the counted successes."""

    def __init__(self) -> None:
        #: In the order in which they are observed.
        self._histograms = (
            families.sigmalang_compression_duration_seconds,
            families.sigmalang_original_size_bytes,
            families.sigmalang_compressed_size_bytes,
            families.sigmalang_compression_ratio,
        )
        self._seen: object = None
        self._counter: object = None
        self._doubles: memoryview[float] | None = None

    def count(self, seconds: float, before: int, after: int) -> None:
        """Observe a compression of `before` to `after` bytes, at least 1, and count it last."""
        # `install()` replaces the cell, and `clear()` the child, which must pass the limit of series again.
        if self._histograms[0]._sum is not self._seen or _REQUESTS._metrics.get(_LABELS) is not self._counter:
            self._open()
        doubles = self._doubles
        if doubles is None:
            self._add(0, seconds, before, after)
            return
        times, time_buckets, befores, before_buckets, afters, after_buckets, ratios, ratio_buckets = self._places
        ratio = before / after
        done = 0
        try:
            doubles[times] += seconds
            done = 1
            doubles[time_buckets[bisect_left(_SECONDS, seconds)]] += 1.0
            done = 2
            doubles[befores] += before
            done = 3
            doubles[before_buckets[bisect_left(_SIZES, before)]] += 1.0
            done = 4
            doubles[afters] += after
            done = 5
            doubles[after_buckets[bisect_left(_SIZES, after)]] += 1.0
            done = 6
            doubles[ratios] += ratio
            done = 7
            doubles[ratio_buckets[bisect_left(_RATIOS, ratio)]] += 1.0
            done = 8
            self._counts[self._count_at] += 1.0
        except (IndexError, ValueError):
            # The process forked, or the file was rewritten, perhaps between two of these lines.
            self._add(done, seconds, before, after)
            self._open()

    def _add(self, done: int, seconds: float, before: int, after: int) -> None:
        """Add the rest of `count` by `inc()`, which opens a file if there is none."""
        for add, amount in islice(self._additions(seconds, before, after), done, None):
            add(amount)
        count(_REQUESTS, SUCCESS)

    def _additions(self, seconds: float, before: int, after: int) -> Iterator[tuple[Callable[[float], None], float]]:
        for histogram, amount in zip(self._histograms, (seconds, before, after, before / after), strict=True):
            yield histogram._sum.inc, amount
            yield histogram._buckets[bisect_left(histogram._upper_bounds, amount)].inc, 1.0

    def _open(self) -> None:
        """Find the cells for `count`. Values of other packages have none."""
        self._seen = self._histograms[0]._sum
        self._doubles = None
        found = direct([value for each in self._histograms for value in (each._sum, *each._buckets)])
        counter = self._counter = _REQUESTS.labels(SUCCESS)
        if counter._labelvalues != _LABELS:
            # The overflow child: the family is at its limit now, and perhaps not at the next call.
            return
        counted = direct([counter._value])
        if found is None or counted is None:
            return
        places = iter(found[1])
        times, befores, afters, ratios = (tuple(islice(places, 1 + len(each._upper_bounds))) for each in self._histograms)
        self._places = (times[0], times[1:], befores[0], befores[1:], afters[0], afters[1:], ratios[0], ratios[1:])
        self._counts, (self._count_at,) = counted
        self._doubles = found[0]
