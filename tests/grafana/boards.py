"""The dashboards as they are checked in, and what their panels ask."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any

from tests.conftest import ROOT

FOLDER = ROOT / "monitoring" / "grafana" / "dashboards"
BOARDS: dict[str, dict[str, Any]] = {path.stem: json.loads(path.read_text()) for path in sorted(FOLDER.glob("*.json"))}
PANELS: list[tuple[str, dict[str, Any]]] = [
    (name, panel) for name, board in BOARDS.items() for panel in board["panels"] if panel["type"] != "row"
]


@dataclass(frozen=True)
class Asked:
    """One query of a panel."""

    board: str
    title: str
    letter: str
    expression: str
    legend: str
    instant: bool
    exemplar: bool

    @property
    def labels(self) -> set[str]:
        """What names a series of it."""
        return set(re.findall(r"{{(\w+)}}", self.legend))

    def __str__(self) -> str:
        return f"{self.board}: {self.title}: {self.letter}"


ASKED = [
    Asked(name, panel["title"], each["refId"], each["expr"], each["legendFormat"], each["instant"], each["exemplar"])
    for name, panel in PANELS
    for each in panel["targets"]
]


def replaced(expression: str, *, window: str, shown: str) -> str:
    """Put values for the variables, as Grafana does where all clusters and instances are chosen."""
    values = {"$__rate_interval": window, "$__range": shown, "$cluster": ".*", "$instance": ".*"}
    for name, value in values.items():
        expression = expression.replace(name, value)
    assert "$" not in expression, expression
    return expression
