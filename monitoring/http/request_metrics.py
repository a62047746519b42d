"""The cells behind the HTTP families, looked up once per endpoint, method and status, then written directly.

`labels()` and `observe()` would cost several times the rest of the middleware. In an application's cold caches every object that a
request touches counts, so what a request moves is one object with plain slots, and what can be written without a call is.
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
"""The method label of whatever is no method of RFC 9110 or PATCH, since a client may send any word; the status of what is none."""

_METHODS: Final = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "CONNECT"})
_STATUSES: Final = range(100, 1000)
_SECONDS: Final[tuple[float, ...]] = tuple(families.http_request_duration_seconds._upper_bounds)
_BYTES: Final[tuple[float, ...]] = tuple(families.http_request_size_bytes._upper_bounds)
_BOUNDS: Final = (_SECONDS, _SECONDS, _BYTES, _BYTES)
_LEAST_SECONDS: Final[float] = _SECONDS[0]
_LEAST_BYTES: Final[float] = _BYTES[0]
_AGAIN_SECONDS: Final = 1.0

NO_TIME: Final = -1.0
"""Instead of the seconds to a first byte: there was none, or it is observed already."""


def known_status(status: object) -> int:
    """Give the status as a number; 0 for what is no status of HTTP, which an application might send in any number."""
    try:
        number = int(status)  # type: ignore[call-overload]
    except (TypeError, ValueError, OverflowError):
        return 0
    return number if number in _STATUSES else 0


class Method:
    """One method: its label, where its requests in progress are counted, and the cells of the endpoints it was used on."""

    __slots__ = ("_places", "_progress", "at", "doubles", "endpoints", "label")

    def __init__(self, label: str) -> None:
        self.label = label
        self._progress = families.http_requests_in_progress.labels(label)._value
        #: Per endpoint, the cells of the status that it answered with last, which is most often the next one's.
        self.endpoints: dict[str, Cells] = {}
        self._open()

    def add(self, requests: float) -> None:
        """Add to the requests in progress: for where `doubles[at] += requests` raises, since there is no such place, or no longer."""
        self._progress.inc(requests)
        if self._places:
            self._open()

    def _open(self) -> None:
        """Find where requests in progress may be written directly; nowhere where the values are not those of this package."""
        found = direct([self._progress])
        self._places = found is not None
        self.doubles, (self.at,) = found or (DETACHED, [0])


class Methods(dict[str, Method]):
    """The method of each word that a client sent; words that are no method are not kept."""

    def __missing__(self, word: str) -> Method:
        if word not in _METHODS and word != OTHER:
            return self[OTHER]
        made = self[word] = Method(word)
        return made


class Cells:
    """What one finished request moves; `finish` and `first_byte` move it."""

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
        #: Time to first byte, duration, size of the request, size of the response: in the order in which they are observed.
        self._histograms: list[Histogram] = [
            families.http_time_to_first_byte_seconds.labels(method, endpoint),
            families.http_request_duration_seconds.labels(method, endpoint),
            families.http_request_size_bytes.labels(method, endpoint),
            families.http_response_size_bytes.labels(method, endpoint),
        ]
        #: When to look them up again, since a family that was full, or could not be asked, gave those of its overflow; 0 is never.
        self.again_at = 0.0
        if counter._labelvalues != labels or any(child._labelvalues != labels[:2] for child in self._histograms):
            self.again_at = monotonic() + _AGAIN_SECONDS
        self._open()

    def first_byte(self, first: float) -> None:
        """Observe the first byte alone."""
        self._histograms[0].observe(first)

    def finish(self, first: float, seconds: float, received: int, sent: int) -> None:
        """Observe, and count last: a histogram is never behind the counter. `first` is NO_TIME where there is none to observe."""
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
            # The process forked, or the file was rewritten, perhaps between two of these lines.
            self._add(done, first, seconds, received, sent)

    def _add(self, done: int, first: float, seconds: float, received: int, sent: int) -> None:
        """Do what `finish` has not done, value by value, which finds them a file; let it write directly there from the next time on."""
        for add, amount in islice(self._additions(first, seconds, received, sent), done, None):
            if amount:
                add(amount)
        if self._doubles is not None:
            self._open()

    def _additions(self, first: float, seconds: float, received: int, sent: int) -> Iterator[tuple[Inc, float]]:
        """Give what `finish` adds, in its order."""
        for histogram, amount, bounds in zip(self._histograms, (first, seconds, received, sent), _BOUNDS, strict=True):
            yield histogram._sum.inc, max(amount, 0.0)
            yield histogram._buckets[bisect_left(bounds, amount)].inc, 1.0 if amount >= 0.0 else 0.0
        yield self._count.inc, 1.0

    def _open(self) -> None:
        """Find where `finish` may write directly; nowhere where the values are not those of this package."""
        self._doubles: memoryview[float] | None = None
        count = direct([self._count])
        found = direct([value for child in self._histograms for value in (child._sum, *child._buckets)])
        if count is None or found is None:
            return
        self._counts, (self._count_at,) = count
        places = iter(found[1])
        first, duration, received, sent = (tuple(islice(places, 1 + len(bounds))) for bounds in _BOUNDS)
        #: The numbers are objects already: an index of a memoryview has to be one.
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
