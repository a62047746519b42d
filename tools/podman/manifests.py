"""Turns the Deployment of a rendered overlay into a Pod that podman 4.3 can run.

podman ignores unknown fields, so every field is listed here: kept, done by :mod:`tools.podman.pod`, or meaningless on one machine. Any
other field is an error, since the test would not cover it.
"""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from typing import TYPE_CHECKING

import yaml

from .engine import EngineError, find
from .plan import Container, Plan, Probe, Volume

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from pathlib import Path

    from .plan import Document

_CLUSTERS = {
    "serviceAccountName",
    "automountServiceAccountToken",
    "enableServiceLinks",
    "topologySpreadConstraints",
    "affinity",
    "tolerations",
}
_OURS = {"terminationGracePeriodSeconds", "volumes", "containers", "initContainers", "securityContext", "restartPolicy"}
_KEPT = {"name", "command", "args", "env", "envFrom", "resources", "volumeMounts", "workingDir"}
_DONE = {
    "image",
    "imagePullPolicy",
    "ports",
    "restartPolicy",
    "securityContext",
    "startupProbe",
    "readinessProbe",
    "livenessProbe",
    "lifecycle",
}
_SECURITY = {
    "runAsUser",
    "runAsGroup",
    "runAsNonRoot",
    "allowPrivilegeEscalation",
    "readOnlyRootFilesystem",
    "capabilities",
    "seccompProfile",
}
_UNITS = {"Ki": 1 << 10, "Mi": 1 << 20, "Gi": 1 << 30, "k": 10**3, "M": 10**6, "G": 10**9}


class ManifestError(Exception):
    """The Deployment uses an unsupported field; the text names the field and its place."""


def render(overlay: Path) -> list[Document]:
    """Return the documents of a kustomization."""
    done = subprocess.run([find("kubectl"), "kustomize", str(overlay)], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise EngineError(f"kubectl kustomize {overlay} failed: {done.stderr.strip()}")
    return [document for document in yaml.safe_load_all(done.stdout) if document]


def plan(documents: Iterable[Document], *, name: str, image: str, folder: Path, ports: Mapping[str, int]) -> Plan:
    """Plan the pod of the only Deployment in `documents`, with volumes in `folder` and its named `ports` on 127.0.0.1.

    Raises ManifestError if the pod would differ from the Deployment.
    """
    found = list(documents)
    deployments = [each for each in found if each["kind"] == "Deployment"]
    if len(deployments) != 1:
        raise ManifestError(f"there are {len(deployments)} Deployments where one is expected")
    settings = [each for each in found if each["kind"] == "ConfigMap"]
    return _Translation(deployments[0]["spec"]["template"], settings, name, image, folder, ports).plan()


@dataclass(frozen=True)
class _Translation:
    template: Document
    settings: list[Document]
    name: str
    image: str
    folder: Path
    ports: Mapping[str, int]

    def plan(self) -> Plan:
        spec = self.template["spec"]
        _require_known(spec, _CLUSTERS | _OURS, "the pod")
        first = spec.get("initContainers", [])
        sidecars = [each for each in first if each.get("restartPolicy") == "Always"]
        group = spec.get("securityContext", {}).get("fsGroup")
        # podman 4.3 has no sidecars: as an ordinary container, this one starts after the init containers instead of before. And it would
        # restart those if the pod has `Always`: each is a separate pod.
        together = [*sidecars, *spec["containers"]]
        return Plan(
            name=self.name,
            documents=self._pod(self.name, [self._container(each, self.ports) for each in together], "Always"),
            containers=[_container(each, sidecar=each in sidecars) for each in together],
            before=[self._alone(each) for each in first if each not in sidecars],
            volumes=[_volume(each, group) for each in spec.get("volumes", [])],
            grace_seconds=float(spec.get("terminationGracePeriodSeconds", 30)),
            published={number: self.ports[port] for each in together for port, number in _ports(each).items() if port in self.ports},
        )

    def _alone(self, container: Document) -> Plan:
        name = f"{self.name}-{container['name']}"
        return Plan(name, self._pod(name, [self._container(container, {})], "Never"), [_container(container)])

    def _pod(self, name: str, containers: list[Document], restart: str) -> list[Document]:
        volumes = [each["name"] for each in self.template["spec"].get("volumes", [])]
        spec = {
            "restartPolicy": restart,
            "containers": containers,
            "volumes": [{"name": each, "hostPath": {"path": str(self.folder / each), "type": "Directory"}} for each in volumes],
        }
        pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {**self.template["metadata"], "name": name}, "spec": spec}
        return [*(each for each in self.settings if _used(each, containers)), pod]

    def _container(self, found: Document, ports: Mapping[str, int]) -> Document:
        where = f"container {found['name']}"
        _require_known(found, _KEPT | _DONE, where)
        pods = {key: value for key, value in self.template["spec"].get("securityContext", {}).items() if not key.startswith("fsGroup")}
        if secrets := [key for source in _sources([found]) for key in source if key.startswith("secret")]:
            raise ManifestError(f"{where}: {secrets[0]} is not done here: podman would keep the Secret when the pod is gone")
        return {
            **{key: value for key, value in found.items() if key in _KEPT},
            "image": self.image,
            "imagePullPolicy": "Never",
            "securityContext": _security({**pods, **found.get("securityContext", {})}, where),
            "resources": _resources(found.get("resources", {})),
            "ports": [
                {"name": port, "containerPort": number, "hostPort": ports[port], "hostIP": "127.0.0.1"}
                for port, number in _ports(found).items()
                if port in ports
            ],
        }


