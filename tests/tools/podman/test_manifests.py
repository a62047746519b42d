"""What podman is given of a Deployment, and what is refused."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest

from tools.podman.manifests import ManifestError, plan, size
from tools.podman.plan import Probe

CONTAINER: dict[str, Any] = {
    "name": "api",
    "image": "service:1",
    "ports": [{"name": "http", "containerPort": 8000}],
    "envFrom": [{"configMapRef": {"name": "settings"}}],
    "securityContext": {"readOnlyRootFilesystem": True},
    "startupProbe": {"httpGet": {"path": "/live", "port": "http"}, "periodSeconds": 2, "failureThreshold": 60},
    "lifecycle": {"preStop": {"sleep": {"seconds": 15}}},
    "resources": {"limits": {"memory": "1Gi", "cpu": "2", "ephemeral-storage": "1Gi"}},
}
SIDECAR: dict[str, Any] = {
    "name": "exporter",
    "image": "service:1",
    "restartPolicy": "Always",
    "ports": [{"name": "metrics", "containerPort": 9464}],
}
MIGRATION: dict[str, Any] = {
    "name": "migrate",
    "image": "service:1",
    "env": [{"name": "URL", "valueFrom": {"configMapKeyRef": {"name": "database", "key": "url"}}}],
}
VOLUMES: list[dict[str, Any]] = [
    {"name": "metrics", "emptyDir": {"medium": "Memory", "sizeLimit": "64Mi"}},
    {"name": "tmp", "emptyDir": {"sizeLimit": "1Gi"}},
    {"name": "data", "persistentVolumeClaim": {"claimName": "data"}},
]
SPEC: dict[str, Any] = {
    "securityContext": {"runAsUser": 10001, "runAsNonRoot": True, "fsGroup": 20001, "seccompProfile": {"type": "RuntimeDefault"}},
    "initContainers": [SIDECAR, MIGRATION],
    "containers": [CONTAINER],
    "volumes": VOLUMES,
    "terminationGracePeriodSeconds": 90,
}


def planned(*changes: tuple[list[str | int], Any]) -> Any:
    """Plan the pod, with other values at some paths of its spec."""
    spec = copy.deepcopy(SPEC)
    for path, value in changes:
        found: Any = spec
        for step in path[:-1]:
            found = found[step]
        found[path[-1]] = value
    documents = [
        {"kind": "ConfigMap", "metadata": {"name": "settings"}, "data": {}},
        {"kind": "ConfigMap", "metadata": {"name": "dashboards"}, "data": {}},
        {"kind": "ConfigMap", "metadata": {"name": "database"}, "data": {}},
        {"kind": "Service", "metadata": {"name": "service"}},
        {"kind": "Deployment", "spec": {"template": {"metadata": {"labels": {"app": "service"}}, "spec": spec}}},
    ]
    return plan(documents, name="pod", image="id", folder=Path("/folder"), ports={"http": 1, "metrics": 2})


def test_a_pod_for_podman() -> None:
    made = planned()
    settings, pod = made.documents
    assert settings["metadata"]["name"] == "settings", "what nobody asks for is left out"
    assert pod["metadata"] == {"name": "pod", "labels": {"app": "service"}}
    exporter, api = pod["spec"]["containers"]
    assert (exporter["name"], api["name"]) == ("exporter", "api")
    assert "restartPolicy" not in exporter
    assert pod["spec"]["restartPolicy"] == "Always"
    assert api["securityContext"] == {"runAsUser": 10001, "runAsNonRoot": True, "readOnlyRootFilesystem": True}
    assert (api["image"], api["imagePullPolicy"]) == ("id", "Never")
    assert api["resources"] == {"limits": {"memory": "1Gi", "cpu": "2"}}
    assert api["ports"] == [{"name": "http", "containerPort": 8000, "hostPort": 1, "hostIP": "127.0.0.1"}]
    assert made.published == {8000: 1, 9464: 2}
    assert [each["hostPath"]["path"] for each in pod["spec"]["volumes"]] == ["/folder/metrics", "/folder/tmp", "/folder/data"]
    assert [(each.name, each.memory_bytes, each.group) for each in made.volumes] == [
        ("metrics", 64 << 20, 20001),
        ("tmp", None, 20001),
        ("data", None, 20001),
    ]
    assert made.grace_seconds == 90
    assert [(each.name, each.sidecar, each.pause_seconds) for each in made.containers] == [("exporter", True, 0), ("api", False, 15)]
    assert made.containers[1].probes == {"startup": Probe(8000, "/live", 2, 1, 60)}


def test_an_init_container_is_a_pod_of_its_own_that_runs_once() -> None:
    (before,) = planned().before
    settings, pod = before.documents
    assert settings["metadata"]["name"] == "database"
    assert (pod["metadata"]["name"], pod["spec"]["restartPolicy"]) == ("pod-migrate", "Never")
    assert [each["name"] for each in pod["spec"]["containers"]] == ["migrate"]


@pytest.mark.parametrize(
    ("path", "value", "said"),
    [
        (["hostNetwork"], True, "the pod: hostNetwork is not done here"),
        (["containers", 0, "volumeDevices"], [], "container api: volumeDevices is not done here"),
        (["containers", 0, "securityContext", "privileged"], True, "container api, securityContext: privileged is not done here"),
        (["securityContext", "seccompProfile"], {"type": "Unconfined"}, "only the seccompProfile RuntimeDefault"),
        (["securityContext", "runAsUser"], 0, "runAsNonRoot, and runAsUser is 0"),
        (["containers", 0, "lifecycle", "preStop"], {"exec": {}}, "container api: only `sleep` is done of preStop"),
        (["containers", 0, "startupProbe"], {"exec": {}}, "container api: the startup probe is not an httpGet"),
        (["containers", 0, "envFrom", 0], {"secretRef": {"name": "key"}}, "container api: secretRef is not done here"),
        (["volumes", 0], {"name": "gpu", "hostPath": {}}, "volume gpu: hostPath is not done here"),
        (["volumes", 0], {"name": "m", "emptyDir": {"medium": "Memory"}}, "volume m: a file system in memory without a sizeLimit"),
    ],
)
def test_what_is_not_done_here_is_refused(path: list[str | int], value: Any, said: str) -> None:
    with pytest.raises(ManifestError, match=said):
        planned((path, value))


def test_there_has_to_be_one_deployment() -> None:
    with pytest.raises(ManifestError, match="there are 0 Deployments"):
        plan([], name="pod", image="id", folder=Path("/folder"), ports={})


@pytest.mark.parametrize(("text", "found"), [("64Mi", 64 << 20), ("1Gi", 1 << 30), ("1k", 1000), ("512", 512), ("1.5Ki", 1536)])
def test_sizes(text: str, found: int) -> None:
    assert size(text) == found
