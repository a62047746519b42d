"""Prometheus metrics of many processes that stay exact, bounded and cheap: slot leases under prometheus-client's file format.

Importing this changes nothing, and does not import prometheus_client, before `install()`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .bootstrap import acquire, install, limit_series, per_worker
from .storage import paths

if TYPE_CHECKING:
    from .merge.collector import MergedCollector

__all__ = ["MergedCollector", "acquire", "install", "limit_series", "paths", "per_worker"]


def __getattr__(name: str) -> Any:
    if name == "MergedCollector":
        from .merge.collector import MergedCollector

        return MergedCollector
    message = f"module {__name__!r} has no attribute {name!r}"
    raise AttributeError(message)
