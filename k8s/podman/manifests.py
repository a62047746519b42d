"""Turns the Deployment of a rendered overlay into a Pod that podman 4.3 can run.

podman ignores what it does not know, so every field is listed here: kept, done by :mod:`k8s.podman.pod`, or without a meaning on one machine.
Any other is an error, since nothing would be proved about it.
"""

from __future__ import annotations

import subprocess
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from .engine import EngineError, find

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

Document = dict[str, Any]

_CLUSTERS = {"serviceAccountName", "automountServiceAccountToken", "enableServiceLinks", "topologySpreadConstraints", "affinity", "tolerations"}
_OURS = {"terminationGracePeriodSeconds", "volumes", "containers", "initContainers", "securityContext", "restartPolicy"}
_KEPT = {"name", "command", "args", "env", "envFrom", "resources", "volumeMounts", "workingDir"}
_DONE = {"image", "imagePullPolicy", "ports", "restartPolicy", "securityContext", "startupProbe", "readinessProbe", "livenessProbe", "lifecycle"}
_UNITS = {"Ki": 1 << 10, "Mi": 1 << 20, "Gi": 1 << 30, "k": 10**3, "M": 10**6, "G": 10**9}


class ManifestError(Exception):
    """The Deployment asks for something that is not done here; the text says where and what."""


@dataclass(frozen=True)
class Volume:
    """A folder of the pod, as a kubelet makes it."""

    name: str
    #: What a file system in memory may hold; None for a folder on disk, whose limit a kubelet keeps by eviction, and nobody here.
    memory_bytes: int | None
    #: The group that it belongs to (fsGroup).
    group: int | None


@dataclass(frozen=True)
class Probe:
    """An HTTP probe: what it asks for, and how often it may fail."""

    port: int
    path: str
    period_seconds: float
    timeout_seconds: float
    failures: int


@dataclass(frozen=True)
class Container:
    """What the kubelet does with a container while the pod runs."""

    name: str
    sidecar: bool
    ports: Mapping[str, int]
    probes: Mapping[str, Probe]
    #: Seconds that it serves on once it is to stop (preStop).
    pause_seconds: float


@dataclass(frozen=True)
class Plan:
    """A Pod for `podman play kube`, and what is done around it."""

    name: str
    #: The pod, after the settings that it takes variables from.
    documents: list[Document]
    #: In the order of their start: sidecars first.
    containers: list[Container]
    #: Each init container, as a pod of its own.
    before: list[Plan] = field(default_factory=list)
    volumes: list[Volume] = field(default_factory=list)
    grace_seconds: float = 0
    #: Port of the pod -> port of 127.0.0.1.
    published: Mapping[int, int] = field(default_factory=dict)


