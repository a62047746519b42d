"""Fast access to the children of prometheus_client's metrics, without the overhead of `labels()` and `observe()`."""

from __future__ import annotations

from bisect import bisect_left
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from prometheus_client import Counter, Histogram
    from prometheus_client.metrics import MetricWrapperBase

    _Metric = TypeVar("_Metric", bound=MetricWrapperBase)


def child(metric: _Metric, *labels: str) -> _Metric:
    """Return the child of these label values. Only a new one needs `labels()`, and so the limit of series."""
    # The table of `labels()`, without its lock, which a lookup does not need.
    found: Any = metric._metrics.get(labels)
    return metric.labels(*labels) if found is None else found


def count(counter: Counter, *labels: str) -> None:
    """Add 1 to the child of these label values."""
    child(counter, *labels)._value.inc(1.0)


def observe(histogram: Histogram, amount: float) -> None:
    """Observe in a histogram without labels, or in a child. The bucket is found by bisection."""
    histogram._sum.inc(amount)
    histogram._buckets[bisect_left(histogram._upper_bounds, amount)].inc(1.0)
