"""The generated manifests, as text."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import yaml

from monitoring.prometheus import generator
from monitoring.prometheus.alerts.groups import alerts
from monitoring.prometheus.rules import rules

from .prometheus_operator import pod_monitor, prometheus_rule
from .scrape_config import scraping

if TYPE_CHECKING:
    from pathlib import Path

    from monitoring.prometheus import Configuration

_HEAD = "# Made by `python -m monitoring.kubernetes`; change monitoring/prometheus or monitoring/kubernetes and make it anew.\n"


def texts(configuration: Configuration) -> dict[str, str]:
    """Return the text of each file, by its path in k8s/."""
    made: dict[str, dict[str, Any]] = {
        "components/prometheus-operator/podmonitor.yaml": pod_monitor(configuration),
        "components/prometheus-operator/rules.yaml": prometheus_rule("neurectomy-rules", rules(configuration)),
        "components/prometheus-operator/alerts.yaml": prometheus_rule("neurectomy-alerts", alerts(configuration)),
        "components/stack/prometheus.yml": scraping(configuration),
    }
    return {name: _HEAD + yaml.safe_dump(content, sort_keys=False, width=160) for name, content in made.items()}


def write(configuration: Configuration, folder: Path) -> None:
    """Write all of them. OSError where that fails."""
    generator.write(texts(configuration), folder)
