"""The dashboards, as text."""

from __future__ import annotations

from typing import TYPE_CHECKING

from grafana_foundation_sdk.cog.encoder import JSONEncoder

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

    from monitoring.prometheus import Configuration

_MADE = {
    "system-overview": overview,
    "service-health": services,
    "business-metrics": business,
    "agent-collective": agents,
    "workers": workers,
}


def texts(configuration: Configuration) -> dict[str, str]:
    """Give each file's name and text."""
    queries = Queries(configuration)
    encoder = JSONEncoder(indent=2, ensure_ascii=False)
    boards = {name: framed(f"neurectomy-{name}", made(queries), configuration).build() for name, made in _MADE.items()}
    return {f"{name}.json": encoder.encode(_plain(board)) + "\n" for name, board in boards.items()}


def write(configuration: Configuration, folder: Path) -> None:
    """Write all of them. OSError where that cannot be."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in texts(configuration).items():
        (folder / name).write_text(text)


def _plain(board: dashboard.Dashboard) -> dashboard.Dashboard:
    """Take away what the SDK writes into every variable and Grafana's schema knows of intervals only."""
    assert board.templating is not None
    for variable in board.templating.list_val or []:
        variable.auto = variable.auto_min = variable.auto_count = None
    return board
