"""Alerts on how fast the month's budget of failed and of slow requests burns.

Each looks over a long time, and over a short one as well, so that it ends soon after the cause does.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from monitoring.prometheus.configuration import duration
from monitoring.prometheus.rules import AVAILABILITY, LATENCY

from .alert import CRITICAL, WARNING, Alert

if TYPE_CHECKING:
    from monitoring.prometheus.configuration import Configuration


@dataclass(frozen=True)
class _Objective:
    name: str
    series: str
    objective: float
    budget: str
    text: str


def alerts(configuration: Configuration) -> list[Alert]:
    """Return two per objective: one that pages at once, one that can wait for the morning."""
    available, quick = configuration.availability_objective, configuration.latency_objective
    seconds = f"{configuration.latency_objective_seconds:g}s"
    failing = f"failed, and {_percent(available)} are to succeed"
    slow = f"were slow, and {_percent(quick)} are to take at most {seconds}"
    return [
        alert
        for objective in (
            _Objective("ErrorBudgetBurn", AVAILABILITY, available, "errors", failing),
            _Objective("LatencyBudgetBurn", LATENCY, quick, "slow requests", slow),
        )
        for alert in (_fast(configuration, objective), _slow(configuration, objective))
    ]


def _fast(configuration: Configuration, objective: _Objective) -> Alert:
    times = configuration.times
    return Alert(
        f"{objective.name}Fast",
        _burning(objective, configuration.page_burns, times.page_long, times.page_short),
        CRITICAL,
        f"The month's budget of {objective.budget} is gone within days",
        _description(objective, times.page_long[0]),
        lasting=times.page_for,
    )


def _slow(configuration: Configuration, objective: _Objective) -> Alert:
    times = configuration.times
    return Alert(
        f"{objective.name}Slow",
        _burning(objective, configuration.ticket_burns, times.ticket_long, times.ticket_short),
        WARNING,
        f"The month's budget of {objective.budget} will not last",
        _description(objective, times.ticket_long[0]),
        lasting=times.ticket_for,
    )


def _burning(objective: _Objective, burns: tuple[float, ...], longs: tuple[float, ...], shorts: tuple[float, ...]) -> str:
    each = []
    for burn, long, short in zip(burns, longs, shorts, strict=True):
        above = f" > {burn * (1 - objective.objective):.6g}"
        both = [f"{objective.series.format(duration(seconds))}{above}" for seconds in (long, short)]
        each.append(f"({' and '.join(both)})")
    return " or ".join(each)


def _description(objective: _Objective, seconds: float) -> str:
    share = "{{ $value | humanizePercentage }} of the requests to {{ $labels.job }}"
    return f"{share} over {duration(seconds)} or more {objective.text}."


def _percent(ratio: float) -> str:
    return f"{ratio * 100:.6g}%"
