"""All alerts, in groups by their subjects."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from . import library, objectives, pods, service

if TYPE_CHECKING:
    from monitoring.prometheus.configuration import Configuration

_GROUPS = {"service": service, "objectives": objectives, "kit": library, "pods": pods}


def alerts(configuration: Configuration) -> dict[str, Any]:
    """Return the content of alerts.yml."""
    groups = []
    for group, subject in _GROUPS.items():
        rules = [alert.rule(name, configuration) for name, alert in subject.alerts(configuration).items()]
        groups.append({"name": f"neurectomy-{group}-alerts", "rules": rules})
    return {"groups": groups}
