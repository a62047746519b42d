"""prometheus.yml of k8s/components/stack: pods and kubelets are found through the cluster's own API."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from monitoring.prometheus import Configuration, scrape_config

from .pod_labels import METRICS_PORT, POD_LABELS, TOKEN

TOKEN_FILE = f"/etc/prometheus/token/{TOKEN['key']}"
ALERTMANAGER = "alertmanager:9093"
"""The Service of it beside Prometheus."""
_ACCOUNT = "/var/run/secrets/kubernetes.io/serviceaccount"


def scraping(configuration: Configuration) -> dict[str, Any]:
    """Return the configuration of monitoring.prometheus, with pods in place of addresses."""
    made = scrape_config.scraping(replace(configuration, alertmanagers=(ALERTMANAGER,), cadvisor=()))
    service, *others = made["scrape_configs"]
    del service["static_configs"]
    service |= {
        "authorization": {"credentials_file": TOKEN_FILE},
        "kubernetes_sd_configs": [_pods()],
        "relabel_configs": [
            {"source_labels": ["__meta_kubernetes_pod_container_port_name"], "regex": METRICS_PORT, "action": "keep"},
            # A pod that has ended keeps its address, which may be another's by now.
            {"source_labels": ["__meta_kubernetes_pod_phase"], "regex": "Failed|Succeeded", "action": "drop"},
            {"source_labels": ["__meta_kubernetes_namespace"], "target_label": "namespace"},
            {"source_labels": ["__meta_kubernetes_pod_name"], "target_label": "pod"},
            {"source_labels": ["__meta_kubernetes_pod_name"], "target_label": "instance"},
            {"target_label": "cluster", "replacement": configuration.cluster},
        ],
    }
    return made | {"scrape_configs": [service, *others, _kubelets(configuration)]}


def _pods() -> dict[str, Any]:
    label = ",".join(f"{name}={value}" for name, value in POD_LABELS.items())
    return {"role": "pod", "namespaces": {"own_namespace": True}, "selectors": [{"role": "pod", "label": label}]}


def _kubelets(configuration: Configuration) -> dict[str, Any]:
    """The containers' use of resources, for the alerts on pods: of all that cAdvisor knows, only the service's own."""
    return {
        "job_name": "cadvisor",
        "scheme": "https",
        "metrics_path": "/metrics/cadvisor",
        "authorization": {"credentials_file": f"{_ACCOUNT}/token"},
        # Most kubelets have certificates that they have signed themselves.
        "tls_config": {"ca_file": f"{_ACCOUNT}/ca.crt", "insecure_skip_verify": True},
        "kubernetes_sd_configs": [{"role": "node"}],
        "relabel_configs": [{"target_label": "cluster", "replacement": configuration.cluster}],
        "metric_relabel_configs": [
            {"source_labels": ["__name__", "pod"], "regex": "container_(cpu|memory|spec)_.*;neurectomy.*", "action": "keep"}
        ],
    }
