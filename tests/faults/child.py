"""What a child of a worker runs.

It imports what it counts only when it runs, so that install() in a spawned child sees the worker as its
parent, as it sees the supervisor in a worker of `uvicorn --workers`.
"""

from __future__ import annotations


def count_in_child(method: str, times: int) -> None:
    """Count in a child process."""
    from .children import CHILDREN

    for _ in range(times):
        CHILDREN.labels(method).inc()
