"""No rendering breaks a rule of ours, and each rule tells when it is broken."""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING, Any

import pytest
import yaml

import app
from tests.conftest import ROOT
from tests.k8s.manifests import Manifests, containers
from tests.k8s.policy import violations
from tests.k8s.references import BROUGHT, secrets
from tests.k8s.rendering import RENDERED, documents, kustomized, name
from tests.k8s.service import settings
from tests.k8s.test_schemas import chosen, put

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize("rendered", RENDERED, ids=name)
def test_no_rule_is_broken(rendered: tuple[str, tuple[str, ...]]) -> None:
    assert violations(documents(rendered[0], *rendered[1])) == []


PAGE = ROOT / "docs" / "kubernetes.md"
PRODUCTION, LOCAL, GPU = ("production",), ("local",), ("gpu",)
OPERATOR, STACK = ("production", "prometheus-operator", "custom-metrics"), ("production", "stack")
API, PROMETHEUS = "Deployment/neurectomy-api", "Deployment/prometheus"
SPEC = "spec.template.spec"
CONTAINER, EXPORTER, MIGRATE = f"{SPEC}.containers.0", f"{SPEC}.initContainers.0", f"{SPEC}.initContainers.1"
SCALER, POLICY, BUDGET = "HorizontalPodAutoscaler/neurectomy-api", "NetworkPolicy/neurectomy-api", "PodDisruptionBudget/neurectomy-api"
MONITOR, BINDING = "PodMonitor/neurectomy-api", "ClusterRoleBinding/neurectomy-prometheus"
#: The one with this name and a hash behind it.
SETTINGS = "ConfigMap/neurectomy-settings-"

