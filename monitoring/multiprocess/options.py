"""Options of single metrics and collectors, which an application may set before or after `install()`."""

from __future__ import annotations

from typing import TypeVar

_Collector = TypeVar("_Collector")
_limits: dict[str, int] = {}
_per_worker: dict[int, object] = {}


def limit_series(family: str, max_series: int) -> None:
    """Cap the label sets of one metric over all workers, in place of `install(max_series=...)`. Call it in every worker alike."""
    if max_series < 1:
        message = f"limit_series({family!r}, {max_series}): the cap is below 1. Pass 1 or more"
        raise ValueError(message)
    _limits[_without_suffix(family)] = max_series


def series_limit(family: str, default: int) -> int:
    """Return the cap of a metric."""
    return _limits.get(_without_suffix(family), default)


def per_worker(collector: _Collector) -> _Collector:
    """Let a custom collector be called in every worker, its samples under the label `worker` (`s3`), instead of in one for all.

    Returns the collector: `REGISTRY.register(per_worker(MyCollector()))`. Changes nothing once it is registered.
    """
    _per_worker[id(collector)] = collector
    return collector


def is_per_worker(collector: object) -> bool:
    """Return whether `per_worker` was called for this collector."""
    return id(collector) in _per_worker


def _without_suffix(family: str) -> str:
    return family.removesuffix("_total")
