"""The seed's alerts on requests, language models, breakers and agents: its names, its thresholds.

They ask for the families themselves and not for recorded series, so that they work where only this file is loaded.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from monitoring.prometheus.configuration import duration
from monitoring.prometheus.promql import LEVEL, matchers, quantile, rate, users
from monitoring.prometheus.rules import DURATION, failed

from .alert import CRITICAL, WARNING, Alert

if TYPE_CHECKING:
    from monitoring.prometheus.configuration import Configuration

_RYOT = {"service": "ryot"}


def alerts(configuration: Configuration) -> list[Alert]:
    """Give them in the seed's order."""
    return [
        *_http(configuration),
        *_ryot(configuration),
        *_breakers(configuration),
        Alert(
            "AgentDown",
            # The values come from the database: every instance of it shows the same.
            f"max by ({LEVEL}, agent) (neurectomy_agent_healthy{matchers(configuration.selector)}) == 0",
            WARNING,
            "Agent {{ $labels.agent }} is down",
            f"Agent {{{{ $labels.agent }}}} has sent no heartbeat in time for {duration(configuration.times.agent_for)}.",
            lasting=configuration.times.agent_for,
        ),
    ]


def _http(configuration: Configuration) -> list[Alert]:
    times = configuration.times
    return [
        Alert(
            "HighErrorRate",
            f"{failed(configuration, times.errors)} > {configuration.error_ratio:g}",
            CRITICAL,
            "{{ $value | humanizePercentage }} of the requests fail",
            "{{ $value | humanizePercentage }} of the requests to {{ $labels.job }} were answered with 5xx"
            f" over {duration(times.errors)}, more than {configuration.error_ratio:.0%}.",
            lasting=times.errors_for,
        ),
        Alert(
            "HighLatency",
            f"{quantile(configuration, DURATION, times.latency, users(configuration), by='endpoint')} > {configuration.latency_seconds:g}",
            WARNING,
            "{{ $labels.endpoint }} is slow",
            "95% of the requests to {{ $labels.endpoint }} take up to {{ $value | humanizeDuration }},"
            f" more than {configuration.latency_seconds:g}s.",
            lasting=times.latency_for,
        ),
    ]


def _ryot(configuration: Configuration) -> list[Alert]:
    times = configuration.times
    calls = "neurectomy_ryot_requests_total"
    bad = rate(configuration, calls, times.errors, 'status=~"error|timeout"', by="model")
    took = quantile(configuration, "neurectomy_ryot_request_duration_seconds", times.latency, by="model")
    return [
        Alert(
            "RyotLLMHighErrorRate",
            f"{bad} / {rate(configuration, calls, times.errors, by='model')} > {configuration.ryot_error_ratio:g}",
            CRITICAL,
            "{{ $value | humanizePercentage }} of the calls of {{ $labels.model }} fail",
            "{{ $value | humanizePercentage }} of the calls of the model {{ $labels.model }} ended with an error or a timeout"
            f" over {duration(times.errors)}, more than {configuration.ryot_error_ratio:.0%}.",
            lasting=times.errors_for,
            labels=_RYOT,
        ),
        Alert(
            "RyotLLMHighLatency",
            f"{took} > {configuration.ryot_latency_seconds:g}",
            WARNING,
            "The model {{ $labels.model }} is slow",
            "95% of the calls of the model {{ $labels.model }} take up to {{ $value | humanizeDuration }},"
            f" more than {configuration.ryot_latency_seconds:g}s.",
            lasting=times.latency_for,
            labels=_RYOT,
        ),
    ]


def _breakers(configuration: Configuration) -> list[Alert]:
    times = configuration.times
    failures = rate(configuration, "neurectomy_circuit_breaker_failures_total", times.errors, by="service")
    # A refused call was not tried: with it, an open breaker would look healthier than a closed one.
    calls = rate(configuration, "neurectomy_circuit_breaker_calls_total", times.errors, 'result!="refused"', by="service")
    return [
        Alert(
            "CircuitBreakerOpen",
            f"count by ({LEVEL}, service) (neurectomy_circuit_breaker_state{matchers(configuration.selector)} == 1)",
            CRITICAL,
            "The breaker of {{ $labels.service }} is open",
            "Calls of {{ $labels.service }} are refused in {{ $value }} instance(s): it has failed too often.",
            keep=times.breaker_keep,
        ),
        Alert(
            "HighCircuitBreakerFailures",
            f"{failures} / {calls} > {configuration.breaker_failure_ratio:g}",
            WARNING,
            "{{ $value | humanizePercentage }} of the calls of {{ $labels.service }} fail",
            "{{ $value | humanizePercentage }} of the calls through the breaker of {{ $labels.service }} failed"
            f" over {duration(times.errors)}, more than {configuration.breaker_failure_ratio:.0%}.",
            lasting=times.errors_for,
        ),
    ]
