"""The rules and configurations: what promtool and amtool say, each alert's two cases, and what must hold for all of them."""

from __future__ import annotations

import json
import re
import subprocess
from typing import TYPE_CHECKING, Any

import promql_parser
import pytest
import yaml

from monitoring import metrics
from monitoring.prometheus import Configuration
from monitoring.prometheus.alerts.groups import alerts
from monitoring.prometheus.configuration import duration
from monitoring.prometheus.files import texts
from monitoring.prometheus.rules import rules
from tests.conftest import ROOT
from tests.prometheus.executables import program
from tests.promql import selectors

if TYPE_CHECKING:
    from pathlib import Path

FOLDER = ROOT / "monitoring" / "prometheus"
CASES = sorted((FOLDER / "tests").glob("*.yml"))
ALERTS: list[dict[str, Any]] = [rule for group in alerts(Configuration())["groups"] for rule in group["rules"]]
RECORDS: list[dict[str, Any]] = [rule for group in rules(Configuration())["groups"] for rule in group["rules"]]
SEED = {
    "HighErrorRate": (0.05, "5m"),
    "HighLatency": (5, "10m"),
    "RyotLLMHighErrorRate": (0.1, "5m"),
    "RyotLLMHighLatency": (30, "10m"),
    "CircuitBreakerOpen": (1, None),
    "HighCircuitBreakerFailures": (0.1, "5m"),
    "AgentDown": (0, "2m"),
    "PodCPUUsageHigh": (0.8, "10m"),
    "PodMemoryUsageHigh": (0.85, "10m"),
}


def test_the_files_are_those_of_the_configuration() -> None:
    for name, text in texts(Configuration()).items():
        assert (FOLDER / name).read_text() == text, f"make {name} anew: python -m monitoring.prometheus monitoring/prometheus"


@pytest.mark.parametrize(
    ("tool", "arguments"),
    [
        ("promtool", ("check", "rules", "rules.yml", "alerts.yml")),
        ("promtool", ("check", "config", "prometheus.yml")),
        ("amtool", ("check-config", "alertmanager.yml")),
    ],
)
def test_the_tools_have_nothing_to_say(tool: str, arguments: tuple[str, ...]) -> None:
    checked = subprocess.run([program(tool), *arguments], cwd=FOLDER, capture_output=True, text=True, timeout=60, check=False)
    assert checked.returncode == 0, checked.stdout + checked.stderr
    assert not re.search("fail|warn|deprecated|duplicate", checked.stdout + checked.stderr, re.IGNORECASE), checked.stdout


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.stem)
def test_each_alert_fires_when_it_must_and_only_then(case: Path) -> None:
    checked = subprocess.run(
        [program("promtool"), "test", "rules", case.name], cwd=case.parent, capture_output=True, text=True, check=False
    )
    assert checked.returncode == 0, checked.stdout + checked.stderr


def test_every_alert_has_a_case_that_fires_and_a_near_miss() -> None:
    fires, quiet = set(), set()
    for file in CASES:
        for case in yaml.safe_load(file.read_text())["tests"]:
            said: dict[str, set[bool]] = {}
            for check in case["alert_rule_test"]:
                said.setdefault(check["alertname"], set()).add(bool(check["exp_alerts"]))
            fires |= {name for name, answers in said.items() if True in answers}
            # What does not fire in a case that has it firing later was not a miss.
            quiet |= {name for name, answers in said.items() if answers == {False}}
    names = {alert["alert"] for alert in ALERTS}
    assert fires == names
    # Without a target nothing can be near: that of the other case, with one, is.
    assert quiet == names - {"Watchdog"}


def test_the_seeds_alerts_have_its_thresholds() -> None:
    found = {alert["alert"]: alert for alert in ALERTS}
    for name, (threshold, lasting) in SEED.items():
        assert found[name].get("for") == lasting
        assert re.search(rf"(>|==) {threshold:g}\)?$", found[name]["expr"]), found[name]["expr"]


def test_every_alert_says_what_an_operator_needs() -> None:
    names = [alert["alert"] for alert in ALERTS]
    assert len(names) == len(set(names))
    for alert in ALERTS:
        assert alert["labels"]["severity"] in {"critical", "warning", "none"}
        assert set(alert["annotations"]) == {"summary", "description", "runbook_url"}
        page = ROOT / "docs" / "runbooks" / f"{alert['alert']}.md"
        assert alert["annotations"]["runbook_url"].endswith(f"/docs/runbooks/{page.name}")
        text = page.read_text()
        assert text.startswith(f"# {alert['alert']}\n")
        for heading in ("## What it means", "## How to look", "## What to do"):
            assert heading in text, page
        assert text.split("## What to do")[1].strip()
    pages = {page.stem for page in (ROOT / "docs" / "runbooks").glob("*.md")}
    assert pages == {*names, "blind", "README"}


