"""Version and environment of this deployment, from OpenTelemetry's OTEL_RESOURCE_ATTRIBUTES, so that metrics and traces agree."""

from collections.abc import Mapping
from urllib.parse import unquote

import app


def describe(environ: Mapping[str, str]) -> dict[str, str]:
    """Return the labels of `neurectomy_system_info`."""
    pairs = (pair.partition("=") for pair in environ.get("OTEL_RESOURCE_ATTRIBUTES", "").split(","))
    attributes = {key.strip(): unquote(value.strip()) for key, _, value in pairs}
    return {
        "version": attributes.get("service.version") or app.__version__,
        "environment": attributes.get("deployment.environment.name") or attributes.get("deployment.environment") or "development",
        "cluster": attributes.get("k8s.cluster.name") or "local",
    }
