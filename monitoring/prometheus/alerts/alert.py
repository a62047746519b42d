"""One alert."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from monitoring.prometheus.configuration import Configuration, duration

CRITICAL, WARNING, NONE = "critical", "warning", "none"


@dataclass(frozen=True)
class Alert:
    """An expression that fires after `lasting` seconds, and its texts. `summary` and `description` are templates of Prometheus."""

    expression: str
    summary: str
    description: str
    severity: str = WARNING
    lasting: float = 0
    keep: float = 0
    labels: dict[str, str] = field(default_factory=dict)

    def rule(self, name: str, configuration: Configuration) -> dict[str, Any]:
        """Return it as Prometheus reads it, with the page of the same name as its runbook."""
        made: dict[str, Any] = {"alert": name, "expr": self.expression}
        if self.lasting:
            made["for"] = duration(self.lasting)
        if self.keep:
            made["keep_firing_for"] = duration(self.keep)
        made["labels"] = {"severity": self.severity, **self.labels}
        runbook = f"{configuration.runbooks}/{name}.md"
        made["annotations"] = {"summary": self.summary, "description": self.description, "runbook_url": runbook}
        return made
