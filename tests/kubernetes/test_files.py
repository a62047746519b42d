"""The manifests that are made from monitoring.prometheus are those of the code, and the rules are the same to the letter."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import yaml

from monitoring.kubernetes.__main__ import main
from monitoring.kubernetes.files import texts
from monitoring.prometheus import Configuration
from tests.conftest import ROOT
from tests.k8s.manifests import Manifests
from tests.k8s.rendering import K8S, documents

if TYPE_CHECKING:
    from pathlib import Path

    import pytest

RULES = ROOT / "monitoring" / "prometheus"


def test_the_files_are_those_of_the_code() -> None:
    for name, text in texts(Configuration()).items():
        assert (K8S / name).read_text() == text, f"make {name} anew: python -m monitoring.kubernetes"


def groups(text: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = yaml.safe_load(text)["groups"]
    assert found
    return found


def test_whoever_watches_has_the_same_rules() -> None:
    operator, stack = (Manifests(documents("production", name)) for name in ("prometheus-operator", "stack"))
    (mounted,) = (each for each in stack.of("ConfigMap") if each["metadata"]["name"].startswith("neurectomy-rules"))
    for name in ("rules", "alerts"):
        wanted = groups((RULES / f"{name}.yml").read_text())
        rule = operator.find("PrometheusRule", f"neurectomy-{name}")
        assert rule is not None
        assert rule["spec"]["groups"] == wanted
        assert groups(mounted["data"][f"{name}.yml"]) == wanted


def test_every_dashboard_is_there_with_its_label() -> None:
    files = {path.name: path.read_text() for path in (ROOT / "monitoring" / "grafana" / "dashboards").iterdir()}
    manifests = Manifests(documents("production", "stack"))
    found = {}
    for each in manifests.of("ConfigMap"):
        if each["metadata"].get("labels", {}).get("grafana_dashboard") == "1":
            found |= each["data"]
    assert found == files
    # The stack's Grafana has them where its provider looks, and the datasource follows the scrapes.
    grafana = manifests.find("Deployment", "grafana")
    assert grafana is not None
    spec = grafana["spec"]["template"]["spec"]
    (volume,) = (each for each in spec["volumes"] if each["name"] == "dashboards")
    named = [manifests.find("ConfigMap", each["configMap"]["name"]) for each in volume["projected"]["sources"]]
    assert {key for each in named if each for key in each["data"]} == set(files)
    mounts = {mount["name"]: mount["mountPath"] for mount in spec["containers"][0]["volumeMounts"]}
    folder = K8S / "components" / "stack" / "grafana"
    (provider,) = yaml.safe_load((folder / "dashboards.yaml").read_text())["providers"]
    assert provider["options"]["path"] == mounts["dashboards"]
    prometheus, _ = yaml.safe_load((folder / "datasources.yaml").read_text())["datasources"]
    assert prometheus["jsonData"]["timeInterval"] == "15s" == f"{Configuration().times.scrape:g}s"
    service = manifests.find("Service", "grafana")
    assert service is not None
    assert [port["port"] for port in service["spec"]["ports"]] == [3000], "http://grafana:3000, as it was promised"


def test_the_command_writes_them_for_a_cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CLUSTER", "us-1")
    assert main([str(tmp_path)]) == 0
    for name, text in texts(replace(Configuration(), cluster="us-1")).items():
        assert (tmp_path / name).read_text() == text
    assert "replacement: us-1" in (tmp_path / "components" / "prometheus-operator" / "podmonitor.yaml").read_text()
    assert "replacement: us-1" in (tmp_path / "components" / "stack" / "prometheus.yml").read_text()


def test_what_cannot_be_written_is_said_in_a_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "components").write_text("")
    assert main([str(tmp_path)]) == 1
    assert capsys.readouterr().err == f"monitoring.kubernetes: the files cannot be written into {tmp_path}: Not a directory\n"
    assert main([str(tmp_path / "none")]) == 1
    assert capsys.readouterr().err == f"monitoring.kubernetes: {tmp_path}/none: not a folder. Name k8s/ of a checkout of this repository.\n"
    monkeypatch.setenv("RUNBOOK_URL", "here")
    assert main([str(tmp_path)]) == 1
    assert capsys.readouterr().err.startswith("monitoring.kubernetes: RUNBOOK_URL=(hidden) is not allowed: ")
