"""All alerts, in groups by what they are about."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from . import library, objectives, pods, service

if TYPE_CHECKING:
    from monitoring.prometheus.configuration import Configuration


def alerts(configuration: Configuration) -> dict[str, Any]:
    """Return the content of alerts.yml."""
    groups = {
        "neurectomy-service-alerts": service.alerts(configuration),
        "neurectomy-objectives-alerts": objectives.alerts(configuration),
        "neurectomy-kit-alerts": library.alerts(configuration),
        "neurectomy-pods-alerts": pods.alerts(configuration),
    }
    return {"groups": [{"name": name, "rules": [alert.rule(configuration) for alert in found]} for name, found in groups.items()]}
