"""What all dashboards have: their variables, their links, and rows that can be read on a screen of 1280 pixels."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import count
from typing import TYPE_CHECKING

from grafana_foundation_sdk.builders import dashboard as builders
from grafana_foundation_sdk.models import dashboard

from monitoring.prometheus.promql import matchers

from .panels import DATASOURCE, Panel, link

if TYPE_CHECKING:
    from monitoring.prometheus import Configuration

TAG = "neurectomy"
MOST = {"stat": 4, "graph": 3, "timeline": 2}
"""Panels beside each other: more cannot be read at 1280 pixels."""
_COLUMNS = 24

Rows = Iterable[dict[str, Panel]]
"""Panels by their titles; those of a row share the width."""


@dataclass(frozen=True)
class Dashboard:
    """One dashboard, from top to bottom: sections with a title each."""

    title: str
    description: str
    sections: dict[str, Rows]


def framed(uid: str, made: Dashboard, configuration: Configuration) -> builders.Dashboard:
    """Make it as Grafana has it."""
    board = builders.Dashboard(f"Neurectomy / {made.title}").uid(uid).description(made.description).tags([TAG])
    board.time("now-1h", "now").refresh("30s").timezone("browser").tooltip(dashboard.DashboardCursorSync.CROSSHAIR)
    for variable in _variables(configuration):
        board.with_variable(variable)
    board.link(_others()).link(link("Runbooks", f"{configuration.runbooks}/README.md"))
    numbers = count(1)
    for section, rows in made.sections.items():
        board.with_row(builders.Row(section).id(next(numbers)))
        for row in rows:
            width, rest = divmod(_COLUMNS, len(row))
            kind, *others = {panel.kind for panel in row.values()}
            if rest or others or len(row) > MOST[kind]:
                raise ValueError(f"{made.title}, {section}: {[*row]} cannot stand beside each other")
            for title, panel in row.items():
                board.with_panel(panel.built(title, next(numbers), width, configuration.runbooks))
    return board


def _variables(configuration: Configuration) -> tuple[builders.DatasourceVariable | builders.QueryVariable, ...]:
    everywhere = matchers(configuration.selector)
    of_clusters = matchers('cluster=~"$cluster"', configuration.selector)
    return (
        builders.DatasourceVariable("datasource").label("Prometheus").type("prometheus"),
        _chosen("cluster", f"label_values(multiproc_workers{everywhere}, cluster)", "Deployments; targets without this label are in All."),
        _chosen("instance", f"label_values(multiproc_workers{of_clusters}, instance)", "What Prometheus scrapes: one exporter each."),
    )


def _chosen(name: str, query: str, description: str) -> builders.QueryVariable:
    # Not every value with | between: series without the label are meant, too.
    made = builders.QueryVariable(name).label(name.capitalize()).description(description).query(query).datasource(DATASOURCE)
    made.multi(multi=True).include_all(include_all=True).all_value(".*").refresh(dashboard.VariableRefresh.ON_TIME_RANGE_CHANGED)
    made.sort(dashboard.VariableSort.NATURAL_ASC)
    return made.current(dashboard.VariableOption(selected=True, text=["All"], value=["$__all"]))


def _others() -> builders.DashboardLink:
    made = builders.DashboardLink("Dashboards").type(dashboard.DashboardLinkType.DASHBOARDS).tags([TAG]).as_dropdown(as_dropdown=True)
    return made.include_vars(include_vars=True).keep_time(keep_time=True)
