"""The pod of `local` with `stack`, played on this machine: its settings start the service, and a real Prometheus scrapes its exporter.

Debian's Prometheus has no discovery of pods, so that the targets come from a file: with the labels that discovery gives them.
"""

from __future__ import annotations

import contextlib
import json
import re
import subprocess
import sys
import uuid
from dataclasses import replace
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

import pytest
import yaml

from monitoring.kubernetes.prometheus_operator import pod_monitor
from monitoring.observe.stack import Child, free_address, running
from monitoring.prometheus import Configuration
from tests.conftest import ROOT, built_environment
from tests.k8s.manifests import Manifests, containers, environment, labels, named
from tests.k8s.rendering import documents
from tests.processes import MARKER, end_marked, wait_until
from tests.prometheus.executables import program
from tests.prometheus.live import Kubelet, serve
from tests.server_process import ask, serving

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.gunicorn_service import Gunicorn

Target = dict[str, Any]

NAME = "neurectomy-api-5d9c7b6f4-x2x8k"
TOKEN = "a-token"


@pytest.fixture(scope="module")
def manifests() -> Manifests:
    return Manifests(documents("local", "stack"))


@pytest.fixture
def played(manifests: Manifests, gunicorn: Gunicorn, tmp_path: Path) -> Iterator[Gunicorn]:
    """Run what the pod's containers run, in their order, with their variables: only folders and addresses are this machine's."""
    here = {
        "DATA_DIR": gunicorn.environment["DATA_DIR"],
        "BIND": f"127.0.0.1:{gunicorn.port}",
        "PROMETHEUS_MULTIPROC_DIR": gunicorn.environment["PROMETHEUS_MULTIPROC_DIR"],
        "VAULT_KEY_FILE": str(tmp_path / "vault.key"),
        "METRICS_TOKEN": TOKEN,
    }

    def variables(container: dict[str, Any]) -> dict[str, str]:
        return {name: here.get(name, value or "") for name, value in environment(manifests, container).items()}

    exporter = named(manifests.service, "exporter")
    with contextlib.ExitStack() as stack:
        for sort, container in containers(manifests.service):
            own = {**built_environment(), **variables(container)}
            del own["REQUIRE_API_KEY"]
            if container is exporter:
                own["METRICS_BIND"] = f"127.0.0.1:{gunicorn.metrics_port}"
                # Before there is a service, as in the pod.
                stack.enter_context(serving(container["command"][1:], gunicorn.metrics_port, "/healthz", own, tmp_path / "exporter.log"))
                assert ask(gunicorn.metrics_port, "GET", "/healthz").status == 200
                assert ask(gunicorn.metrics_port, "GET", "/metrics").status == 401
                empty = ask(gunicorn.metrics_port, "GET", "/metrics", headers={"Authorization": f"Bearer {TOKEN}"})
                assert empty.status == 200
                assert b"multiproc_workers 0.0\n" in empty.body, "without a service it says that there is none"
            elif sort == "init":
                done = subprocess.run(
                    [sys.executable, *container["command"][1:]], cwd=ROOT, env=own, capture_output=True, text=True, check=False
                )
                assert done.returncode == 0, done.stderr
        gunicorn.environment.clear()
        gunicorn.environment |= built_environment() | variables(named(manifests.service, "api")) | {"WEB_CONCURRENCY": "1"}
        gunicorn.begin()

        def ready() -> bool:
            assert gunicorn.processes[-1].poll() is None, gunicorn.log.read_text()
            with contextlib.suppress(OSError):
                return ask(gunicorn.port, "GET", "/health/ready").status == 200
            return False

        wait_until(ready, "the service is ready")
        yield gunicorn


def discovered(manifests: Manifests, port: int, name: str, phase: str) -> list[Target]:
    """Give the targets that Prometheus' discovery makes of a pod: one for each port of each container, init containers too."""
    about = {
        "__meta_kubernetes_namespace": "neurectomy",
        "__meta_kubernetes_pod_name": name,
        "__meta_kubernetes_pod_phase": phase,
        **{f"__meta_kubernetes_pod_label_{re.sub('[^a-zA-Z0-9_]', '_', key)}": value for key, value in labels(manifests.service).items()},
    }
    found = []
    for sort, container in containers(manifests.service):
        for each in container.get("ports", [{}]):
            number = port if each.get("name") == "metrics" else each.get("containerPort", 1)
            own = {
                "__meta_kubernetes_pod_container_name": container["name"],
                "__meta_kubernetes_pod_container_init": str(sort != "container").lower(),
                "__meta_kubernetes_pod_container_port_name": each.get("name", ""),
                "__meta_kubernetes_pod_container_port_number": str(number),
            }
            found.append({"targets": [f"127.0.0.1:{number}"], "labels": about | own})
    return found