#: What is rendered, which document of it is changed where to what (None: taken away), and what is told of it.
BROKEN: list[tuple[tuple[str, ...], str, str, Any, str]] = [
    (PRODUCTION, API, f"{CONTAINER}.image", "neurectomy-api:latest", "names no version"),
    (PRODUCTION, API, f"{EXPORTER}.image", "neurectomy-api", "exporter: the image neurectomy-api names no version"),
    (PRODUCTION, API, f"{CONTAINER}.image", "neurectomy-api:99.0.0", "the image is 99.0.0"),
    (STACK, PROMETHEUS, f"{CONTAINER}.image", "prom/prometheus:main", "names no version"),
    (PRODUCTION, API, f"{MIGRATE}.resources.limits.memory", None, "migrate: no limits of memory"),
    (PRODUCTION, API, f"{EXPORTER}.resources.requests", None, "exporter: no requests of cpu, memory"),
    (PRODUCTION, API, f"{CONTAINER}.resources.limits", None, "api: no limits of cpu, memory"),
    (PRODUCTION, API, f"{SPEC}.securityContext.runAsNonRoot", False, "may run as root"),
    (PRODUCTION, API, f"{SPEC}.securityContext.runAsUser", 0, "may run as root"),
    (STACK, "Deployment/grafana", f"{SPEC}.securityContext.seccompProfile", None, "grafana: no seccomp"),
    (PRODUCTION, API, f"{SPEC}.hostNetwork", True, "hostNetwork"),
    (PRODUCTION, API, f"{SPEC}.enableServiceLinks", None, "variables of other Services"),
    (PRODUCTION, API, f"{SPEC}.volumes.0", {"name": "vault", "hostPath": {"path": "/"}}, "a volume hostPath"),
    (STACK, "Deployment/grafana", f"{SPEC}.volumes.5.emptyDir.sizeLimit", None, "tmp has no sizeLimit"),
    (PRODUCTION, API, f"{CONTAINER}.securityContext.readOnlyRootFilesystem", False, "api: its securityContext"),
    (PRODUCTION, API, f"{EXPORTER}.securityContext.capabilities.drop", [], "exporter: its securityContext"),
    (PRODUCTION, API, f"{MIGRATE}.securityContext", None, "migrate: its securityContext"),
    (STACK, "Deployment/alertmanager", f"{CONTAINER}.securityContext.allowPrivilegeEscalation", True, "alertmanager: its securityContext"),
    (PRODUCTION, API, f"{CONTAINER}.securityContext.runAsUser", 0, "api: its securityContext"),
    (PRODUCTION, API, f"{SPEC}.automountServiceAccountToken", None, "automountServiceAccountToken is None"),
    (STACK, PROMETHEUS, f"{SPEC}.automountServiceAccountToken", False, "automountServiceAccountToken is False"),
    (PRODUCTION, "ServiceAccount/neurectomy-api", "automountServiceAccountToken", True, "wherever nobody says otherwise"),
    (PRODUCTION, API, f"{CONTAINER}.startupProbe", None, "api: it has the probes"),
    (PRODUCTION, API, f"{CONTAINER}.readinessProbe", None, "api: it has the probes"),
    (PRODUCTION, API, f"{EXPORTER}.livenessProbe", None, "exporter: it has the probes"),
    (PRODUCTION, API, f"{EXPORTER}.readinessProbe", {"httpGet": {"path": "/healthz", "port": "metrics"}}, "exporter: it has the probes"),
    (PRODUCTION, API, f"{CONTAINER}.readinessProbe.httpGet.path", "/health/live", "readiness and liveness ask the same"),
    (PRODUCTION, API, f"{CONTAINER}.livenessProbe.httpGet.path", "/healthz", "asks for /healthz, which there is not"),
    (PRODUCTION, API, f"{EXPORTER}.livenessProbe.httpGet.path", "/health/live", "asks for /health/live, which there is not"),
    (PRODUCTION, API, f"{CONTAINER}.livenessProbe.httpGet.port", "metrics", "a port that the container does not have"),
    (STACK, PROMETHEUS, f"{CONTAINER}.livenessProbe.timeoutSeconds", None, "gives up after one second"),
    (PRODUCTION, API, f"{CONTAINER}.ports.0.containerPort", 8080, "its ports are"),
    (PRODUCTION, API, f"{EXPORTER}.ports.0.containerPort", 9090, "its ports are"),
    (
        PRODUCTION,
        API,
        "spec.template.metadata.annotations",
        {"prometheus.io/port": "8000", "prometheus.io/scrape": "true"},
        "io/port is 8000",
    ),
    (PRODUCTION, API, f"{CONTAINER}.env.0.valueFrom.secretKeyRef.name", "postgres", "Secret/postgres"),
    (PRODUCTION, API, f"{CONTAINER}.env.0.valueFrom.secretKeyRef.key", "uri", r"Secret/neurectomy-database \(uri, url\)"),
    (PRODUCTION, API, f"{SPEC}.serviceAccountName", "default", "no ServiceAccount/default"),
    (PRODUCTION, API, f"{CONTAINER}.envFrom.0.configMapRef.name", "neurectomy-settings", "no ConfigMap/neurectomy-settings"),
    (LOCAL, "PersistentVolumeClaim/neurectomy-data", "metadata.name", "data", "no PersistentVolumeClaim/neurectomy-data"),
    (STACK, "Deployment/grafana", f"{SPEC}.volumes.2.projected.sources.0.configMap.name", "x", "no ConfigMap/x"),
    (STACK, "Deployment/grafana", f"{SPEC}.volumes.0.configMap.items.0.key", "x.yaml", "has no x.yaml"),
    (PRODUCTION, API, f"{CONTAINER}.volumeMounts.0", None, "not both there and mounted: {'vault'}"),
    (PRODUCTION, API, "spec.template.metadata.labels", {"app.kubernetes.io/name": "neurectomy"}, "does not choose its own pods"),
    (PRODUCTION, "Service/neurectomy-api", "spec.selector", {"app": "neurectomy"}, r"its selector chooses \[\]"),
    (STACK, BUDGET, "spec.selector.matchLabels", {}, "its selector chooses .*grafana"),
    (PRODUCTION, POLICY, "spec.podSelector.matchLabels", {"app": "x"}, r"NetworkPolicy/neurectomy-api: its selector chooses \[\]"),
    (OPERATOR, MONITOR, "spec.selector.matchLabels", {"app": "x"}, r"PodMonitor/neurectomy-api: its selector chooses \[\]"),
    (PRODUCTION, API, f"{SPEC}.topologySpreadConstraints.1.labelSelector.matchLabels", {"app": "x"}, "spread among other pods"),
    (STACK, BINDING, "roleRef.name", "view", "no ClusterRole/view"),
    (STACK, BINDING, "subjects.0.namespace", "default", "no ServiceAccount/prometheus in default"),
    (PRODUCTION, "Service/neurectomy-api", "spec.ports.0.targetPort", "web", "web is no port of its pods"),
    (PRODUCTION, "Service/neurectomy-api", "spec.ports.0.targetPort", "metrics", "metrics is no port of its pods"),
    (OPERATOR, MONITOR, "spec.podMetricsEndpoints.0.port", "web", "web is no port of its pods"),
    (PRODUCTION, POLICY, "spec.ingress.0.ports.0.port", 80, "opens a port that its pods do not have"),
    (PRODUCTION, POLICY, "spec.ingress.0.from", [], "lets everybody in"),
    (PRODUCTION, POLICY, "spec.ingress.0.from", [{"podSelector": {}}], "lets everybody in"),
    (PRODUCTION, POLICY, "spec.ingress.0.ports", None, "lets everybody in, or to every port"),
    (PRODUCTION, POLICY, "spec.ingress.0.ports", [{"port": 8000}, {"port": 9464}], "others than Prometheus reach"),
    (PRODUCTION, POLICY, "spec.policyTypes", ["Egress"], "not about Ingress"),
    (STACK, "NetworkPolicy/grafana", "spec.podSelector.matchLabels", {"app.kubernetes.io/name": "prometheus"}, "grafana: no NetworkPolicy"),
    (PRODUCTION, SCALER, "spec.scaleTargetRef.name", "api", "its target is not there"),
    (PRODUCTION, SCALER, "spec.metrics.0.containerResource.container", "web", "no container web"),
    (OPERATOR, SCALER, "spec.metrics.1.external.metric.name", "cluster_job:requests:rate5m", "no recording rule cluster_job:requests"),
    (OPERATOR, SCALER, "spec.metrics.1.external.metric.selector.matchLabels", {"pod": "x"}, "has no label pod"),
    (OPERATOR, SCALER, "spec.metrics.1.external.metric.selector.matchLabels.job", "/v1/x", "/v1/x cannot be chosen"),
    (PRODUCTION, API, "spec.replicas", 3, "its replicas are said by two"),
    (LOCAL, API, "spec.replicas", None, "its replicas are said by nobody"),
    (PRODUCTION, BUDGET, "spec.selector.matchLabels", {"app": "x"}, "keeps its node from being drained"),
    (STACK, PROMETHEUS, "spec.strategy.type", "RollingUpdate", "does not fit its volumes"),
    (OPERATOR, API, "spec.template.metadata.annotations", {"prometheus.io/scrape": "true"}, "are scraped by annotations"),
    (PRODUCTION, API, "spec.template.metadata.annotations", {}, r"\[\] are scraped by annotations"),
    (STACK, "Service/prometheus", "spec.ports.0.port", 80, "no Service at prometheus:9090"),
    (STACK, "Service/alertmanager", "metadata.name", "alerts", "no Service at alertmanager:9093"),
    (PRODUCTION, "Namespace/neurectomy", "metadata.labels", {}, "takes pods that are not restricted"),
    (PRODUCTION, POLICY, "metadata.namespace", "default", "in the namespace default"),
    (STACK, "Service/prometheus", "metadata.name", "grafana", "Service/grafana is there twice"),
    (PRODUCTION, SETTINGS, "data.WORKERS", "2", "nothing reads the variable WORKERS"),
    (PRODUCTION, API, f"{EXPORTER}.env.4", {"name": "DATABASE_URL", "value": "x"}, "exporter: nothing reads the variable DATABASE_URL"),
    (PRODUCTION, API, f"{CONTAINER}.env.1", {"name": "ADMIN_KEY", "value": "abc"}, "ADMIN_KEY is no secret here"),
    (PRODUCTION, SETTINGS, "data.KEEP_ALIVE", "75s", "KEEP_ALIVE='75s' is not allowed"),
    (PRODUCTION, SETTINGS, "data.METRICS_PATH", "/metrics", "it serves metrics itself"),
    (PRODUCTION, SETTINGS, "data.METRICS_PATH", None, "it serves metrics itself"),
    (PRODUCTION, SETTINGS, "data.METRICS_BIND", "0.0.0.0:9465", "it serves metrics itself"),
    (PRODUCTION, SETTINGS, "data.BIND", "127.0.0.1:8000", "BIND=127.0.0.1:8000 is not where the port http is"),
    (PRODUCTION, API, f"{EXPORTER}.env.1.value", "0.0.0.0:9090", "METRICS_BIND=0.0.0.0:9090 is not where the port metrics is"),
    (PRODUCTION, SETTINGS, "data.REQUIRE_API_KEY", "0", "REQUIRE_API_KEY=0 is not for this overlay"),
    (
        PRODUCTION,
        API,
        f"{EXPORTER}.volumeMounts.0.mountPath",
        "/metrics",
        "exporter: PROMETHEUS_MULTIPROC_DIR=/run/metrics is not the volume",
    ),
    (PRODUCTION, API, f"{CONTAINER}.volumeMounts.1.readOnly", True, "api: PROMETHEUS_MULTIPROC_DIR=/run/metrics is not the volume"),
    (LOCAL, API, f"{SPEC}.volumes.1.emptyDir.medium", None, "metrics` is not in memory"),
    (PRODUCTION, API, f"{EXPORTER}.restartPolicy", None, "exporter: it has the probes"),
    (PRODUCTION, SETTINGS, "data.VAULT_KEY_FILE", "/etc/vault.key", "VAULT_KEY_FILE=/etc/vault.key is in no volume"),
    (PRODUCTION, SETTINGS, "data.VAULT_URL", None, "without VAULT_URL its objects"),
    (PRODUCTION, SETTINGS, "data.DATA_DIR", "/var/data", "it cannot write to /tmp or DATA_DIR"),
    (PRODUCTION, API, f"{MIGRATE}.env", [], "migrate: without DATABASE_URL"),
    (PRODUCTION, API, f"{CONTAINER}.resources.limits.cpu", "4", "has not room for 4 workers"),
    (
        PRODUCTION,
        API,
        f"{CONTAINER}.resources.limits.memory",
        "800Mi",
        "no room for the metrics volume|has not room for the metrics volume",
    ),
    (LOCAL, API, f"{SPEC}.volumes.1.emptyDir.sizeLimit", "16Mi", "the metrics volume is less than"),
    (PRODUCTION, SETTINGS, "data.SIGMALANG_MAX_LONG_BODIES", "8", "/tmp has not room"),
    (PRODUCTION, API, f"{CONTAINER}.resources.limits.ephemeral-storage", "2Gi", "ephemeral-storage is less"),
    (PRODUCTION, API, f"{CONTAINER}.lifecycle", None, "before every proxy has taken it off"),
    (PRODUCTION, API, f"{SPEC}.terminationGracePeriodSeconds", 100, "less than the 106 s that a stop may take"),
    (PRODUCTION, API, f"{SPEC}.terminationGracePeriodSeconds", None, "less than the 106 s that a stop may take"),
    (PRODUCTION, SETTINGS, "data.GRACEFUL_TIMEOUT", "120", "less than the 166 s that a stop may take"),
    (LOCAL, API, f"{EXPORTER}.env.1.value", "10", "ends before every Prometheus has come by once more"),
    (PRODUCTION, API, f"{CONTAINER}.livenessProbe.failureThreshold", 3, "before gunicorn has replaced a worker"),
    (PRODUCTION, API, f"{CONTAINER}.readinessProbe.timeoutSeconds", 2, "the readiness probe does not wait"),
    (PRODUCTION, SETTINGS, "data.KEEP_ALIVE", "5", "not longer than an ingress"),
    (PRODUCTION, API, "spec.strategy.rollingUpdate.maxUnavailable", 1, "a rollout takes 1 pods away"),
    (GPU, API, "spec.strategy.rollingUpdate.maxUnavailable", 0, "a rollout takes 0 pods away"),
    (OPERATOR, MONITOR, "spec.podMetricsEndpoints.0.authorization", None, "its token is not the exporter's"),
    (OPERATOR, API, f"{EXPORTER}.env.0", {"name": "METRICS_TOKEN", "value": ""}, "its token is not the exporter's"),
    (OPERATOR, MONITOR, "spec.podMetricsEndpoints.0.relabelings", [], "the operator's label endpoint hides a family's"),
    (STACK, PROMETHEUS, f"{SPEC}.volumes.1.secret.secretName", "neurectomy-admin", "Deployment/prometheus: its token is not"),
]


