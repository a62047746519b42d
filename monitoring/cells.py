"""The cells behind the HTTP families, looked up once per endpoint, method and status, then incremented directly.

A cell's `inc` is one cheap call; `labels()` and `observe()` would cost several times the rest of the middleware.
"""

from __future__ import annotations

from bisect import bisect_left
from typing import TYPE_CHECKING, NamedTuple

from . import metrics

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from prometheus_client import Histogram

    Inc = Callable[[float], None]

OTHER = "_other"
"""The method label of whatever is no method of RFC 9110 or PATCH: a client may send any word."""

_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "CONNECT"})


class Method(NamedTuple):
    """A method's label, and how to move its requests in progress."""

    label: str
    progress: Inc


class Methods(dict[str, Method]):
    """Methods by the word that a client sent; words that are no method are not kept."""

    def __missing__(self, word: str) -> Method:
        if word not in _METHODS and word != OTHER:
            return self[OTHER]
        made = self[word] = Method(word, metrics.http_requests_in_progress.labels(word)._value.inc)  # noqa: SLF001 - the cell
        return made


class Cells:
    """What one finished request moves."""

    __slots__ = (
        "_count",
        "_first_byte",
        "_first_byte_sum",
        "_received",
        "_received_sum",
        "_seconds",
        "_seconds_bounds",
        "_seconds_sum",
        "_sent",
        "_sent_sum",
        "_size_bounds",
        "endpoint",
    )

    def __init__(self, endpoint: str, method: str, status: int) -> None:
        self.endpoint = endpoint
        self._count: Inc = metrics.http_requests.labels(method, endpoint, str(int(status)))._value.inc  # noqa: SLF001 - the cell
        self._seconds_bounds, self._seconds_sum, self._seconds = _open(metrics.http_request_duration_seconds, method, endpoint)
        _, self._first_byte_sum, self._first_byte = _open(metrics.http_time_to_first_byte_seconds, method, endpoint)
        self._size_bounds, self._received_sum, self._received = _open(metrics.http_request_size_bytes, method, endpoint)
        _, self._sent_sum, self._sent = _open(metrics.http_response_size_bytes, method, endpoint)

    def first_byte(self, seconds: float) -> None:
        """Observe the response's start."""
        self._first_byte_sum(seconds)
        self._first_byte[bisect_left(self._seconds_bounds, seconds)](1.0)

    def finished(self, seconds: float, received: int, sent: int) -> None:
        """Observe all the rest, and count the request last: a histogram is never behind the counter."""
        self._seconds_sum(seconds)
        self._seconds[bisect_left(self._seconds_bounds, seconds)](1.0)
        bounds = self._size_bounds
        if received:
            self._received_sum(float(received))
            self._received[bisect_left(bounds, received)](1.0)
        else:
            self._received[0](1.0)
        self._sent_sum(float(sent))
        self._sent[bisect_left(bounds, sent)](1.0)
        self._count(1.0)


def _open(histogram: Histogram, method: str, endpoint: str) -> tuple[Sequence[float], Inc, Sequence[Inc]]:
    """Give a histogram child's bounds, the increment of its sum, and one of each bucket."""
    child = histogram.labels(method, endpoint)
    return tuple(child._upper_bounds), child._sum.inc, tuple(bucket.inc for bucket in child._buckets)  # noqa: SLF001 - the cells
