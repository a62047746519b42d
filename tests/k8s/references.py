"""Rules about what one document says of another: names, labels, ports, keys, and who may connect to whom."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import yaml

from monitoring.prometheus import Configuration
from monitoring.prometheus.rules import rules
from tests.k8s.manifests import Manifests, containers, labels, matches, pod, title

if TYPE_CHECKING:
    from collections.abc import Iterator

_CLAIM = "persistentVolumeClaim"
#: Secrets that an operator has to make, with their keys; docs/kubernetes.md says how.
BROUGHT = {
    "neurectomy-admin": {"key"},
    "neurectomy-alertmanager": {"alertmanager.yml"},
    "neurectomy-database": {"url"},
    "neurectomy-grafana": {"admin-password"},
    "neurectomy-metrics": {"token"},
    "neurectomy-s3": {"access-key-id", "secret-access-key"},
    "neurectomy-vault": {"vault.key"},
}


def secrets(manifests: Manifests) -> dict[str, set[str]]:
    """Give every Secret that is asked for, with the keys that are."""
    found: dict[str, set[str]] = {}
    for workload in manifests.workloads:
        for _, container in containers(workload):
            for each in container.get("env", []):
                chosen = each.get("valueFrom", {}).get("secretKeyRef")
                if chosen:
                    found.setdefault(chosen["name"], set()).add(chosen["key"])
        for volume in pod(workload).get("volumes", []):
            if "secret" in volume:
                # All of its keys: those that the container is told of are in its paths.
                found.setdefault(volume["secret"]["secretName"], set())
    for monitor in manifests.of("PodMonitor"):
        for endpoint in monitor["spec"]["podMetricsEndpoints"]:
            chosen = endpoint.get("authorization", {}).get("credentials")
            if chosen:
                found.setdefault(chosen["name"], set()).add(chosen["key"])
    return found


def _secrets(manifests: Manifests) -> Iterator[str]:
    for name, keys in secrets(manifests).items():
        if name not in BROUGHT or not keys <= BROUGHT[name]:
            yield f"Secret/{name} ({', '.join(sorted(keys))}) is asked for, and nobody is told to make it"


def _parts(manifests: Manifests) -> Iterator[str]:
    """What a pod names is there, and what is there is used."""
    for workload in manifests.workloads:
        volumes = pod(workload).get("volumes", [])
        asked = [("ServiceAccount", pod(workload).get("serviceAccountName") or "")]
        asked += [("ConfigMap", each["configMapRef"]["name"]) for _, one in containers(workload) for each in one.get("envFrom", [])]
        asked += [("ConfigMap", each["name"]) for volume in volumes for each in _maps(volume)]
        asked += [("PersistentVolumeClaim", volume[_CLAIM]["claimName"]) for volume in volumes if _CLAIM in volume]
        for kind, name in asked:
            if manifests.find(kind, name) is None:
                yield f"{title(workload)}: there is no {kind}/{name}"
        mounted = {mount["name"] for _, one in containers(workload) for mount in one.get("volumeMounts", [])}
        if mounted != {volume["name"] for volume in volumes}:
            yield f"{title(workload)}: volumes that are not both there and mounted: {mounted ^ {volume['name'] for volume in volumes}}"


def _keys(manifests: Manifests) -> Iterator[str]:
    for workload in manifests.workloads:
        for each in (found for volume in pod(workload).get("volumes", []) for found in _maps(volume)):
            data = (manifests.find("ConfigMap", each["name"]) or {}).get("data", {})
            for key in {item["key"] for item in each.get("items", [])} - set(data):
                yield f"{title(workload)}: ConfigMap/{each['name']} has no {key}"


def _maps(volume: dict[str, Any]) -> list[dict[str, Any]]:
    projected = [source["configMap"] for source in volume.get("projected", {}).get("sources", []) if "configMap" in source]
    return projected + ([volume["configMap"]] if "configMap" in volume else [])


def _own(manifests: Manifests) -> Iterator[str]:
    """A workload's selectors choose its own pods."""
    for workload in manifests.workloads:
        if not matches(workload["spec"]["selector"], labels(workload)):
            yield f"{title(workload)}: its selector does not choose its own pods"
        for spread in pod(workload).get("topologySpreadConstraints", []):
            if not matches(spread["labelSelector"], labels(workload)):
                yield f"{title(workload)}: it is spread among other pods"


def _choose(manifests: Manifests) -> Iterator[str]:
    """Every selector chooses exactly the pods of one workload."""
    chosen = [(title(each), {"matchLabels": each["spec"]["selector"]}) for each in manifests.of("Service")]
    for kind in ("Deployment", "PodDisruptionBudget", "PodMonitor"):
        chosen += [(title(each), each["spec"]["selector"]) for each in manifests.of(kind)]
    chosen += [(title(each), each["spec"]["podSelector"]) for each in manifests.of("NetworkPolicy")]
    for where, selector in chosen:
        found = [title(each) for each in manifests.workloads if matches(selector, labels(each))]
        if len(found) != 1:
            yield f"{where}: its selector chooses {found}"


