"""Circuit breakers: one per service and instance, whose state all workers share through the metrics directory.

Importing this does not import prometheus_client before a Breaker is asked for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .policy import Policy
from .state_layout import CLOSED, HALF_OPEN, OPEN, STATES

if TYPE_CHECKING:
    from .circuit import Breaker, CircuitOpenError

__all__ = ["CLOSED", "HALF_OPEN", "OPEN", "STATES", "Breaker", "CircuitOpenError", "Policy"]


def __getattr__(name: str) -> Any:
    if name in {"Breaker", "CircuitOpenError"}:
        from . import circuit

        return getattr(circuit, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
