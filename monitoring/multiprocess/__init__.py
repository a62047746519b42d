"""Prometheus metrics of many processes that stay exact, bounded and cheap: slot leases under prometheus-client's file format.

Importing this changes nothing, and does not import prometheus_client, before `install()`. The names of `__all__` are what the rest of
the library, and an application, may use; the modules behind them are internal.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from .bootstrap import acquire, current_slot, install, limit_series, metrics_directory, per_worker
from .storage import paths

if TYPE_CHECKING:
    from .merge.collector import MergedCollector
    from .shared_state import SharedState
    from .worker.election import Election
    from .written_samples import WrittenSample, read_samples

__all__ = [
    "Election",
    "MergedCollector",
    "SharedState",
    "WrittenSample",
    "acquire",
    "current_slot",
    "install",
    "limit_series",
    "metrics_directory",
    "paths",
    "per_worker",
    "read_samples",
]

#: Names that are imported at their first use, and the modules that have them.
_LAZY = {
    "Election": "worker.election",
    "MergedCollector": "merge.collector",
    "SharedState": "shared_state",
    "WrittenSample": "written_samples",
    "read_samples": "written_samples",
}


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        return getattr(import_module(f".{_LAZY[name]}", __name__), name)
    message = f"module {__name__!r} has no attribute {name!r}"
    raise AttributeError(message)
