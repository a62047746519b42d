"""Prometheus' own configuration: its targets, its rules and its Alertmanagers."""

from __future__ import annotations

from typing import Any

from .configuration import Configuration, duration

_ASKED_FOR = {"source_labels": ["__name__"], "regex": "container_(cpu|memory|spec)_.*", "action": "keep"}


def scraping(configuration: Configuration) -> dict[str, Any]:
    """Return the content of prometheus.yml. More instances are more targets: one exporter each."""
    times = configuration.times
    service: dict[str, Any] = {
        "job_name": configuration.job,
        # Of one instance that has lost all bounds; the others go on.
        "sample_limit": configuration.sample_limit,
        "body_size_limit": configuration.body_size_limit,
        "label_limit": configuration.label_limit,
        "label_value_length_limit": configuration.label_value_length_limit,
        "static_configs": [{"targets": list(configuration.targets), "labels": {"cluster": configuration.cluster}}],
    }
    if configuration.token_file:
        service["authorization"] = {"credentials_file": configuration.token_file}
    jobs = [service, _beside("prometheus", configuration.prometheus), _beside("alertmanager", *configuration.alertmanagers)]
    if configuration.cadvisor:
        jobs.append(_beside("cadvisor", *configuration.cadvisor) | {"metric_relabel_configs": [_ASKED_FOR]})
    return {
        "global": {
            "scrape_interval": duration(times.scrape),
            "scrape_timeout": duration(min(times.scrape_timeout, times.scrape)),
            "evaluation_interval": duration(times.evaluation),
        },
        "rule_files": ["rules.yml", "alerts.yml"],
        "alerting": {"alertmanagers": [{"static_configs": [{"targets": list(configuration.alertmanagers)}]}]},
        "scrape_configs": jobs,
    }


def _beside(job: str, *targets: str) -> dict[str, Any]:
    return {"job_name": job, "static_configs": [{"targets": list(targets)}]}
