"""Alerts on the kit itself: who watches the watchers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from monitoring.prometheus.configuration import duration
from monitoring.prometheus.promql import LEVEL, matchers

from .alert import CRITICAL, NONE, WARNING, Alert

if TYPE_CHECKING:
    from monitoring.prometheus.configuration import Configuration

_INSTANCE = f"{LEVEL}, instance"


def alerts(configuration: Configuration) -> list[Alert]:
    """Return all alerts."""
    return [
        Alert(
            "Watchdog",
            "vector(1)",
            NONE,
            "Alerting works",
            "This alert always fires. When it does not arrive, Prometheus or Alertmanager is down.",
        ),
        *_targets(configuration),
        *_workers(configuration),
        *_directory(configuration),
        *_losses(configuration),
    ]


def _targets(configuration: Configuration) -> list[Alert]:
    times = configuration.times
    up = "up" + matchers(f'job="{configuration.job}"', configuration.selector)
    return [
        Alert(
            "MetricsTargetDown",
            f"{up} == 0",
            CRITICAL,
            "{{ $labels.instance }} cannot be scraped",
            "Prometheus gets no metrics from {{ $labels.instance }}: the exporter or its machine is down, or refuses the token.",
            lasting=times.target_for,
        ),
        Alert(
            "MetricsTargetMissing",
            f"absent({up})",
            CRITICAL,
            f"There is nothing to scrape of {configuration.job}",
            f"Prometheus knows no target of the job {configuration.job}: its metrics and alerts are out of date.",
            lasting=times.missing_for,
        ),
    ]


def _workers(configuration: Configuration) -> list[Alert]:
    times, chosen = configuration.times, matchers(configuration.selector)
    workers = f"max by ({_INSTANCE}) (multiproc_workers{chosen})"
    starts = f"sum by ({_INSTANCE}) (increase(multiproc_workers_started_total{chosen}[{duration(times.storm)}]))"
    held = f"multiproc_elected{chosen} == 1"
    nobody = " or ".join(
        f'label_replace({workers} > 0, "role", "{role}", "", "") unless on ({_INSTANCE}, role) {held}' for role in configuration.roles
    )
    return [
        Alert(
            "NoWorkers",
            f"{workers} == 0",
            CRITICAL,
            "{{ $labels.instance }} has no worker",
            "The exporter of {{ $labels.instance }} answers, but no worker of the service lives.",
            lasting=times.target_for,
        ),
        Alert(
            "WorkersRestarting",
            f"{starts} > {configuration.starts_per_worker:g} * {workers}",
            WARNING,
            "Workers of {{ $labels.instance }} start again and again",
            f"{{{{ $value | humanize }}}} workers were started on {{{{ $labels.instance }}}} within {duration(times.storm)}:"
            f" more than {configuration.starts_per_worker:g} for each that lives.",
        ),
        Alert(
            "NoElectedWriter",
            nobody,
            WARNING,
            "No worker on {{ $labels.instance }} updates the metrics of {{ $labels.role }}",
            "No worker of {{ $labels.instance }} has held the role {{ $labels.role }}"
            f" for {duration(times.kit_for)}: its values are gone, or stand still.",
            lasting=times.kit_for,
        ),
    ]


def _directory(configuration: Configuration) -> list[Alert]:
    times, chosen = configuration.times, matchers(configuration.selector)
    free = f"max by ({_INSTANCE}) (multiproc_free_bytes{chosen})"
    used = f"max by ({_INSTANCE}) (multiproc_bytes{chosen})"
    return [
        Alert(
            "MetricsDirectoryFillingUp",
            f"{free} / ({free} + {used}) < {configuration.directory_free_ratio:g}",
            WARNING,
            "The metrics directory of {{ $labels.instance }} fills up",
            "{{ $value | humanizePercentage }} of the size to which the metrics directory of {{ $labels.instance }} can grow is free,"
            f" less than {configuration.directory_free_ratio:.0%}. When it is full, new series are not counted.",
            lasting=times.kit_for,
        ),
        Alert(
            "MetricsFilesBad",
            f"max by ({_INSTANCE}, reason) (multiproc_bad_files{chosen}) > 0",
            WARNING,
            "{{ $value }} metrics file(s) of {{ $labels.instance }} are {{ $labels.reason }}",
            "{{ $value }} file(s) in the metrics directory of {{ $labels.instance }} cannot be read as they should be"
            " ({{ $labels.reason }}); they are skipped, or kept at their last good values.",
            lasting=times.kit_for,
        ),
    ]


def _losses(configuration: Configuration) -> list[Alert]:
    return [
        Alert(
            "MetricsSeriesRefused",
            _risen(configuration, "multiproc_refused_series_total", "family"),
            WARNING,
            "{{ $labels.family }} has too many series",
            "{{ $labels.family }} has reached its cap on {{ $labels.instance }}:"
            " {{ $value }} calls with new labels went to the series `_other`.",
        ),
        Alert(
            "MetricsObservationsDropped",
            _risen(configuration, "multiproc_dropped_observations_total", "reason"),
            WARNING,
            "{{ $labels.instance }} loses observations",
            "{{ $value }} observations on {{ $labels.instance }} were dropped ({{ $labels.reason }}): its counters are too low by that.",
        ),
    ]


def _risen(configuration: Configuration, family: str, label: str) -> str:
    """Find a counter that has risen. increase() does not see a series whose first sample is a loss already."""
    now = f"sum by ({_INSTANCE}, {label}) ({family}{matchers(configuration.selector)}"
    return f"{now}) > 0 unless {now}) <= {now} offset {duration(configuration.times.refused)})"
