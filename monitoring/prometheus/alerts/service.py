"""The seed's alerts on requests, language models, breakers and agents: its names, its thresholds.

They ask for the families themselves and not for recorded series, so that they work where only this file is loaded.
"""

from __future__ import annotations

from monitoring.prometheus.configuration import Configuration, duration
from monitoring.prometheus.promql import LEVEL, matchers, quantile, rate, users
from monitoring.prometheus.rules import DURATION, failed

from .alert import CRITICAL, Alert

_RYOT = {"service": "ryot"}
_SHARE, _TIME = "{{ $value | humanizePercentage }}", "{{ $value | humanizeDuration }}"


def alerts(configuration: Configuration) -> dict[str, Alert]:
    """Return them by their names, in the seed's order."""
    silent = configuration.times.agent_for
    down = Alert(
        # The values come from the database: every instance of it shows the same.
        f"max by ({LEVEL}, agent) (neurectomy_agent_healthy{matchers(configuration.selector)}) == 0",
        "Agent {{ $labels.agent }} is down",
        f"Agent {{{{ $labels.agent }}}} has sent no heartbeat in time for {duration(silent)}.",
        lasting=silent,
    )
    return {**_http(configuration), **_ryot(configuration), **_breakers(configuration), "AgentDown": down}


def _http(configuration: Configuration) -> dict[str, Alert]:
    times = configuration.times
    return {
        "HighErrorRate": Alert(
            f"{failed(configuration, times.errors)} > {configuration.error_ratio:g}",
            f"{_SHARE} of the requests fail",
            f"{_SHARE} of the requests to {{{{ $labels.job }}}} were answered with 5xx{_more(times.errors, configuration.error_ratio)}",
            CRITICAL,
            times.errors_for,
        ),
        "HighLatency": Alert(
            f"{quantile(configuration, DURATION, times.latency, users(configuration), by='endpoint')} > {configuration.latency_seconds:g}",
            "{{ $labels.endpoint }} is slow",
            f"95% of the requests to {{{{ $labels.endpoint }}}} take up to {_TIME}, more than {configuration.latency_seconds:g}s.",
            lasting=times.latency_for,
        ),
    }


def _ryot(configuration: Configuration) -> dict[str, Alert]:
    times, calls, model = configuration.times, "neurectomy_ryot_requests_total", "the model {{ $labels.model }}"
    bad = rate(configuration, calls, times.errors, 'status=~"error|timeout"', by="model")
    took = quantile(configuration, "neurectomy_ryot_request_duration_seconds", times.latency, by="model")
    most, slow = configuration.ryot_error_ratio, configuration.ryot_latency_seconds
    return {
        "RyotLLMHighErrorRate": Alert(
            f"{bad} / {rate(configuration, calls, times.errors, by='model')} > {most:g}",
            _SHARE + " of the calls of {{ $labels.model }} fail",
            f"{_SHARE} of the calls of {model} ended with an error or a timeout{_more(times.errors, most)}",
            CRITICAL,
            times.errors_for,
            labels=_RYOT,
        ),
        "RyotLLMHighLatency": Alert(
            f"{took} > {slow:g}",
            "The model {{ $labels.model }} is slow",
            f"95% of the calls of {model} take up to {_TIME}, more than {slow:g}s.",
            lasting=times.latency_for,
            labels=_RYOT,
        ),
    }


def _breakers(configuration: Configuration) -> dict[str, Alert]:
    times, most = configuration.times, configuration.breaker_failure_ratio
    failures = rate(configuration, "neurectomy_circuit_breaker_failures_total", times.errors, by="service")
    # A refused call was not tried: with it, an open breaker would look healthier than a closed one.
    calls = rate(configuration, "neurectomy_circuit_breaker_calls_total", times.errors, 'result!="refused"', by="service")
    return {
        "CircuitBreakerOpen": Alert(
            f"count by ({LEVEL}, service) (neurectomy_circuit_breaker_state{matchers(configuration.selector)} == 1)",
            "The breaker of {{ $labels.service }} is open",
            "Calls of {{ $labels.service }} are refused in {{ $value }} instance(s): it has failed too often.",
            CRITICAL,
            keep=times.breaker_keep,
        ),
        "HighCircuitBreakerFailures": Alert(
            f"{failures} / {calls} > {most:g}",
            _SHARE + " of the calls of {{ $labels.service }} fail",
            f"{_SHARE} of the calls through the breaker of {{{{ $labels.service }}}} failed{_more(times.errors, most)}",
            lasting=times.errors_for,
        ),
    }


def _more(seconds: float, ratio: float) -> str:
    return f" over {duration(seconds)}, more than {ratio:.0%}."
