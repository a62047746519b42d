"""Children of stock metrics at the least cost: without what `labels()` and `observe()` do beyond the work itself."""

from __future__ import annotations

from bisect import bisect_left
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from prometheus_client import Counter, Histogram
    from prometheus_client.metrics import MetricWrapperBase

    _Metric = TypeVar("_Metric", bound=MetricWrapperBase)


def child(metric: _Metric, *labels: str) -> _Metric:
    """Give the child of these label values, as strings, in order; `labels()` is asked for new ones only, which is where a cap refuses."""
    # What `labels()` itself looks at, under a lock that reading does not need.
    found: Any = metric._metrics.get(labels)
    return metric.labels(*labels) if found is None else found


def count(counter: Counter, *labels: str) -> None:
    """Add 1 to the child of these label values."""
    child(counter, *labels)._value.inc(1.0)


def observe(histogram: Histogram, amount: float) -> None:
    """Observe in a histogram without labels, or a child; the bucket is searched by halves."""
    histogram._sum.inc(amount)
    histogram._buckets[bisect_left(histogram._upper_bounds, amount)].inc(1.0)
