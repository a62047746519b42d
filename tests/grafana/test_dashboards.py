"""The dashboards are those of the code, ask only for what there is, and can be read."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from itertools import combinations
from typing import TYPE_CHECKING, Any

import promql_parser
import pytest

from monitoring import metrics
from monitoring.grafana.__main__ import main
from monitoring.grafana.dashboard import Dashboard, framed
from monitoring.grafana.files import texts
from monitoring.grafana.panels import figure, graph
from monitoring.metrics import Rule
from monitoring.prometheus import Configuration
from tests.conftest import ROOT
from tests.grafana.boards import ASKED, BOARDS, FOLDER, PANELS, Asked, replaced
from tests.promql import families, selectors

if TYPE_CHECKING:
    from pathlib import Path

TARGET = {"cluster", "instance"}
FAMILIES = {family.name: family for family in metrics.FAMILIES}
TITLES = {
    "agent-collective": "Agent Collective",
    "business-metrics": "Business Metrics",
    "service-health": "Service Health",
    "system-overview": "System Overview",
    "workers": "Workers",
}
#: Several instances show the same number of these: a sum over them would count it again and again.
SHARED = {family.name for family in metrics.FAMILIES if family.rule is Rule.ONE}
#: Panels that ask over a time of their own, and say so.
OWN_WINDOW = {"Requests per user"}


def every(asked: Asked) -> str:
    return replaced(asked.expression, window="1m", shown="1h")


def test_the_files_are_those_of_the_code() -> None:
    made = texts(Configuration())
    assert {path.name for path in FOLDER.iterdir()} == set(made)
    for name, text in made.items():
        assert (FOLDER / name).read_text() == text, f"make {name} anew: python -m monitoring.grafana"


def test_the_five_dashboards_with_their_variables_and_links() -> None:
    assert {name: board["title"] for name, board in BOARDS.items()} == {name: f"Neurectomy / {title}" for name, title in TITLES.items()}
    assert len({board["uid"] for board in BOARDS.values()}) == len(BOARDS)
    for board in BOARDS.values():
        assert board["description"]
        datasource, cluster, instance = board["templating"]["list"]
        assert (datasource["name"], datasource["type"], datasource["query"]) == ("datasource", "datasource", "prometheus")
        assert (cluster["name"], cluster["query"]) == ("cluster", "label_values(multiproc_workers, cluster)")
        assert (instance["name"], instance["query"]) == ("instance", 'label_values(multiproc_workers{cluster=~"$cluster"}, instance)')
        for variable in (cluster, instance):
            assert variable["multi"]
            assert variable["includeAll"]
            # Also series of targets without the label.
            assert variable["allValue"] == ".*"
            assert variable["current"]["value"] == ["$__all"]
        others, runbooks = board["links"]
        assert others["type"] == "dashboards"
        assert others["tags"] == board["tags"] == ["neurectomy"]
        assert others["includeVars"]
        assert others["keepTime"]
        assert runbooks["url"].endswith("/docs/runbooks/README.md")


@pytest.mark.parametrize(("board", "panel"), PANELS, ids=lambda each: each if isinstance(each, str) else each["title"])
def test_every_panel_says_what_it_shows(board: str, panel: dict[str, Any]) -> None:
    defaults = panel["fieldConfig"]["defaults"]
    assert defaults["unit"]
    assert re.fullmatch(r"[A-Z0-9].*\.", panel["description"], re.DOTALL), panel["description"]
    assert panel["targets"]
    # Every panel asks the datasource that is chosen.
    chosen = {"type": "prometheus", "uid": "${datasource}"}
    assert [panel["datasource"], *(each["datasource"] for each in panel["targets"])] == [chosen] * (1 + len(panel["targets"]))
    assert len({each["refId"] for each in panel["targets"]}) == len(panel["targets"])
    bounds = [step["value"] for step in defaults["thresholds"]["steps"]]
    assert bounds[0] is None
    assert bounds[1:] == sorted(set(bounds[1:])), board
    for each in panel["links"]:
        page = each["url"].rpartition("/")[2]
        assert each["title"] == f"Runbook: {page.removesuffix('.md')}"
        assert each["url"] == f"{Configuration().runbooks}/{page}"
        assert (ROOT / "docs" / "runbooks" / page).exists()


@pytest.mark.parametrize("name", BOARDS)
def test_a_dashboard_can_be_read_at_1280_pixels(name: str) -> None:
    panels = BOARDS[name]["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    titles = [panel["title"] for panel in panels]
    assert all(titles)
    places = [(panel["gridPos"], panel) for panel in panels]
    for place, panel in places:
        assert place["x"] + place["w"] <= 24
        # A graph has a third of the screen at least, a number a quarter.
        assert place["w"] >= {"row": 24, "stat": 6, "timeseries": 8, "state-timeline": 12}[panel["type"]]
        assert place["h"] >= {"row": 1, "stat": 4, "timeseries": 8, "state-timeline": 6}[panel["type"]]
    for (one, first), (other, second) in combinations(places, 2):
        beside = one["x"] + one["w"] <= other["x"] or other["x"] + other["w"] <= one["x"]
        below = one["y"] + one["h"] <= other["y"] or other["y"] + other["h"] <= one["y"]
        assert beside or below, (first["title"], second["title"])
    # Nothing is left empty: panels of a line are as wide as the screen.
    for top in {place["y"] for place, _ in places}:
        assert sum(place["w"] for place, _ in places if place["y"] == top) == 24


@pytest.mark.parametrize("asked", ASKED, ids=str)
def test_every_query_asks_for_what_there_is(asked: Asked) -> None:
    promql_parser.parse(every(asked))
    found = selectors(every(asked))
    assert found
    for family, labels in found:
        assert family in families(), f"{family} is declared nowhere"
        assert labels <= families()[family] | TARGET, f"{family} has no {labels - families()[family] - TARGET}"
        # The variables choose in every selector.
        for chosen in re.findall(rf"\b{family}{{(.*?)}}", asked.expression):
            assert chosen.startswith('cluster=~"$cluster",instance=~"$instance"'), asked.expression
    assert len(re.findall(r'cluster=~"\$cluster",instance=~"\$instance"', asked.expression)) == len(found)
    kept = {label for group in re.findall(r"\bby \(([^)]*)\)", asked.expression) for label in group.split(", ")}
    assert asked.labels <= kept, f"{asked.legend}: no such label"


@pytest.mark.parametrize("asked", ASKED, ids=str)
def test_rates_are_over_grafanas_window_and_summed(asked: Asked) -> None:
    windows = set(re.findall(r"\[([^\]]*)\]", asked.expression))
    if asked.title in OWN_WINDOW:
        assert windows == {"30m"}
    else:
        assert windows <= ({"$__range"} if asked.instant else {"$__rate_interval"})
    # Each rate is taken before values of several series are put together, and never after.
    ranges = re.findall(r"(\w+)(?: by \([^)]*\))? \((?:rate|increase)\(", asked.expression)
    assert len(ranges) == len(re.findall(r"\[", asked.expression))
    assert set(ranges) <= {"sum", "max"}
    assert not re.search(r"(?:rate|increase)\((?:sum|max|avg|min)\b", asked.expression)


@pytest.mark.parametrize("asked", ASKED, ids=str)
def test_what_instances_share_is_never_added_up(asked: Asked) -> None:
    expression = every(asked)
    for family, _ in selectors(expression):
        name = re.sub(r"_(bucket|count|sum)$", "", family) if family not in FAMILIES else family
        if name not in SHARED:
            continue
        around = re.findall(rf"(\w+) by \([^)]*\) \((?:increase\()?{family}{{|(\w+) \((?:increase\()?{family}{{", expression)
        assert around
        assert {one or other for one, other in around} == {"max"}, expression
        if name.startswith(("neurectomy_gpu_", "neurectomy_ryot_gpu_")) and {"gpu", "uuid"} <= set(FAMILIES[name].labels):
            assert f"max by (gpu, uuid) ({family}{{" in expression


@pytest.mark.parametrize("asked", ASKED, ids=str)
def test_health_checks_and_scrapes_are_left_out(asked: Asked) -> None:
    errors = re.search(r"neurectomy_http_requests_total|neurectomy_http_(request_duration|time_to_first_byte)_seconds", asked.expression)
    if errors:
        for family, _ in selectors(every(asked)):
            for chosen in re.findall(rf"\b{family}{{(.*?)}}", asked.expression):
                assert 'endpoint!~"/health/.*|/metrics' in chosen


def test_latency_panels_ask_for_exemplars() -> None:
    durations = [asked for asked in ASKED if re.search(r"_seconds_bucket", asked.expression) and "histogram_quantile" in asked.expression]
    assert len(durations) > 15
    assert [str(asked) for asked in durations if not asked.exemplar] == []


def test_every_family_of_the_catalogue_is_on_some_dashboard() -> None:
    shown = {family for asked in ASKED for family, _ in selectors(every(asked))}
    names = {re.sub(r"_(bucket|count|sum)$", "", family) if family not in FAMILIES else family for family in shown}
    assert set(FAMILIES) - names == set()


def test_every_alert_on_the_service_has_a_panel_that_explains_it() -> None:
    linked = {each["url"].rpartition("/")[2] for _, panel in PANELS for each in panel["links"]}
    pages = {path.name for path in (ROOT / "docs" / "runbooks").glob("*.md")}
    # The first always fires; the others are no alerts.
    assert pages - linked == {"Watchdog.md", "blind.md", "README.md"}


def test_the_command_writes_them_for_other_runbooks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("RUNBOOK_URL", "https://runbooks.example/here/")
    assert main([str(tmp_path / "made")]) == 0
    text = (tmp_path / "made" / "workers.json").read_text()
    assert '"https://runbooks.example/here/NoWorkers.md"' in text
    assert Configuration().runbooks not in text
    assert json.loads(text)["uid"] == BOARDS["workers"]["uid"]
    monkeypatch.setenv("RUNBOOK_URL", "nowhere")
    assert main([str(tmp_path / "made")]) == 1
    assert capsys.readouterr().err.startswith("monitoring.grafana: RUNBOOK_URL=(hidden) is not allowed: ")
    monkeypatch.delenv("RUNBOOK_URL")
    (tmp_path / "file").touch()
    assert main([str(tmp_path / "file")]) == 1
    assert capsys.readouterr().err == f"monitoring.grafana: the dashboards cannot be written into {tmp_path / 'file'}: File exists\n"


def test_a_selector_of_the_configuration_is_in_every_query() -> None:
    chosen = 'namespace="neurectomy"'
    for text in texts(replace(Configuration(), selector=chosen)).values():
        board = json.loads(text)
        for panel in board["panels"]:
            for each in panel.get("targets", []):
                assert each["expr"].count(chosen) == each["expr"].count('cluster=~"$cluster"')
        assert [variable["query"].count(chosen) for variable in board["templating"]["list"]] == [0, 1, 1]


def test_a_line_that_cannot_be_read_is_refused() -> None:
    one, number = graph("A.", "1"), figure("B.", "1")
    for line in ((one,) * 4, (number,) * 5, (one, number)):
        row = {str(place): panel for place, panel in enumerate(line)}
        with pytest.raises(ValueError, match="cannot stand beside each other"):
            framed("uid", Dashboard("D", "D.", {"S": [row]}), Configuration())
