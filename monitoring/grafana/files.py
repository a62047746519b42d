"""The dashboards, as text."""

from __future__ import annotations

from typing import TYPE_CHECKING

from grafana_foundation_sdk.cog.encoder import JSONEncoder

from .agents import agents
from .business import business
from .frame import framed
from .overview import overview
from .queries import Queries
from .services import services
from .workers import workers

if TYPE_CHECKING:
    from pathlib import Path

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
    return {
        f"{name}.json": encoder.encode(framed(f"neurectomy-{name}", made(queries), configuration).build()) + "\n"
        for name, made in _MADE.items()
    }


def write(configuration: Configuration, folder: Path) -> None:
    """Write all of them. OSError where that cannot be."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in texts(configuration).items():
        (folder / name).write_text(text)