def _bind(manifests: Manifests) -> Iterator[str]:
    for binding in (*manifests.of("RoleBinding"), *manifests.of("ClusterRoleBinding")):
        if manifests.find(binding["roleRef"]["kind"], binding["roleRef"]["name"]) is None:
            yield f"{title(binding)}: there is no {binding['roleRef']['kind']}/{binding['roleRef']['name']}"
        for subject in binding["subjects"]:
            account = manifests.find("ServiceAccount", subject["name"])
            if account is None or account["metadata"].get("namespace") != subject.get("namespace"):
                yield f"{title(binding)}: there is no ServiceAccount/{subject['name']} in {subject.get('namespace')}"


def _ports(manifests: Manifests) -> Iterator[str]:
    """A Service's port, a monitor's and a policy's is one of the pods that they choose."""
    for service in manifests.of("Service"):
        for port in service["spec"]["ports"]:
            # Not a sidecar's, whose name not every cluster finds.
            names = {each["name"] for one in _of(manifests, service["spec"]["selector"])["containers"] for each in one["ports"]}
            if port["targetPort"] not in names:
                yield f"{title(service)}: {port['targetPort']} is no port of its pods"
    for monitor in manifests.of("PodMonitor"):
        names = {each["name"] for each in _all_ports(manifests, monitor["spec"]["selector"]["matchLabels"])}
        for endpoint in monitor["spec"]["podMetricsEndpoints"]:
            if endpoint["port"] not in names:
                yield f"{title(monitor)}: {endpoint['port']} is no port of its pods"
    for policy in manifests.of("NetworkPolicy"):
        numbers = {each["containerPort"] for each in _all_ports(manifests, policy["spec"]["podSelector"]["matchLabels"])}
        for rule in policy["spec"]["ingress"]:
            if not {each["port"] for each in rule.get("ports", [{"port": None}])} <= numbers:
                yield f"{title(policy)}: it opens a port that its pods do not have"


def _of(manifests: Manifests, chosen: dict[str, str]) -> dict[str, Any]:
    return next((pod(each) for each in manifests.workloads if chosen.items() <= labels(each).items()), {"containers": []})


def _all_ports(manifests: Manifests, chosen: dict[str, str]) -> list[dict[str, Any]]:
    spec = _of(manifests, chosen)
    return [port for one in (*spec["containers"], *spec.get("initContainers", [])) for port in one.get("ports", [])]


def _connections(manifests: Manifests) -> Iterator[str]:
    """Every pod is behind a policy; nobody but Prometheus reaches the metrics, and nothing is open to everybody."""
    policies = manifests.of("NetworkPolicy")
    for workload in manifests.workloads:
        if not any(matches(policy["spec"]["podSelector"], labels(workload)) for policy in policies):
            yield f"{title(workload)}: no NetworkPolicy is about it"
    metrics = {port["containerPort"] for port in _all_ports(manifests, labels(manifests.service)) if port["name"] == "metrics"}
    for policy in policies:
        if policy["spec"]["policyTypes"] != ["Ingress"]:
            yield f"{title(policy)}: it is not about Ingress alone"
        for rule in policy["spec"]["ingress"]:
            peers = rule.get("from", [])
            if not peers or not rule.get("ports") or not all(any(peer.values()) for peer in peers):
                yield f"{title(policy)}: it lets everybody in, or to every port"
            if {each["port"] for each in rule.get("ports", [])} & metrics:
                names = [peer.get("podSelector", {}).get("matchLabels", {}).get("app.kubernetes.io/name") for peer in peers]
                if names != ["prometheus"] or len(rule["ports"]) != 1:
                    yield f"{title(policy)}: others than Prometheus reach the metrics"


def _scaling(manifests: Manifests) -> Iterator[str]:
    """An autoscaler's target, container and metric exist."""
    for scaler in manifests.of("HorizontalPodAutoscaler"):
        target = manifests.find("Deployment", scaler["spec"]["scaleTargetRef"]["name"])
        if target is None:
            yield f"{title(scaler)}: its target is not there"
            continue
        for metric in scaler["spec"]["metrics"]:
            name = metric.get("containerResource", {}).get("container")
            if name and name not in {each["name"] for each in pod(target)["containers"]}:
                yield f"{title(scaler)}: there is no container {name}"
            if metric["type"] == "External":
                yield from (f"{title(scaler)}: {fault}" for fault in _recorded(metric["external"]["metric"]))


