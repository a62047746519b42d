"""Panels: what each asks and how it looks, as data, and as Grafana has it."""

from __future__ import annotations

from dataclasses import dataclass
from string import ascii_uppercase
from typing import TYPE_CHECKING, Any, Literal

from grafana_foundation_sdk.builders import common as common_builders
from grafana_foundation_sdk.builders import dashboard as builders
from grafana_foundation_sdk.builders import prometheus, stat, statetimeline, timeseries
from grafana_foundation_sdk.models import common, dashboard

from .queries import Query

if TYPE_CHECKING:
    from grafana_foundation_sdk.cog.builder import Builder

Kind = Literal["stat", "graph", "timeline"]

DATASOURCE = dashboard.DataSourceRef(type_val="prometheus", uid="${datasource}")
GREEN, YELLOW, RED, PLAIN = "green", "yellow", "red", "text"
_HEIGHTS: dict[Kind, int] = {"stat": 4, "graph": 9, "timeline": 7}
_UNKNOWN = dashboard.SpecialValueMap(
    dashboard.DashboardSpecialValueMapOptions(
        dashboard.SpecialValueMatch.NULL_AND_NAN, dashboard.ValueMappingResult(text="none", color=PLAIN)
    )
)


@dataclass(frozen=True)
class Panel:
    """One panel. `above` and `below` are where it turns yellow and red (or red alone); `alerts` are those that it explains."""

    kind: Kind
    description: str
    queries: tuple[Query, ...]
    unit: str = ""
    """That of the first query if empty."""
    above: tuple[float, ...] = ()
    below: tuple[float, ...] = ()
    alerts: tuple[str, ...] = ()
    most: float | None = None
    stacked: bool = False
    named: bool = False
    """Of a stat: the series' name is the value."""
    words: tuple[tuple[str, str, str], ...] = ()
    """Values that are shown as a word in a colour."""

    def built(self, title: str, number: int, width: int, runbooks: str) -> Builder[dashboard.Panel]:
        """Make it, `width` columns of 24 wide; its place follows from those before it."""
        made: Any = {"stat": _stat, "graph": _graph, "timeline": _timeline}[self.kind](self)
        made.id(number).title(title).description(self.description).unit(self.unit or self.queries[0].unit).datasource(DATASOURCE)
        made.span(width).height(_HEIGHTS[self.kind]).mappings([*self._mappings(), _UNKNOWN])
        made.thresholds(builders.ThresholdsConfig().mode(dashboard.ThresholdsMode.ABSOLUTE).steps(self._steps()))
        made.links([link(f"Runbook: {alert}", f"{runbooks}/{alert}.md") for alert in self.alerts])
        if self.kind != "timeline" and self.most is not None:
            made.min(0).max(self.most)
        for letter, query in zip(ascii_uppercase, self.queries, strict=False):
            made.with_target(_target(letter, query))
        return made  # type: ignore[no-any-return]

    def _steps(self) -> list[dashboard.Threshold]:
        bounds = self.above or self.below
        colours = {0: [PLAIN], 1: [GREEN, RED], 2: [GREEN, YELLOW, RED]}[len(bounds)]
        if self.below:
            colours.reverse()
        return [dashboard.Threshold(bound, colour) for bound, colour in zip((None, *bounds), colours, strict=True)]

    def _mappings(self) -> list[dashboard.ValueMapping]:
        words = {value: dashboard.ValueMappingResult(text=text, color=colour) for value, text, colour in self.words}
        return [dashboard.ValueMap(words)] if words else []


def figure(description: str, *queries: Query | str, **options: Any) -> Panel:
    """Make a panel of one number, with its course behind it."""
    return Panel("stat", description, _asked(queries), **options)


def graph(description: str, *queries: Query | str, **options: Any) -> Panel:
    """Make a panel of lines over time."""
    return Panel("graph", description, _asked(queries), **options)


def timeline(description: str, *queries: Query | str, **options: Any) -> Panel:
    """Make a panel of states over time."""
    return Panel("timeline", description, _asked(queries), unit="none", **options)


def link(title: str, url: str) -> builders.DashboardLink:
    """Link to a page that opens beside the dashboard."""
    return builders.DashboardLink(title).type(dashboard.DashboardLinkType.LINK).url(url).target_blank(target_blank=True)


def _asked(queries: tuple[Query | str, ...]) -> tuple[Query, ...]:
    return tuple(Query(query) if isinstance(query, str) else query for query in queries)


def _target(letter: str, query: Query) -> prometheus.Dataquery:
    made = prometheus.Dataquery().expr(query.expression).ref_id(letter).datasource(DATASOURCE)
    # Grafana makes a name of all labels where there is none.
    made.legend_format(query.legend or "__auto").exemplar(query.exemplar)
    return made.instant() if query.instant else made.range()


def _stat(panel: Panel) -> stat.Panel:
    flat = panel.named or all(query.instant for query in panel.queries)
    made = stat.Panel().reduce_options(common_builders.ReduceDataOptions().calcs(["lastNotNull"]).values(values=False))
    made.graph_mode(common.BigValueGraphMode.NONE if flat else common.BigValueGraphMode.AREA)
    made.color_mode(common.BigValueColorMode.VALUE)
    made.text_mode(common.BigValueTextMode.NAME if panel.named else common.BigValueTextMode.VALUE)
    # All fields of the type: Grafana does not know the shape without them.
    made.justify_mode(common.BigValueJustifyMode.AUTO).orientation(common.VizOrientation.AUTO)
    made.percent_change_color_mode(common.PercentChangeColorMode.STANDARD).show_percent_change(show_percent_change=False)
    return made.wide_layout(wide_layout=True)


def _graph(panel: Panel) -> timeseries.Panel:
    several = any("{{" in query.legend for query in panel.queries) or len(panel.queries) > 1
    legend = common_builders.VizLegendOptions().placement(common.LegendPlacement.BOTTOM).show_legend(show_legend=several)
    made = timeseries.Panel().legend(legend.display_mode(common.LegendDisplayMode.TABLE).calcs(["mean", "max"]))
    made.tooltip(common_builders.VizTooltipOptions().mode(common.TooltipDisplayMode.MULTI).sort(common.SortOrder.DESCENDING))
    made.color_scheme(builders.FieldColor().mode(dashboard.FieldColorModeId.PALETTE_CLASSIC_BY_NAME))
    made.line_width(1).fill_opacity(25 if panel.stacked else 5).show_points(common.VisibilityMode.NEVER).axis_soft_min(0)
    made.stacking(common_builders.StackingConfig().mode(common.StackingMode.NORMAL if panel.stacked else common.StackingMode.NONE))
    style = common.GraphThresholdsStyleMode.DASHED if panel.above or panel.below else common.GraphThresholdsStyleMode.OFF
    return made.thresholds_style(common_builders.GraphThresholdsStyleConfig().mode(style))


def _timeline(_panel: Panel) -> statetimeline.Panel:
    legend = common_builders.VizLegendOptions().display_mode(common.LegendDisplayMode.LIST).calcs([])
    made = statetimeline.Panel().legend(legend.placement(common.LegendPlacement.BOTTOM).show_legend(show_legend=False))
    made.tooltip(common_builders.VizTooltipOptions().mode(common.TooltipDisplayMode.SINGLE).sort(common.SortOrder.NONE))
    made.color_scheme(builders.FieldColor().mode(dashboard.FieldColorModeId.THRESHOLDS))
    return made.merge_values(merge_values=True).show_value(common.VisibilityMode.AUTO).row_height(0.9).fill_opacity(70).line_width(0)
