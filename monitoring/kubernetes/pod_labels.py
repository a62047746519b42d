"""What the pods in k8s/base are called: whoever looks for them has to say the same."""

from __future__ import annotations

NAME_LABEL = "app.kubernetes.io/name"
POD_LABELS = {NAME_LABEL: "neurectomy", "app.kubernetes.io/component": "api"}
METRICS_PORT = "metrics"
"""The name of the exporter's port."""
TOKEN = {"name": "neurectomy-metrics", "key": "token"}
"""The Secret with METRICS_TOKEN, and its key."""
