"""The cells behind the HTTP families, looked up once per endpoint, method and status, then written directly.

`labels()` and `observe()` would cost several times the rest of the middleware. With cold caches each object that a request touches
costs time. So one object with plain slots holds all cells of a request, and writes go to the mapped file without a call.
"""

from __future__ import annotations

from bisect import bisect_left
from itertools import islice
from time import monotonic
from typing import TYPE_CHECKING, Any, Final

from monitoring.catalogue import http as families
from monitoring.multiprocess.worker.value import DETACHED, direct

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from prometheus_client import Histogram

    Inc = Callable[[float], None]

OTHER = "_other"
"""The method label of any word that is neither a method of RFC 9110 nor PATCH, and the status label of an invalid status."""

_METHODS: Final = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "CONNECT"})
_STATUSES: Final = range(100, 1000)
_SECONDS: Final[tuple[float, ...]] = tuple(families.http_request_duration_seconds._upper_bounds)
_BYTES: Final[tuple[float, ...]] = tuple(families.http_request_size_bytes._upper_bounds)
_BOUNDS: Final = (_SECONDS, _SECONDS, _BYTES, _BYTES)
_LEAST_SECONDS: Final[float] = _SECONDS[0]
_LEAST_BYTES: Final[float] = _BYTES[0]
_AGAIN_SECONDS: Final = 1.0

NO_TIME: Final = -1.0
"""In place of the seconds to the first byte: there was none, or it is observed already."""


def known_status(status: object) -> int:
    """Return the status as a number, or 0 for an invalid one, of which an application might send any number."""
    try:
        number = int(status)  # type: ignore[call-overload]
    except (TypeError, ValueError, OverflowError):
        return 0
    return number if number in _STATUSES else 0


class Method:
    """One method: its label, the cell of its requests in progress, and the cells of its endpoints."""

    __slots__ = ("_places", "_progress", "at", "doubles", "endpoints", "label")

    def __init__(self, label: str) -> None:
        self.label = label
        self._progress = families.http_requests_in_progress.labels(label)._value
        #: Per endpoint, the cells of its last status, which is usually the next one, too.
        self.endpoints: dict[str, Cells] = {}
        self._open()

    def add(self, requests: float) -> None:
        """Add to the requests in progress after `doubles[at] += requests` has raised."""
        self._progress.inc(requests)
        if self._places:
            self._open()

    def _open(self) -> None:
        """Find the cell of the requests in progress. Values of other packages have none."""
        found = direct([self._progress])
        self._places = found is not None
        self.doubles, (self.at,) = found or (DETACHED, [0])


class Methods(dict[str, Method]):
    """The `Method` of each word that a client sent. Unknown words share one, so that clients cannot fill the table."""

    def __missing__(self, word: str) -> Method:
        if word not in _METHODS and word != OTHER:
            return self[OTHER]
        made = self[word] = Method(word)
        return made


class Cells:
    """The cells of one endpoint, method and status. `finish` and `first_byte` write to them."""

    __slots__ = (
        "_count",
        "_count_at",
        "_counts",
        "_doubles",
        "_histograms",
        "_places",
        "again_at",
        "bodiless",
        "endpoint",
        "status",
    )

    def __init__(self, endpoint: str, method: str, status: int) -> None:
        self.endpoint = endpoint
        self.status = status
        self.bodiless = method == "HEAD" or 100 <= status < 200 or status in {204, 304}
        labels = (method, endpoint, str(status) if status else OTHER)
        counter = families.http_requests.labels(*labels)
        self._count = counter._value
        #: In the order in which they are observed.
        self._histograms: list[Histogram] = [
            families.http_time_to_first_byte_seconds.labels(method, endpoint),
            families.http_request_duration_seconds.labels(method, endpoint),
            families.http_request_size_bytes.labels(method, endpoint),
            families.http_response_size_bytes.labels(method, endpoint),
        ]
        #: When to look them up again, because a family at its limit returned its overflow child. 0 means never.
        self.again_at = 0.0
        if counter._labelvalues != labels or any(child._labelvalues != labels[:2] for child in self._histograms):
            self.again_at = monotonic() + _AGAIN_SECONDS
        self._open()

    def first_byte(self, first: float) -> None:
        """Observe the time to the first byte only."""
        self._histograms[0].observe(first)

    def finish(self, first: float, seconds: float, received: int, sent: int) -> None:
        """Observe a request, then count it: a histogram is never behind the counter. `first` may be NO_TIME."""
        doubles = self._doubles
        if doubles is None:
            self._add(0, first, seconds, received, sent)
            return
        bucket = 0 if seconds <= _LEAST_SECONDS else bisect_left(_SECONDS, seconds)
        first_sum, first_buckets, seconds_sum, seconds_buckets, received_sum, received_buckets, sent_sum, sent_buckets = self._places
        done = 0
        try:
            if first >= 0.0:
                doubles[first_sum] += first
                done = 1
                doubles[first_buckets[bucket and bisect_left(_SECONDS, first)]] += 1.0
            done = 2
            doubles[seconds_sum] += seconds
            done = 3
            doubles[seconds_buckets[bucket]] += 1.0
            done = 4
            if received:
                doubles[received_sum] += received
                done = 5
                doubles[received_buckets[bisect_left(_BYTES, received)]] += 1.0
            else:
                doubles[received_buckets[0]] += 1.0
            done = 6
            if sent:
                doubles[sent_sum] += sent
                done = 7
                doubles[sent_buckets[0 if sent <= _LEAST_BYTES else bisect_left(_BYTES, sent)]] += 1.0
            else:
                doubles[sent_buckets[0]] += 1.0
            done = 8
            self._counts[self._count_at] += 1.0
        except (IndexError, ValueError):
            # The process forked or the file was rewritten, perhaps between two of these lines.
            self._add(done, first, seconds, received, sent)

    def _add(self, done: int, first: float, seconds: float, received: int, sent: int) -> None:
        """Add the rest of `finish` by `inc()`, which opens a file if there is none. The next `finish` writes to that file directly."""
        for add, amount in islice(self._additions(first, seconds, received, sent), done, None):
            if amount:
                add(amount)
        if self._doubles is not None:
            self._open()

    def _additions(self, first: float, seconds: float, received: int, sent: int) -> Iterator[tuple[Inc, float]]:
        """Yield the additions of `finish` in its order."""
        for histogram, amount, bounds in zip(self._histograms, (first, seconds, received, sent), _BOUNDS, strict=True):
            yield histogram._sum.inc, max(amount, 0.0)
            yield histogram._buckets[bisect_left(bounds, amount)].inc, 1.0 if amount >= 0.0 else 0.0
        yield self._count.inc, 1.0

    def _open(self) -> None:
        """Find the cells for `finish`. Values of other packages have none."""
        self._doubles: memoryview[float] | None = None
        count = direct([self._count])
        found = direct([value for child in self._histograms for value in (child._sum, *child._buckets)])
        if count is None or found is None:
            return
        self._counts, (self._count_at,) = count
        places = iter(found[1])
        first, duration, received, sent = (tuple(islice(places, 1 + len(bounds))) for bounds in _BOUNDS)
        #: Objects, not native numbers, since the index of a memoryview is an object.
        self._places: tuple[Any, Any, Any, Any, Any, Any, Any, Any] = (
            first[0],
            first[1:],
            duration[0],
            duration[1:],
            received[0],
            received[1:],
            sent[0],
            sent[1:],
        )
        self._doubles = found[0]