def operated(targets: str, token: str) -> dict[str, Any]:
    """Give the scrape job that the Prometheus operator makes of our PodMonitor: first its own labels, then what we change."""
    monitor = pod_monitor(replace(Configuration(), cluster="operated"))
    (endpoint,) = monitor["spec"]["podMetricsEndpoints"]
    words = {"sourceLabels": "source_labels", "targetLabel": "target_label"}
    label = "__meta_kubernetes_pod_label_" + re.sub("[^a-zA-Z0-9_]", "_", monitor["spec"]["jobLabel"])
    return {
        "job_name": "podMonitor/neurectomy/neurectomy-api/0",
        "authorization": {"credentials_file": token},
        "file_sd_configs": [{"files": [targets]}],
        "relabel_configs": [
            {"source_labels": ["__meta_kubernetes_pod_phase"], "regex": "(Failed|Succeeded)", "action": "drop"},
            {"source_labels": ["__meta_kubernetes_pod_container_port_name"], "regex": endpoint["port"], "action": "keep"},
            {"source_labels": ["__meta_kubernetes_namespace"], "target_label": "namespace"},
            {"source_labels": ["__meta_kubernetes_pod_container_name"], "target_label": "container"},
            {"source_labels": ["__meta_kubernetes_pod_name"], "target_label": "pod"},
            {"target_label": "job", "replacement": "neurectomy/neurectomy-api"},
            {"source_labels": [label], "target_label": "job", "regex": "(.+)", "replacement": "${1}"},
            {"target_label": "endpoint", "replacement": endpoint["port"]},
            *({words.get(key, key): value for key, value in each.items()} for each in endpoint["relabelings"]),
        ],
    }


def written(manifests: Manifests, folder: Path) -> dict[str, Any]:
    """Write the stack's files as they are, but for the discovery that Debian's Prometheus does not know; give the configuration."""
    for part in ("neurectomy-prometheus", "neurectomy-rules"):
        (found,) = (each for each in manifests.of("ConfigMap") if each["metadata"]["name"].startswith(part))
        for name, text in found["data"].items():
            (folder / name).write_text(text)
    made: dict[str, Any] = yaml.safe_load((folder / "prometheus.yml").read_text())
    for job in made["scrape_configs"]:
        if "kubernetes_sd_configs" in job:
            (found,) = job.pop("kubernetes_sd_configs")
            job["file_sd_configs"] = [{"files": [str(folder / f"{found['role']}.json")]}]
    (folder / "prometheus.yml").write_text(yaml.safe_dump(made))
    return made


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "prometheus"
    made.mkdir()
    return made


