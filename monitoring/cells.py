"""The cells behind the HTTP families, looked up once per endpoint, method and status, then incremented directly.

A cell's `inc` is one cheap call; `labels()` and `observe()` would cost several times the rest of the middleware.
"""

from __future__ import annotations

from bisect import bisect_left
from typing import TYPE_CHECKING

from . import metrics

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from prometheus_client import Histogram

    Inc = Callable[[float], None]
    FirstByte = Callable[[float], None]
    Finish = Callable[[float | None, float, int, int], None]

OTHER = "_other"
"""The method label of whatever is no method of RFC 9110 or PATCH, since a client may send any word; the status of what is none."""

_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "CONNECT"})


_STATUSES = range(100, 1000)


def known_status(status: object) -> int:
    """Give the status as a number; 0 for what is no status of HTTP, which an application might send in any number."""
    try:
        number = int(status)  # type: ignore[call-overload]
    except (TypeError, ValueError, OverflowError):
        return 0
    return number if number in _STATUSES else 0


class Methods(dict[str, "tuple[str, Inc]"]):
    """The label of each word that a client sent, and how to move its requests in progress; words that are no method are not kept."""

    def __missing__(self, word: str) -> tuple[str, Inc]:
        if word not in _METHODS and word != OTHER:
            return self[OTHER]
        made = self[word] = (word, metrics.http_requests_in_progress.labels(word)._value.inc)  # noqa: SLF001 - the cell
        return made


class Cells:
    """What one finished request moves; `finish` and `first_byte` move it."""

    __slots__ = ("bodiless", "endpoint", "finish", "first_byte")

    def __init__(self, endpoint: str, method: str, status: int) -> None:
        self.endpoint = endpoint
        self.bodiless = method == "HEAD" or 100 <= status < 200 or status in {204, 304}  # noqa: PLR2004 - 1xx
        self.first_byte, self.finish = _writers(endpoint, method, status)


def _writers(endpoint: str, method: str, status: int) -> tuple[FirstByte, Finish]:
    """Give the two functions with every cell bound in them, which is the cheapest way for Python to reach so many."""
    count: Inc = metrics.http_requests.labels(method, endpoint, str(status) if status else OTHER)._value.inc  # noqa: SLF001 - the cell
    seconds_bounds, seconds_sum, seconds_buckets = _open(metrics.http_request_duration_seconds, method, endpoint)
    _, first_sum, first_buckets = _open(metrics.http_time_to_first_byte_seconds, method, endpoint)
    size_bounds, received_sum, received_buckets = _open(metrics.http_request_size_bytes, method, endpoint)
    _, sent_sum, sent_buckets = _open(metrics.http_response_size_bytes, method, endpoint)
    received_none, sent_none = received_buckets[0], sent_buckets[0]

    def first_byte(first: float) -> None:
        first_sum(first)
        first_buckets[bisect_left(seconds_bounds, first)](1.0)

    def finish(first: float | None, seconds: float, received: int, sent: int) -> None:
        """Observe, and count last: a histogram is never behind the counter. `first` is None where it is observed already."""
        bucket = bisect_left(seconds_bounds, seconds)
        if first is not None:
            first_sum(first)
            first_buckets[bucket if not bucket else bisect_left(seconds_bounds, first)](1.0)
        seconds_sum(seconds)
        seconds_buckets[bucket](1.0)
        if received:
            received_sum(float(received))
            received_buckets[bisect_left(size_bounds, received)](1.0)
        else:
            received_none(1.0)
        if sent:
            sent_sum(float(sent))
            sent_buckets[bisect_left(size_bounds, sent)](1.0)
        else:
            sent_none(1.0)
        count(1.0)

    return first_byte, finish


def _open(histogram: Histogram, method: str, endpoint: str) -> tuple[Sequence[float], Inc, Sequence[Inc]]:
    """Give a histogram child's bounds, the increment of its sum, and one of each bucket."""
    child = histogram.labels(method, endpoint)
    return tuple(child._upper_bounds), child._sum.inc, tuple(bucket.inc for bucket in child._buckets)  # noqa: SLF001 - the cells
