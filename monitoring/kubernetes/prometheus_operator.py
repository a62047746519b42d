"""The Prometheus operator's own kinds: which pods it scrapes how, and the rules and alerts."""

from __future__ import annotations

from typing import Any

from monitoring.prometheus.configuration import Configuration, duration

from .pod_labels import METRICS_PORT, NAME_LABEL, POD_LABELS, TOKEN

_VERSION = "monitoring.coreos.com/v1"
ADDED = frozenset({"namespace", "container", "pod", "job", "endpoint"})
"""Labels that the operator gives every target of a PodMonitor. A family's own label of such a name would be renamed to `exported_...`."""
DROPPED = frozenset({"endpoint"})
"""Those of them that we have a better use for: `endpoint` is a route of the service, not the name of a port."""


def pod_monitor(configuration: Configuration) -> dict[str, Any]:
    """Return the PodMonitor. The job is named by the pods' label, the instance is the pod."""
    times = configuration.times
    return {
        "apiVersion": _VERSION,
        "kind": "PodMonitor",
        "metadata": _metadata("neurectomy-api"),
        "spec": {
            "selector": {"matchLabels": dict(POD_LABELS)},
            "jobLabel": NAME_LABEL,
            "sampleLimit": configuration.sample_limit,
            "bodySizeLimit": configuration.body_size_limit,
            "labelLimit": configuration.label_limit,
            "labelValueLengthLimit": configuration.label_value_length_limit,
            "podMetricsEndpoints": [
                {
                    "port": METRICS_PORT,
                    "interval": duration(times.scrape),
                    "scrapeTimeout": duration(min(times.scrape_timeout, times.scrape)),
                    "authorization": {"credentials": dict(TOKEN)},
                    "relabelings": [
                        {"action": "labeldrop", "regex": "|".join(sorted(DROPPED))},
                        {"sourceLabels": ["__meta_kubernetes_pod_name"], "targetLabel": "instance"},
                        {"targetLabel": "cluster", "replacement": configuration.cluster},
                    ],
                }
            ],
        },
    }


def prometheus_rule(name: str, groups: dict[str, Any]) -> dict[str, Any]:
    """Wrap the content of a rule file."""
    return {"apiVersion": _VERSION, "kind": "PrometheusRule", "metadata": _metadata(name), "spec": groups}


def _metadata(name: str) -> dict[str, Any]:
    return {"name": name, "labels": dict(POD_LABELS)}
