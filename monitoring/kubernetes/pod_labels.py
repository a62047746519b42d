"""The labels and names of the pods in k8s/base, for every selector that must match them."""

from __future__ import annotations

NAME_LABEL = "app.kubernetes.io/name"
POD_LABELS = {NAME_LABEL: "neurectomy", "app.kubernetes.io/component": "api"}
METRICS_PORT = "metrics"
"""The name of the exporter's port."""
TOKEN = {"name": "neurectomy-metrics", "key": "token"}
"""The Secret with METRICS_TOKEN, and its key."""
