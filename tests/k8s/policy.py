"""Our own rules for the manifests, beyond what an API server checks. `violations` says which are broken, where, in a line each."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

import app
from app.api import health
from app.settings import Settings
from monitoring.exporter import DEFAULT_BIND
from tests.k8s import references, service
from tests.k8s.manifests import Manifests, containers, pod, title
from tests.k8s.rendering import Document

Rule = Callable[[Manifests], Iterator[str]]

_OUR_IMAGE = "neurectomy-api"
_PROBES = ("startupProbe", "readinessProbe", "livenessProbe")
_VOLUMES = {"configMap", "emptyDir", "persistentVolumeClaim", "projected", "secret"}
_HARDENED = {"allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True, "capabilities": {"drop": ["ALL"]}}


def violations(documents: list[Document]) -> list[str]:
    """Give every broken rule."""
    manifests = Manifests(documents)
    return [line for rule in (*_RULES, *references.RULES, *service.RULES) for line in rule(manifests)]


def _images(manifests: Manifests) -> Iterator[str]:
    for workload in manifests.workloads:
        for _, container in containers(workload):
            name, _, tag = container["image"].rpartition("/")[2].partition(":")
            if not re.fullmatch(r"v?\d+\.\d+\.\d+", tag):
                yield f"{title(workload)}, {container['name']}: the image {container['image']} names no version"
            if name == _OUR_IMAGE and tag != app.__version__:
                yield f"{title(workload)}, {container['name']}: the image is {tag}, and the version {app.__version__}"


def _resources(manifests: Manifests) -> Iterator[str]:
    for workload in manifests.workloads:
        for _, container in containers(workload):
            for kind in ("requests", "limits"):
                missing = {"cpu", "memory"} - set(container.get("resources", {}).get(kind, {}))
                if missing:
                    yield f"{title(workload)}, {container['name']}: no {kind} of {', '.join(sorted(missing))}"


def _hardening(manifests: Manifests) -> Iterator[str]:
    for workload in manifests.workloads:
        spec, where = pod(workload), title(workload)
        context = spec.get("securityContext", {})
        if context.get("runAsNonRoot") is not True or not context.get("runAsUser") or not context.get("runAsGroup"):
            yield f"{where}: it may run as root"
        if context.get("seccompProfile") != {"type": "RuntimeDefault"}:
            yield f"{where}: no seccomp profile"
        for name in ("hostNetwork", "hostPID", "hostIPC", "shareProcessNamespace"):
            if spec.get(name):
                yield f"{where}: {name}"
        if spec.get("enableServiceLinks") is not False:
            yield f"{where}: variables of other Services reach it"
        for volume in spec.get("volumes", []):
            (kind,) = set(volume) - {"name"}
            if kind not in _VOLUMES:
                yield f"{where}: a volume {kind}"
            if kind == "emptyDir" and "sizeLimit" not in volume["emptyDir"]:
                yield f"{where}: the volume {volume['name']} has no sizeLimit"
        for _, container in containers(workload):
            if container.get("securityContext") != _HARDENED:
                yield f"{where}, {container['name']}: its securityContext is not {_HARDENED}"


def _tokens(manifests: Manifests) -> Iterator[str]:
    """Only who has rights in the cluster gets a token for it."""
    bound = {
        subject["name"] for kind in ("RoleBinding", "ClusterRoleBinding") for each in manifests.of(kind) for subject in each["subjects"]
    }
    for workload in manifests.workloads:
        spec = pod(workload)
        if (spec.get("automountServiceAccountToken") is not False) != (spec.get("serviceAccountName") in bound):
            yield f"{title(workload)}: automountServiceAccountToken is {spec.get('automountServiceAccountToken')}"
    for account in manifests.of("ServiceAccount"):
        if account.get("automountServiceAccountToken") is not False:
            yield f"{title(account)}: its token is mounted wherever nobody says otherwise"


def _probes(manifests: Manifests) -> Iterator[str]:
    """A container has all three; a sidecar is restarted where it hangs, and makes neither a pod unready nor a start wait."""
    for workload in manifests.workloads:
        for sort, container in containers(workload):
            where = f"{title(workload)}, {container['name']}"
            wanted = {"container": set(_PROBES), "sidecar": {"livenessProbe"}, "init": set()}[sort]
            found = {probe for probe in _PROBES if probe in container}
            if found != wanted:
                yield f"{where}: it has the probes {sorted(found)}, not {sorted(wanted)}"
            asked = {probe: container[probe].get("httpGet") or container[probe].get("tcpSocket") for probe in found}
            if sort == "container" and asked.get("readinessProbe") == asked.get("livenessProbe"):
                # Alertmanager, Prometheus and Grafana too tell both apart.
                yield f"{where}: readiness and liveness ask the same"
            ports = {port["name"] for port in container.get("ports", [])}
            for probe, call in asked.items():
                if call is None or call["port"] not in ports:
                    yield f"{where}: {probe} asks a port that the container does not have"
                if "timeoutSeconds" not in container[probe]:
                    yield f"{where}: {probe} gives up after one second"
            if container["image"].rpartition("/")[2].partition(":")[0] == _OUR_IMAGE:
                for probe, call in asked.items():
                    if call is None or call.get("path") not in _paths(container):
                        yield f"{where}: {probe} asks for {call and call.get('path')}, which there is not"


def _paths(container: Document) -> set[str]:
    if container.get("command") == ["python", "-m", "monitoring.exporter"]:
        return {"/healthz"}
    return {route.path for route in health.router.routes if hasattr(route, "path")}


def _ports(manifests: Manifests) -> Iterator[str]:
    """Ports are those of the code, wherever they are said."""
    public = int(Settings.model_fields["bind"].default.rpartition(":")[2])
    metrics = int(DEFAULT_BIND.rpartition(":")[2])
    said = {
        (container["name"], port["name"]): port["containerPort"]
        for _, container in containers(manifests.service)
        for port in container.get("ports", [])
    }
    if said != {("api", "http"): public, ("exporter", "metrics"): metrics}:
        yield f"Deployment/neurectomy-api: its ports are {said}, not {public} and {metrics}"
    annotations = manifests.service["spec"]["template"]["metadata"].get("annotations") or {}
    if annotations.get("prometheus.io/port", str(metrics)) != str(metrics):
        yield f"Deployment/neurectomy-api: prometheus.io/port is {annotations['prometheus.io/port']}, not {metrics}"


_RULES: tuple[Rule, ...] = (_images, _resources, _hardening, _tokens, _probes, _ports)