@pytest.mark.parametrize("broken", BROKEN, ids=lambda each: f"{each[1].rpartition('/')[2]}-{each[2].rpartition('.')[2]}-{each[3]!s:.20}")
def test_a_broken_rule_is_told(broken: tuple[tuple[str, ...], str, str, Any, str]) -> None:
    rendered, which, path, value, told = broken
    found = documents(*rendered)
    if which == SETTINGS:
        (which,) = (
            f"ConfigMap/{each['metadata']['name']}" for each in found if each["metadata"]["name"].startswith("neurectomy-settings-")
        )
    put(chosen(found, which), path, value)
    lines = violations(found)
    assert any(re.search(told, line) for line in lines), lines


def test_an_exporter_after_the_migration_is_told() -> None:
    found = documents("production")
    chosen(found, API)["spec"]["template"]["spec"]["initContainers"].reverse()
    assert violations(found) == [f"{API}: the exporter does not start before the migration"]


def test_what_watches_twice_is_told() -> None:
    found = documents("production", "stack")
    found += [each for each in documents("production", "prometheus-operator") if each["kind"] == "PodMonitor"]
    assert violations(found) == ["[] are scraped by annotations, and 2 others know the pods"]


def test_operators_are_told_which_secrets_to_make() -> None:
    """Each one that is asked for is made in the docs, and no other."""
    asked = {name for overlay, components in RENDERED for name in secrets(Manifests(documents(overlay, *components)))}
    assert asked == set(BROUGHT)
    page = PAGE.read_text()
    keys: dict[str, set[str]] = {}
    for made, arguments in re.findall(r"create secret generic ([\w-]+)(.*)", page):
        keys.setdefault(made, set()).update(re.findall(r"--from-(?:literal|file)=([\w.-]+)=", arguments))
    assert keys == BROUGHT
    assert secrets(Manifests(documents("local"))) == {}


def test_the_overlay_of_the_docs_renders(tmp_path: Path) -> None:
    """An operator's own, with another registry and other settings."""
    (block,) = (each for each in re.findall(r"```yaml\n(.*?)```", PAGE.read_text(), re.DOTALL) if "kind: Kustomization" in each)
    (tmp_path / "kustomization.yaml").write_text(block.replace("neurectomy-monitoring/", f"{os.path.relpath(ROOT, tmp_path.resolve())}/"))
    done = kustomized(tmp_path)
    assert done.returncode == 0, done.stderr
    found = [each for each in yaml.safe_load_all(done.stdout) if each]
    assert violations(found) == []
    manifests = Manifests(found)
    assert {each["image"] for _, each in containers(manifests.service)} == {f"registry.example/neurectomy-api:{app.__version__}"}
    assert settings(manifests).vault_url == "s3://our-bucket/vault"
    assert settings(manifests).graceful_timeout == 60
    (monitor,) = manifests.of("PodMonitor")
    assert {"targetLabel": "cluster", "replacement": "us-1"} in monitor["spec"]["podMetricsEndpoints"][0]["relabelings"]
