"""Our own rules for the manifests, beyond what an API server checks. `violations` says which are broken, where, in a line each."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import app
from app.api import health
from app.settings import Settings
from monitoring.exporter.settings import DEFAULT_BIND
from tests.k8s import references, service
from tests.k8s.manifests import Manifests, containers, pod, title

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.k8s.rendering import Document

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
            tag = container["image"].rpartition("/")[2].partition(":")[2]
            if not re.fullmatch(r"v?\d+\.\d+\.\d+", tag):
                yield f"{title(workload)}, {container['name']}: the image {container['image']} names no version"
            if _is_ours(container) and tag != app.__version__:
                yield f"{title(workload)}, {container['name']}: the image is {tag}, and the version {app.__version__}"


def _resources(manifests: Manifests) -> Iterator[str]:
    for workload in manifests.workloads:
        for _, container in containers(workload):
            for kind in ("requests", "limits"):
                missing = {"cpu", "memory"} - set(container.get("resources", {}).get(kind, {}))
                if missing:
                    yield f"{title(workload)}, {container['name']}: no {kind} of {', '.join(sorted(missing))}"


def _users(manifests: Manifests) -> Iterator[str]:
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
        for _, container in containers(workload):
            if container.get("securityContext") != _HARDENED:
                yield f"{where}, {container['name']}: its securityContext is not {_HARDENED}"


def _volumes(manifests: Manifests) -> Iterator[str]:
    for workload in manifests.workloads:
        for volume in pod(workload).get("volumes", []):
            (kind,) = set(volume) - {"name"}
            if kind not in _VOLUMES:
                yield f"{title(workload)}: a volume {kind}"
            if kind == "emptyDir" and "sizeLimit" not in volume["emptyDir"]:
                yield f"{title(workload)}: the volume {volume['name']} has no sizeLimit"


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
            wanted = {"container": set(_PROBES), "sidecar": {"livenessProbe"}, "init": set()}[sort]
            found = set(_PROBES) & set(container)
            where = f"{title(workload)}, {container['name']}"
            if found != wanted:
                yield f"{where}: it has the probes {sorted(found)}, not {sorted(wanted)}"
            yield from (f"{where}: {fault}" for probe in sorted(found) for fault in _asked(probe, container))
            if sort == "container" and _call(container.get("readinessProbe")) == _call(container.get("livenessProbe")):
                yield f"{where}: readiness and liveness ask the same"


def _call(probe: dict[str, Any] | None) -> dict[str, Any]:
    found: dict[str, Any] = (probe or {}).get("httpGet") or (probe or {}).get("tcpSocket") or {}
    return found


def _asked(probe: str, container: dict[str, Any]) -> Iterator[str]:
    call = _call(container[probe])
    if call.get("port") not in {port["name"] for port in container.get("ports", [])}:
        yield f"{probe} asks a port that the container does not have"
    if "timeoutSeconds" not in container[probe]:
        yield f"{probe} gives up after one second"
    if _is_ours(container) and call.get("path") not in _paths(container):
        yield f"{probe} asks for {call.get('path')}, which there is not"


def _is_ours(container: dict[str, Any]) -> bool:
    return bool(container["image"].rpartition("/")[2].partition(":")[0] == _OUR_IMAGE)


def _paths(container: dict[str, Any]) -> set[str]:
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


_RULES = (_images, _resources, _users, _volumes, _tokens, _probes, _ports)
