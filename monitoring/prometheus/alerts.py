"""All alerts, in groups by what they are about."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from . import kit, objectives, pods, services

if TYPE_CHECKING:
    from .configuration import Configuration


def alerts(configuration: Configuration) -> dict[str, Any]:
    """Give the content of alerts.yml."""
    groups = {
        "neurectomy-service-alerts": services.alerts(configuration),
        "neurectomy-objectives-alerts": objectives.alerts(configuration),
        "neurectomy-kit-alerts": kit.alerts(configuration),
        "neurectomy-pods-alerts": pods.alerts(configuration),
    }
    return {"groups": [{"name": name, "rules": [alert.rule(configuration) for alert in found]} for name, found in groups.items()]}
