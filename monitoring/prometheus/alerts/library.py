"""Alerts on the library itself."""

from __future__ import annotations

from monitoring.prometheus.configuration import Configuration, duration
from monitoring.prometheus.promql import LEVEL, matchers

from .alert import CRITICAL, NONE, Alert

_BY = f"{LEVEL}, instance"
_INSTANCE = "{{ $labels.instance }}"


def alerts(configuration: Configuration) -> dict[str, Alert]:
    """Return all alerts by their names."""
    text = "This alert always fires. When it does not arrive, Prometheus or Alertmanager is down."
    watchdog = Alert("vector(1)", "Alerting works", text, NONE)
    return {
        "Watchdog": watchdog,
        **_targets(configuration),
        **_workers(configuration),
        **_directory(configuration),
        **_losses(configuration),
    }


def _targets(configuration: Configuration) -> dict[str, Alert]:
    times, job = configuration.times, configuration.job
    up = "up" + matchers(f'job="{job}"', configuration.selector)
    return {
        "MetricsTargetDown": Alert(
            f"{up} == 0",
            f"{_INSTANCE} cannot be scraped",
            f"Prometheus gets no metrics from {_INSTANCE}: the exporter or its machine is down, or refuses the token.",
            CRITICAL,
            times.target_for,
        ),
        "MetricsTargetMissing": Alert(
            f"absent({up})",
            f"There is nothing to scrape of {job}",
            f"Prometheus knows no target of the job {job}: its metrics and alerts are out of date.",
            CRITICAL,
            times.missing_for,
        ),
    }


def _workers(configuration: Configuration) -> dict[str, Alert]:
    times, chosen, most = configuration.times, matchers(configuration.selector), configuration.starts_per_worker
    workers = f"max by ({_BY}) (multiproc_workers{chosen})"
    starts = f"sum by ({_BY}) (increase(multiproc_workers_started_total{chosen}[{duration(times.storm)}]))"
    held = f"multiproc_elected{chosen} == 1"
    vacant = (f'label_replace({workers} > 0, "role", "{role}", "", "") unless on ({_BY}, role) {held}' for role in configuration.roles)
    return {
        "NoWorkers": Alert(
            f"{workers} == 0",
            f"{_INSTANCE} has no worker",
            f"The exporter of {_INSTANCE} answers, but no worker of the service lives.",
            CRITICAL,
            times.target_for,
        ),
        "WorkersRestarting": Alert(
            f"{starts} > {most:g} * {workers}",
            f"Workers of {_INSTANCE} start again and again",
            f"{{{{ $value | humanize }}}} workers were started on {_INSTANCE} within {duration(times.storm)}:"
            f" more than {most:g} for each that lives.",
        ),
        "NoElectedWriter": Alert(
            " or ".join(vacant),
            f"No worker on {_INSTANCE} updates the metrics of {{{{ $labels.role }}}}",
            f"No worker of {_INSTANCE} has held the role {{{{ $labels.role }}}}"
            f" for {duration(times.kit_for)}: its values are gone, or stand still.",
            lasting=times.kit_for,
        ),
    }


def _directory(configuration: Configuration) -> dict[str, Alert]:
    chosen, lasting, least = matchers(configuration.selector), configuration.times.kit_for, configuration.directory_free_ratio
    free, used = (f"max by ({_BY}) ({family}{chosen})" for family in ("multiproc_free_bytes", "multiproc_bytes"))
    return {
        "MetricsDirectoryFillingUp": Alert(
            f"{free} / ({free} + {used}) < {least:g}",
            f"The metrics directory of {_INSTANCE} fills up",
            f"{{{{ $value | humanizePercentage }}}} of the size to which the metrics directory of {_INSTANCE} can grow is free,"
            f" less than {least:.0%}. When it is full, new series are not counted.",
            lasting=lasting,
        ),
        "MetricsFilesBad": Alert(
            f"max by ({_BY}, reason) (multiproc_bad_files{chosen}) > 0",
            "{{ $value }} metrics file(s) of {{ $labels.instance }} are {{ $labels.reason }}",
            "{{ $value }} file(s) in the metrics directory of {{ $labels.instance }} cannot be read as they should be"
            " ({{ $labels.reason }}); they are skipped, or kept at their last good values.",
            lasting=lasting,
        ),
    }


def _losses(configuration: Configuration) -> dict[str, Alert]:
    return {
        "MetricsSeriesRefused": Alert(
            _risen(configuration, "multiproc_refused_series_total", "family"),
            "{{ $labels.family }} has too many series",
            "{{ $labels.family }} has reached its cap on {{ $labels.instance }}:"
            " {{ $value }} calls with new labels went to the series `_other`.",
        ),
        "MetricsObservationsDropped": Alert(
            _risen(configuration, "multiproc_dropped_observations_total", "reason"),
            f"{_INSTANCE} loses observations",
            "{{ $value }} observations on {{ $labels.instance }} were dropped ({{ $labels.reason }}): its counters are too low by that.",
        ),
    }


def _risen(configuration: Configuration, family: str, label: str) -> str:
    """Find a counter that has risen. increase() does not see a series whose first sample is a loss already."""
    now = f"sum by ({_BY}, {label}) ({family}{matchers(configuration.selector)}"
    return f"{now}) > 0 unless {now}) <= {now} offset {duration(configuration.times.refused)})"
