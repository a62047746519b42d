"""Alertmanager's configuration: grouping, inhibition and receivers."""

from __future__ import annotations

from typing import Any

from .configuration import Configuration, duration


def notifying(configuration: Configuration) -> dict[str, Any]:
    """Return the content of alertmanager.yml. A receiver without a URL sends nothing: its alerts are only shown."""
    times = configuration.times
    return {
        "route": {
            "receiver": "operators",
            "group_by": ["alertname", "cluster", "service"],
            "group_wait": duration(times.group_wait),
            "group_interval": duration(times.group_interval),
            "repeat_interval": duration(times.repeat),
            "routes": [
                {
                    "receiver": "watchdog",
                    "matchers": ['alertname="Watchdog"'],
                    "group_interval": duration(times.watchdog_repeat),
                    "repeat_interval": duration(times.watchdog_repeat),
                }
            ],
        },
        "receivers": [
            _receiver("operators", configuration.webhook_url, resolved=True),
            _receiver("watchdog", configuration.watchdog_url, resolved=False),
        ],
        "inhibit_rules": [
            # An open breaker is the reason why its service fails.
            _mutes('alertname="CircuitBreakerOpen"', 'alertname=~"RyotLLM.*|HighCircuitBreakerFailures"', "cluster", "job", "service"),
            _mutes('alertname="ErrorBudgetBurnFast"', 'alertname="ErrorBudgetBurnSlow"', "cluster", "job"),
            _mutes('alertname="LatencyBudgetBurnFast"', 'alertname="LatencyBudgetBurnSlow"', "cluster", "job"),
            # A role needs a worker to hold it.
            _mutes('alertname="NoWorkers"', 'alertname="NoElectedWriter"', "cluster", "job", "instance"),
        ],
    }


def _receiver(name: str, url: str, *, resolved: bool) -> dict[str, Any]:
    return {"name": name, "webhook_configs": [{"url": url, "send_resolved": resolved}]} if url else {"name": name}


def _mutes(source: str, target: str, *equal: str) -> dict[str, Any]:
    return {"source_matchers": [source], "target_matchers": [target], "equal": list(equal)}
