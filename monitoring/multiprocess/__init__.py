"""Prometheus metrics of many processes that stay exact, bounded and cheap: slot leases under prometheus-client's file format.

Importing this changes nothing, and does not import prometheus_client, before `install()`. The names of `__all__` are the ones that the
rest of the library, and an application, may use; the modules behind them are internal.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from .bootstrap import acquire, current_slot, install, metrics_directory
from .options import limit_series, per_worker
from .storage import library_families, paths

if TYPE_CHECKING:
    from .linux.file_owner import assign as assign_owner
    from .merge.collector import MergedCollector
    from .shared_state import SharedState
    from .storage.location import VARIABLE as DIRECTORY_VARIABLE
    from .storage.location import DirectoryError
    from .storage.location import choose as choose_directory
    from .storage.location import find as find_directory
    from .storage.run import join as join_run
    from .worker.election import Election
    from .written_samples import WrittenSample, read_samples

__all__ = [
    "DIRECTORY_VARIABLE",
    "DirectoryError",
    "Election",
    "MergedCollector",
    "SharedState",
    "WrittenSample",
    "acquire",
    "assign_owner",
    "choose_directory",
    "current_slot",
    "find_directory",
    "install",
    "join_run",
    "library_families",
    "limit_series",
    "metrics_directory",
    "paths",
    "per_worker",
    "read_samples",
]

#: Names that are imported at their first use: the module of each, and its name there if that is another one.
_LAZY = {
    "DIRECTORY_VARIABLE": "storage.location:VARIABLE",
    "DirectoryError": "storage.location",
    "Election": "worker.election",
    "MergedCollector": "merge.collector",
    "SharedState": "shared_state",
    "WrittenSample": "written_samples",
    "assign_owner": "linux.file_owner:assign",
    "choose_directory": "storage.location:choose",
    "find_directory": "storage.location:find",
    "join_run": "storage.run:join",
    "read_samples": "written_samples",
}


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        module, _, own_name = _LAZY[name].partition(":")
        return getattr(import_module(f".{module}", __name__), own_name or name)
    message = f"module {__name__!r} has no attribute {name!r}"
    raise AttributeError(message)
