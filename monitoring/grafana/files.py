"""The dashboards, as text."""

from __future__ import annotations

from typing import TYPE_CHECKING

from grafana_foundation_sdk.cog.encoder import JSONEncoder

from monitoring.prometheus import Configuration, generator

from .boards.agents import agents
from .boards.business import business
from .boards.overview import overview
from .boards.service_health import services
from .boards.workers import workers
from .dashboard import framed
from .queries import Queries

if TYPE_CHECKING:
    from pathlib import Path

    from grafana_foundation_sdk.models import dashboard

_MADE = {
    "system-overview": overview,
    "service-health": services,
    "business-metrics": business,
    "agent-collective": agents,
    "workers": workers,
}


def texts(configuration: Configuration) -> dict[str, str]:
    """Return the text of each file, by name."""
    queries = Queries(configuration)
    encoder = JSONEncoder(indent=2, ensure_ascii=False)
    boards = {name: framed(f"neurectomy-{name}", made(queries), configuration).build() for name, made in _MADE.items()}
    return {f"{name}.json": encoder.encode(_plain(board)) + "\n" for name, board in boards.items()}


def write(configuration: Configuration, folder: Path) -> None:
    """Write all of them. OSError where that fails."""
    generator.write(texts(configuration), folder)


def _plain(board: dashboard.Dashboard) -> dashboard.Dashboard:
    """Remove the fields that the SDK writes into every variable, and that Grafana's schema has for intervals only."""
    assert board.templating is not None
    for variable in board.templating.list_val or []:
        variable.auto = variable.auto_min = variable.auto_count = None
    return board
