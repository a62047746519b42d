"""One alert."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from monitoring.prometheus.configuration import duration

if TYPE_CHECKING:
    from monitoring.prometheus.configuration import Configuration

CRITICAL, WARNING, NONE = "critical", "warning", "none"


@dataclass(frozen=True)
class Alert:
    """An expression that fires after `lasting` seconds, and its texts. `summary` and `description` are templates of Prometheus."""

    name: str
    expression: str
    severity: str
    summary: str
    description: str
    lasting: float = 0
    keep: float = 0
    labels: dict[str, str] = field(default_factory=dict)

    def rule(self, configuration: Configuration) -> dict[str, Any]:
        """Give it as Prometheus has it."""
        made: dict[str, Any] = {"alert": self.name, "expr": self.expression}
        if self.lasting:
            made["for"] = duration(self.lasting)
        if self.keep:
            made["keep_firing_for"] = duration(self.keep)
        made["labels"] = {"severity": self.severity, **self.labels}
        made["annotations"] = {
            "summary": self.summary,
            "description": self.description,
            "runbook_url": f"{configuration.runbooks}/{self.name}.md",
        }
        return made