def test_promtool_takes_the_configuration(manifests: Manifests, folder: Path) -> None:
    written(manifests, folder)
    # The files of tokens and certificates are a pod's: only the syntax can be seen here.
    command = [program("promtool"), "check", "config", "--syntax-only", str(folder / "prometheus.yml")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr + done.stdout


def test_the_discovery_is_of_our_pods_and_of_nodes(manifests: Manifests) -> None:
    (found,) = (each for each in manifests.of("ConfigMap") if each["metadata"]["name"].startswith("neurectomy-prometheus"))
    jobs = {job["job_name"]: job for job in yaml.safe_load(found["data"]["prometheus.yml"])["scrape_configs"]}
    (found,) = jobs["neurectomy"]["kubernetes_sd_configs"]
    assert (found["role"], found["namespaces"], [each["role"] for each in found["selectors"]]) == ("pod", {"own_namespace": True}, ["pod"])
    assert dict(part.split("=") for part in found["selectors"][0]["label"].split(",")) == labels(manifests.service)
    assert jobs["cadvisor"]["kubernetes_sd_configs"] == [{"role": "node"}]
    # To find both, it may list and watch both.
    granted = {
        (each["kind"], resource)
        for kind in ("Role", "ClusterRole")
        for each in manifests.of(kind)
        for rule in each["rules"]
        if {"list", "watch"} <= set(rule["verbs"])
        for resource in rule["resources"]
    }
    assert granted == {("Role", "pods"), ("ClusterRole", "nodes")}


def test_prometheus_scrapes_the_sidecar_and_keeps_every_label(manifests: Manifests, played: Gunicorn, folder: Path) -> None:
    played.compress()
    assert ask(played.port, "GET", "/metrics").status == 404, "the public port serves no metrics"
    own, marker = free_address(), uuid.uuid4().hex
    made = written(manifests, folder)
    token = folder / "token"
    token.write_text(TOKEN)
    pods = [
        *discovered(manifests, played.metrics_port, NAME, "Running"),
        *discovered(manifests, played.metrics_port, "neurectomy-api-ended", "Succeeded"),
    ]
    assert len(pods) > 4
    (folder / "pod.json").write_text(json.dumps(pods))
    made["global"] |= {"scrape_interval": "1s", "scrape_timeout": "1s", "evaluation_interval": "1s"}
    made["alerting"] = {}
    jobs = {job["job_name"]: job for job in made["scrape_configs"]}
    jobs["neurectomy"]["authorization"]["credentials_file"] = str(token)
    del jobs["cadvisor"]["tls_config"], jobs["cadvisor"]["authorization"], jobs["cadvisor"]["scheme"]
    made["scrape_configs"] = [jobs["neurectomy"], jobs["cadvisor"], operated(str(folder / "pod.json"), str(token))]
    (folder / "prometheus.yml").write_text(yaml.safe_dump(made))
    command = [program("prometheus"), f"--config.file={folder}/prometheus.yml", f"--storage.tsdb.path={folder}/data"]
    environ = {**built_environment(), MARKER: marker}
    with serve(Kubelet) as kubelet:
        (folder / "node.json").write_text(json.dumps([{"targets": [kubelet.address], "labels": {"__meta_kubernetes_node_name": "n"}}]))
        try:
            with running("prometheus", [*command, f"--web.listen-address={own}"], folder / "log", environ) as child:
                child.wait_ready(own, "/-/ready")
                check(own, child)
        finally:
            end_marked(marker)
            print((folder / "log").read_text())


def check(own: str, child: Child) -> None:
    def query(expression: str) -> list[Any]:
        child.check()
        answer = json.loads(ask(int(own.rpartition(":")[2]), "GET", f"/api/v1/query?{urlencode({'query': expression})}").body)
        found: list[Any] = answer["data"]["result"]
        return found

    for cluster, more in (("local", {}), ("operated", {"container": "exporter"})):
        requests = f'neurectomy_http_requests_total{{cluster="{cluster}",endpoint="/v1/compress",method="POST",status="200"}}'
        wait_until(lambda asked=requests: query(f"{asked} == 1"), f"the service's requests are there: {cluster}")  # type: ignore[misc]
        # One target: the sidecar's port of the one pod that runs, with the job and the cluster that rules and dashboards ask for.
        (up,) = query(f'up{{job="neurectomy",cluster="{cluster}"}}')
        target = {"job": "neurectomy", "cluster": cluster, "namespace": "neurectomy", "pod": NAME, "instance": NAME, **more}
        assert up["metric"] == {"__name__": "up", **target}
        assert up["value"][1] == "1"
    # No label of ours had to make room for one of the target's; only this family has one by such a name.
    renamed = {series["metric"]["__name__"] for series in query('{__name__=~".+",exported_cluster!=""}')}
    assert renamed == {"neurectomy_system_info"}
    for name in ("job", "instance", "namespace", "pod", "container", "endpoint", "service"):
        assert query(f'{{__name__=~".+",exported_{name}!=""}}') == []
    # Kubelets are asked for what the containers of our pods use.
    used = 'container_memory_working_set_bytes{job="cadvisor",cluster="local",pod=~"neurectomy.*"}'
    wait_until(lambda: query(used), "the containers' memory is there")
    # The rules are those that it has read.
    wait_until(lambda: query('ALERTS{alertname="Watchdog",alertstate="firing"}'), "the alert that always fires does")
