"""Alerts on how fast the month's budget of failed and of slow requests burns.

Each looks over a long time, and over a short one as well, so that it ends soon after the cause does.
"""

from __future__ import annotations

from monitoring.prometheus.configuration import Configuration, duration
from monitoring.prometheus.rules import AVAILABILITY, LATENCY

from .alert import CRITICAL, WARNING, Alert


def alerts(configuration: Configuration) -> dict[str, Alert]:
    """Return two per objective: one that pages at once, one that can wait for the morning."""
    times, available, quick = configuration.times, configuration.availability_objective, configuration.latency_objective
    slow = f"were slow, and {quick * 100:.6g}% are to take at most {configuration.latency_objective_seconds:g}s"
    objectives = (
        ("ErrorBudgetBurn", AVAILABILITY, available, "errors", f"failed, and {available * 100:.6g}% are to succeed"),
        ("LatencyBudgetBurn", LATENCY, quick, "slow requests", slow),
    )
    speeds = (
        ("Fast", CRITICAL, "is gone within days", times.page_for, configuration.page_burns, times.page_long, times.page_short),
        ("Slow", WARNING, "will not last", times.ticket_for, configuration.ticket_burns, times.ticket_long, times.ticket_short),
    )
    return {
        name + speed: Alert(
            _burning(series, 1 - objective, burns, longs, shorts),
            f"The month's budget of {budget} {fate}",
            f"{{{{ $value | humanizePercentage }}}} of the requests to {{{{ $labels.job }}}} over {duration(longs[0])} or more {text}.",
            severity,
            lasting,
        )
        for name, series, objective, budget, text in objectives
        for speed, severity, fate, lasting, burns, longs, shorts in speeds
    }


def _burning(series: str, budget: float, burns: tuple[float, ...], longs: tuple[float, ...], shorts: tuple[float, ...]) -> str:
    each = []
    for burn, *windows in zip(burns, longs, shorts, strict=True):
        both = [f"{series.format(duration(seconds))} > {burn * budget:.6g}" for seconds in windows]
        each.append(f"({' and '.join(both)})")
    return " or ".join(each)