def _recorded(asked: dict[str, Any]) -> Iterator[str]:
    records = {each["record"] for group in rules(Configuration())["groups"] for each in group["rules"]}
    if asked["name"] not in records:
        yield f"there is no recording rule {asked['name']}"
    kept = asked["name"].partition(":")[0].split("_")
    for label, value in asked["selector"]["matchLabels"].items():
        if label not in kept:
            yield f"{asked['name']} has no label {label}"
        if not re.fullmatch(r"[A-Za-z0-9]([A-Za-z0-9_.-]*[A-Za-z0-9])?", value):
            yield f"{value} cannot be chosen: no label of Kubernetes has such a value"


def _replicas(manifests: Manifests) -> Iterator[str]:
    """One says how many replicas there are, and a budget is for those that are several."""
    scaled = {scaler["spec"]["scaleTargetRef"]["name"] for scaler in manifests.of("HorizontalPodAutoscaler")}
    for workload in manifests.workloads:
        is_scaled = workload["metadata"]["name"] in scaled
        if ("replicas" in workload["spec"]) == is_scaled:
            yield f"{title(workload)}: its replicas are said by {'two' if is_scaled else 'nobody'}"
    for budget in manifests.of("PodDisruptionBudget"):
        many = [each for each in manifests.workloads if each["metadata"]["name"] in scaled]
        if not any(matches(budget["spec"]["selector"], labels(each)) for each in many):
            yield f"{title(budget)}: a budget for one pod keeps its node from being drained"


def _volumes(manifests: Manifests) -> Iterator[str]:
    """Two pods never share a volume that is one pod's."""
    for workload in manifests.workloads:
        claimed = any(_CLAIM in volume for volume in pod(workload).get("volumes", []))
        if claimed != (workload["spec"]["strategy"]["type"] == "Recreate"):
            yield f"{title(workload)}: its strategy does not fit its volumes"


def _scraped_once(manifests: Manifests) -> Iterator[str]:
    """By annotations, or by who knows the pods, and never by both."""
    annotated = [
        title(each)
        for each in manifests.workloads
        if (each["spec"]["template"]["metadata"].get("annotations") or {}).get("prometheus.io/scrape")
    ]
    known = bool(manifests.of("PodMonitor")) + (manifests.find("Deployment", "prometheus") is not None)
    if annotated != ([] if known else ["Deployment/neurectomy-api"]) or known > 1:
        yield f"{annotated} are scraped by annotations, and {known} others know the pods"


def _stack(manifests: Manifests) -> Iterator[str]:
    """Where Prometheus and Grafana look for each other there is a Service."""
    addresses: list[tuple[str, str]] = []
    for each in manifests.of("ConfigMap"):
        if each["metadata"]["name"].startswith("neurectomy-prometheus"):
            jobs = yaml.safe_load(each["data"]["prometheus.yml"])
            static = [found for job in jobs["scrape_configs"] for found in job.get("static_configs", [])]
            static += jobs["alerting"]["alertmanagers"][0]["static_configs"]
            addresses += [(title(each), target) for one in static for target in one["targets"] if not target.startswith("127.0.0.1:")]
        if each["metadata"]["name"].startswith("neurectomy-grafana"):
            sources = yaml.safe_load(each["data"]["datasources.yaml"])["datasources"]
            addresses += [(title(each), urlsplit(source["url"]).netloc) for source in sources]
    for where, address in addresses:
        host, _, port = address.partition(":")
        service = manifests.find("Service", host)
        if service is None or int(port) not in {found["port"] for found in service["spec"]["ports"]}:
            yield f"{where}: there is no Service at {address}"


def _namespaces(manifests: Manifests) -> Iterator[str]:
    """All is in the one namespace that is there, and that takes restricted pods only."""
    (namespace,) = manifests.of("Namespace") or [{"metadata": {"name": None, "labels": {}}}]
    if namespace["metadata"]["labels"].get("pod-security.kubernetes.io/enforce") != "restricted":
        yield "the namespace takes pods that are not restricted"
    for each in manifests.documents:
        clusters = each["kind"] in {"Namespace", "ClusterRole", "ClusterRoleBinding"}
        if not clusters and each["metadata"].get("namespace") != namespace["metadata"]["name"]:
            yield f"{title(each)}: it is in the namespace {each['metadata'].get('namespace')}"


def _once(manifests: Manifests) -> Iterator[str]:
    seen: set[str] = set()
    for each in manifests.documents:
        if title(each) in seen:
            yield f"{title(each)} is there twice"
        seen.add(title(each))


RULES = (
    _secrets,
    _parts,
    _keys,
    _own,
    _choose,
    _bind,
    _ports,
    _connections,
    _scaling,
    _replicas,
    _volumes,
    _scraped_once,
    _stack,
    _namespaces,
    _once,
)