def _require_known(found: Document, known: set[str], where: str) -> None:
    if unknown := found.keys() - known:
        raise ManifestError(
            f"{where}: {', '.join(sorted(unknown))} is not done here; add it to tools/podman/manifests.py, or say there why not"
        )


def _ports(container: Document) -> dict[str, int]:
    return {each["name"]: int(each["containerPort"]) for each in container.get("ports", [])}


def _security(found: Document, where: str) -> Document:
    """Check the security context of pod and container together. podman 4.3 reads some fields only in the container."""
    _require_known(found, _SECURITY, f"{where}, securityContext")
    if found.get("seccompProfile", {"type": "RuntimeDefault"}) != {"type": "RuntimeDefault"}:
        raise ManifestError(f"{where}: only the seccompProfile RuntimeDefault is done here")
    if found.get("runAsNonRoot") and found.get("runAsUser", 1) == 0:
        raise ManifestError(f"{where}: runAsNonRoot, and runAsUser is 0")
    return {key: value for key, value in found.items() if key != "seccompProfile"}


def _resources(found: Document) -> Document:
    """Return processors and memory. A kubelet enforces storage by eviction."""
    return {kind: {name: amount for name, amount in each.items() if name in {"cpu", "memory"}} for kind, each in found.items()}


def _volume(found: Document, group: int | None) -> Volume:
    if "persistentVolumeClaim" in found:
        return Volume(found["name"], None, group)
    empty = found.get("emptyDir")
    if empty is None:
        raise ManifestError(f"volume {found['name']}: {', '.join(found.keys() - {'name'})} is not done here")
    if empty.get("medium") != "Memory":
        return Volume(found["name"], None, group)
    if "sizeLimit" not in empty:
        raise ManifestError(f"volume {found['name']}: a file system in memory without a sizeLimit may take all of the pod's")
    return Volume(found["name"], size(empty["sizeLimit"]), group)


def size(text: str) -> int:
    """Return the bytes of a Kubernetes quantity, such as 64Mi."""
    for unit, factor in _UNITS.items():
        if text.endswith(unit):
            return int(float(text.removesuffix(unit)) * factor)
    return int(text)


def _container(found: Document, *, sidecar: bool = False) -> Container:
    kinds = [kind for kind in ("startup", "readiness", "liveness") if f"{kind}Probe" in found]
    where = f"container {found['name']}: the"
    probes = {kind: _probe(found[f"{kind}Probe"], _ports(found), f"{where} {kind} probe") for kind in kinds}
    stop = found.get("lifecycle", {}).get("preStop", {})
    if stop.keys() - {"sleep"}:
        raise ManifestError(f"container {found['name']}: only `sleep` is done of preStop")
    return Container(found["name"], sidecar, _ports(found), probes, float(stop.get("sleep", {}).get("seconds", 0)))


def _probe(found: Document, ports: Mapping[str, int], where: str) -> Probe:
    if "httpGet" not in found:
        raise ManifestError(f"{where} is not an httpGet")
    asked = found["httpGet"]
    return Probe(
        port=ports[asked["port"]] if isinstance(asked["port"], str) else int(asked["port"]),
        path=asked["path"],
        period_seconds=float(found.get("periodSeconds", 10)),
        timeout_seconds=float(found.get("timeoutSeconds", 1)),
        failures=int(found.get("failureThreshold", 3)),
    )


def _used(document: Document, containers: Iterable[Document]) -> bool:
    """Return whether a container takes variables from it."""
    name = document["metadata"]["name"]
    return any(name == each["name"] for source in _sources(containers) for kind, each in source.items() if kind.startswith("configMap"))


def _sources(containers: Iterable[Document]) -> Iterator[Document]:
    for container in containers:
        yield from container.get("envFrom", [])
        yield from (each["valueFrom"] for each in container.get("env", []) if "valueFrom" in each)
