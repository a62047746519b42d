"""Every overlay, with every choice of components, renders to what the three newest Kubernetes minors take, field for field."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest
import yaml

from tests.conftest import ROOT
from tests.k8s.rendering import COMPONENTS, K8S, OVERLAYS, RENDERED, Document, documents, kustomized, name
from tests.k8s.schemas import MINORS, OLDEST, faults

PAGE = ROOT / "docs" / "kubernetes.md"


def test_the_overlays_and_components_are_those_of_the_docs() -> None:
    assert set(OVERLAYS) == {"gpu", "local", "production"}
    page = PAGE.read_text()
    assert [each for each in (*OVERLAYS, *COMPONENTS) if f"`{each}`" not in page] == []


def test_the_validator_knows_three_minors() -> None:
    assert len(MINORS) == 3
    assert all(int(minor.removeprefix("1.")) > int(OLDEST.removeprefix("1.")) for minor in MINORS)
    assert f"Kubernetes {OLDEST} or newer" in PAGE.read_text()


@pytest.mark.parametrize("rendered", RENDERED, ids=name)
def test_every_document_is_valid(rendered: tuple[str, tuple[str, ...]], checked: dict[str, list[str]]) -> None:
    found = documents(rendered[0], *rendered[1])
    assert len(found) > 10
    wrong = []
    for document in found:
        key = json.dumps(document, sort_keys=True)
        if key not in checked:  # most documents are the same in most renderings
            checked[key] = [f"{minor}: {fault}" for minor in (OLDEST, *MINORS) for fault in faults(document, minor)]
        wrong += [f"{document['kind']}/{document['metadata']['name']}: {fault}" for fault in checked[key]]
    assert wrong == []


@pytest.fixture(scope="module")
def checked() -> dict[str, list[str]]:
    return {}


def test_the_base_renders_by_itself() -> None:
    done = kustomized(K8S / "base")
    assert done.returncode == 0, done.stderr
    kinds = {each["kind"] for each in yaml.safe_load_all(done.stdout)}
    assert kinds == {
        "ConfigMap",
        "Deployment",
        "HorizontalPodAutoscaler",
        "NetworkPolicy",
        "PodDisruptionBudget",
        "Service",
        "ServiceAccount",
    }


FAULTS: dict[str, tuple[str, str, Any]] = {
    "unknown field of a pod": ("Deployment/neurectomy-api", "spec.template.spec.hostNetwrok", True),
    "unknown field of a container": ("Deployment/neurectomy-api", "spec.template.spec.containers.0.livenesProbe", {}),
    "misspelt nested": ("Deployment/neurectomy-api", "spec.template.spec.containers.0.securityContext.readOnlyRootFileSystem", True),
    "wrong type": ("Deployment/neurectomy-api", "spec.template.spec.terminationGracePeriodSeconds", "90"),
    "unknown field of a policy": ("NetworkPolicy/neurectomy-api", "spec.ingress.0.form", []),
    "unknown field of an autoscaler": ("HorizontalPodAutoscaler/neurectomy-api", "spec.metrics.0.containerResource.target.utilization", 70),
    "gone version": ("HorizontalPodAutoscaler/neurectomy-api", "apiVersion", "autoscaling/v2beta2"),
    "unknown field of a monitor": ("PodMonitor/neurectomy-api", "spec.podMetricsEndpoint", []),
    "unknown field of an endpoint": ("PodMonitor/neurectomy-api", "spec.podMetricsEndpoints.0.relabellings", []),
    "unknown field of a relabelling": ("PodMonitor/neurectomy-api", "spec.podMetricsEndpoints.0.relabelings.0.source_labels", ["a"]),
    "unknown action": ("PodMonitor/neurectomy-api", "spec.podMetricsEndpoints.0.relabelings.0.action", "dropp"),
    "no duration": ("PodMonitor/neurectomy-api", "spec.podMetricsEndpoints.0.interval", "15 s"),
    "unknown field of a rule": ("PrometheusRule/neurectomy-alerts", "spec.groups.0.rules.0.four", "5m"),
    "no expression": ("PrometheusRule/neurectomy-alerts", "spec.groups.0.rules.0.expr", None),
    "unknown field of metadata": ("PrometheusRule/neurectomy-alerts", "metadata.label", {}),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_told(fault: str) -> None:
    minor = MINORS[-1]
    which, path, value = FAULTS[fault]
    document = copy.deepcopy(chosen(documents("production", "prometheus-operator"), which))
    assert faults(document, minor) == []
    put(document, path, value)
    assert faults(document, minor)


def chosen(found: list[Document], which: str) -> Document:
    """Give the document of this kind and name."""
    kind, _, called = which.partition("/")
    (one,) = (each for each in found if each["kind"] == kind and each["metadata"]["name"] == called)
    return one


def put(document: Document, path: str, value: Any) -> None:
    """Put a value at a path of names and numbers; None takes away what is there."""
    at: Any = document
    *parents, last = path.split(".")
    for part in parents:
        at = at[int(part) if part.isdecimal() else part]
    key = int(last) if last.isdecimal() else last
    if isinstance(at, list) and key == len(at):
        at.append(value)
    elif value is None:
        del at[key]
    else:
        at[key] = value
