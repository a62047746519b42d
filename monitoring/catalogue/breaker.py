"""Circuit breakers: one per service and instance, shared by its workers."""

from .declaration import Rule, counter, gauge

_SERVICE = ("service",)

circuit_breaker_state = gauge("circuit_breaker_state", "State of the breaker: 0 closed, 1 open, 2 half-open.", Rule.SAMPLED, _SERVICE)
circuit_breaker_failures = counter("circuit_breaker_failures", "Calls through the breaker that failed.", _SERVICE)
circuit_breaker_calls = counter(
    "circuit_breaker_calls", "Calls through the breaker by result: success, failure, refused.", (*_SERVICE, "result")
)
circuit_breaker_transitions = counter(
    "circuit_breaker_transitions", "Changes of the breaker's state, each counted once.", (*_SERVICE, "from_state", "to_state")
)
circuit_breaker_rebuilt = counter("circuit_breaker_rebuilt", "Damaged states of the breaker that were replaced by closed ones.", _SERVICE)