def render(overlay: Path) -> list[Document]:
    """Give the documents of a kustomization."""
    done = subprocess.run([find("kubectl"), "kustomize", str(overlay)], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise EngineError(f"kubectl kustomize {overlay} failed: {done.stderr.strip()}")
    return [document for document in yaml.safe_load_all(done.stdout) if document]


def plan(documents: Iterable[Document], *, name: str, image: str, folder: Path, ports: Mapping[str, int]) -> Plan:
    """Plan the pod of the only Deployment in `documents`, with volumes in `folder` and named `ports` on 127.0.0.1."""
    found = list(documents)
    deployments = [each for each in found if each["kind"] == "Deployment"]
    if len(deployments) != 1:
        raise ManifestError(f"there are {len(deployments)} Deployments where one is expected")
    template = deployments[0]["spec"]["template"]
    spec = template["spec"]
    _require_known(spec, _CLUSTERS | _OURS, "the pod")
    context = dict(spec.get("securityContext", {}))
    group = context.pop("fsGroup", None)
    context.pop("fsGroupChangePolicy", None)

    first = spec.get("initContainers", [])
    sidecars = [each for each in first if each.get("restartPolicy") == "Always"]
    mains = spec["containers"]
    published: dict[int, int] = {}

    def made(container: Document, *, serves: bool) -> Document:
        where = f"container {container['name']}"
        _require_known(container, _KEPT | _DONE, where)
        kept = {key: value for key, value in container.items() if key in _KEPT}
        named = _ports(container) if serves else {}
        published.update({number: ports[port] for port, number in named.items() if port in ports})
        return {
            **kept,
            "image": image,
            "imagePullPolicy": "Never",
            "securityContext": _security(context, container.get("securityContext", {}), where),
            "resources": _resources(container.get("resources", {})),
            "ports": [
                {"name": port, "containerPort": number, "hostPort": ports[port], "hostIP": "127.0.0.1"}
                for port, number in named.items()
                if port in ports
            ],
        }

    volumes = spec.get("volumes", [])
    settings = [each for each in found if each["kind"] in {"ConfigMap", "Secret"}]

    def pod(called: str, containers: list[Document], restart: str) -> list[Document]:
        body = {
            "restartPolicy": restart,
            "containers": containers,
            "volumes": [{"name": each["name"], "hostPath": {"path": str(folder / each["name"]), "type": "Directory"}} for each in volumes],
        }
        made = {"apiVersion": "v1", "kind": "Pod", "metadata": {**template["metadata"], "name": called}, "spec": body}
        return [*(each for each in settings if _used(each, containers)), made]

    # podman 4.3 knows no sidecars: as an ordinary container, this one starts after the init containers instead of before. And it starts these again
    # where the pod says `Always`: they are pods of their own.
    before = [
        Plan(f"{name}-{each['name']}", pod(f"{name}-{each['name']}", [made(each, serves=False)], "Never"), containers=[_container(each)])
        for each in first
        if each not in sidecars
    ]
    return Plan(
        name=name,
        documents=pod(name, [made(each, serves=True) for each in [*sidecars, *mains]], "Always"),
        containers=[_container(each, sidecar=each in sidecars) for each in [*sidecars, *mains]],
        before=before,
        volumes=[_volume(each, group) for each in volumes],
        grace_seconds=float(spec.get("terminationGracePeriodSeconds", 30)),
        published=published,
    )


def _require_known(found: Document, known: set[str], where: str) -> None:
    if unknown := found.keys() - known:
        raise ManifestError(f"{where}: {', '.join(sorted(unknown))} is not done here; add it to k8s/podman/manifests.py, or say there why not")


def _ports(container: Document) -> dict[str, int]:
    return {each["name"]: int(each["containerPort"]) for each in container.get("ports", [])}


def _security(pod: Document, own: Document, where: str) -> Document:
    """Give what holds for the container: podman 4.3 reads some fields only there. Its own filter of system calls is the runtime's default."""
    made = {**pod, **own}
    _require_known(
        made,
        {"runAsUser", "runAsGroup", "runAsNonRoot", "allowPrivilegeEscalation", "readOnlyRootFilesystem", "capabilities", "seccompProfile"},
        f"{where}, securityContext",
    )
    if made.pop("seccompProfile", {"type": "RuntimeDefault"}) != {"type": "RuntimeDefault"}:
        raise ManifestError(f"{where}: only the seccompProfile RuntimeDefault is done here")
    if made.get("runAsNonRoot") and made.get("runAsUser", 1) == 0:
        raise ManifestError(f"{where}: runAsNonRoot, and runAsUser is 0")
    return made


def _resources(found: Document) -> Document:
    """Give processors and memory; storage is a matter of eviction."""
    return {kind: {name: amount for name, amount in each.items() if name in {"cpu", "memory"}} for kind, each in found.items()}


def _volume(found: Document, group: int | None) -> Volume:
    if "persistentVolumeClaim" in found:
        return Volume(found["name"], None, group)
    empty = found.get("emptyDir")
    if empty is None:
        raise ManifestError(f"volume {found['name']}: {', '.join(found.keys() - {'name'})} is not done here")
    return Volume(found["name"], size(empty["sizeLimit"]) if empty.get("medium") == "Memory" else None, group)


def size(text: str) -> int:
    """Give the bytes of a Kubernetes quantity, such as 64Mi."""
    for unit, factor in _UNITS.items():
        if text.endswith(unit):
            return int(float(text.removesuffix(unit)) * factor)
    return int(text)


def _container(found: Document, *, sidecar: bool = False) -> Container:
    probes = {kind: _probe(found[f"{kind}Probe"], _ports(found)) for kind in ("startup", "readiness", "liveness") if f"{kind}Probe" in found}
    stop = found.get("lifecycle", {}).get("preStop", {})
    if stop.keys() - {"sleep"}:
        raise ManifestError(f"container {found['name']}: only `sleep` is done of preStop")
    return Container(found["name"], sidecar, _ports(found), probes, float(stop.get("sleep", {}).get("seconds", 0)))


def _probe(found: Document, ports: Mapping[str, int]) -> Probe:
    asked = found["httpGet"]
    return Probe(
        port=ports[asked["port"]] if isinstance(asked["port"], str) else int(asked["port"]),
        path=asked["path"],
        period_seconds=float(found.get("periodSeconds", 10)),
        timeout_seconds=float(found.get("timeoutSeconds", 1)),
        failures=int(found.get("failureThreshold", 3)),
    )


def _used(document: Document, containers: Iterable[Document]) -> bool:
    """Tell whether a container takes variables from it."""
    name, kind = document["metadata"]["name"], document["kind"]
    reference = kind[0].lower() + kind[1:]
    for container in containers:
        sources = [each.get(f"{reference}Ref", {}) for each in container.get("envFrom", [])]
        sources += [each.get("valueFrom", {}).get(f"{reference}KeyRef", {}) for each in container.get("env", [])]
        if any(source.get("name") == name for source in sources):
            return True
    return False
