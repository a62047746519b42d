"""Circuit breakers: one per service and instance, whose state all workers share through the metrics directory."""

from .circuit import Breaker, CircuitOpenError, Policy
from .words import CLOSED, HALF_OPEN, OPEN, STATES

__all__ = ["CLOSED", "HALF_OPEN", "OPEN", "STATES", "Breaker", "CircuitOpenError", "Policy"]