def test_every_queried_family_and_label_of_a_runbook_exists() -> None:
    for page in (ROOT / "docs" / "runbooks").glob("*.md"):
        for expression in re.findall(r"^```promql\n(.*?)^```", page.read_text(), re.MULTILINE | re.DOTALL):
            for line in filter(None, expression.splitlines()):
                check(line)


@pytest.mark.parametrize("rule", [*RECORDS, *ALERTS], ids=lambda rule: rule.get("record") or rule["alert"])
def test_every_family_and_label_exists(rule: dict[str, Any]) -> None:
    check(rule["expr"])
    labels = known_labels(rule["expr"])
    for text in rule.get("annotations", {}).values():
        assert set(re.findall(r"\$labels\.(\w+)", text)) <= labels, text


def check(expression: str) -> None:
    """Say which family or label there is not."""
    promql_parser.parse(expression)
    for family, labels in selectors(expression):
        assert family in known(), f"{family} is declared nowhere"
        assert labels <= known()[family] | TARGET, f"{family} has no {labels - known()[family] - TARGET}"


def known_labels(expression: str) -> set[str]:
    return {label for family, _ in selectors(expression) for label in known()[family]} | TARGET | {"role"}


TARGET = {"cluster", "job", "instance", "namespace", "pod", "container"}
OUTSIDE = {
    "up": set(),
    "container_cpu_usage_seconds_total": set(),
    "container_spec_cpu_quota": set(),
    "container_spec_cpu_period": set(),
    "container_memory_working_set_bytes": set(),
    "container_spec_memory_limit_bytes": set(),
    "kube_pod_container_resource_limits": {"resource", "unit"},
    "prometheus_notifications_errors_total": {"alertmanager"},
    "prometheus_notifications_dropped_total": set(),
    "prometheus_rule_evaluation_failures_total": {"rule_group"},
    "scrape_samples_scraped": set(),
    "scrape_duration_seconds": set(),
}


def known() -> dict[str, set[str]]:
    """Every series that there can be, with its labels."""
    from tests.promql import families

    return {**families(), **OUTSIDE, **{each["record"]: kept(each["record"]) for each in RECORDS}}


def kept(record: str) -> set[str]:
    level, family, _ = record.split(":")
    assert re.fullmatch(r"[a-z_]+", level)
    assert family
    return set(level.split("_"))


def test_no_threshold_is_at_or_above_its_familys_last_bucket() -> None:
    configuration = Configuration()
    buckets = {family.name: family.buckets for family in metrics.FAMILIES if family.kind == "histogram"}
    for alert in ALERTS:
        for family, threshold in re.findall(r"histogram_quantile\([^[]* \(rate\((\w+)_bucket[^[]*\[.*\) > ([0-9.]+)$", alert["expr"]):
            assert float(threshold) < max(bound for bound in buckets[family] if bound != float("inf"))
    quantiles = [alert["alert"] for alert in ALERTS if "histogram_quantile" in alert["expr"]]
    assert quantiles == ["HighLatency", "RyotLLMHighLatency"]
    assert configuration.latency_objective_seconds in buckets["neurectomy_http_request_duration_seconds"]
    bounds = set(re.findall(r'le="([^"]+)"', json.dumps(RECORDS).replace("\\", "")))
    assert bounds == {f"{configuration.latency_objective_seconds:.1f}"}


def test_rules_aggregate_instance_and_worker_away() -> None:
    for record in RECORDS:
        for kept_labels in re.findall(r"by \(([^)]*)\)", record["expr"]):
            assert not {"instance", "worker"} & set(kept_labels.split(", "))
        assert kept(record["record"]) >= {"cluster", "job"}


def test_rules_of_errors_and_latency_leave_out_health_and_scrapes() -> None:
    for rule in [*RECORDS, *ALERTS]:
        name = rule.get("record") or rule["alert"]
        if re.search("neurectomy_http_.*(total|bucket|count)", rule["expr"]) and not name.endswith("neurectomy_http_requests:rate5m"):
            for family, _ in selectors(rule["expr"]):
                found = re.findall(rf"{family}{{([^}}]*)}}", rule["expr"])
                assert found
                assert all('endpoint!~"/health/.*|/metrics' in each for each in found)


@pytest.mark.parametrize(("seconds", "text"), [(0.25, "250ms"), (15, "15s"), (90, "90s"), (300, "5m"), (7200, "2h"), (259_200, "3d")])
def test_durations(seconds: float, text: str) -> None:
    assert duration(seconds) == text
