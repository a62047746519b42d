"""Rules about the service's own pod: its settings, what its containers share, and that its sizes and times fit each other."""

from __future__ import annotations

import math
import os
from typing import TYPE_CHECKING, Any
from unittest import mock

from app.api.health import _PATIENCE_SECONDS
from app.settings import Settings, SettingsError
from monitoring.exporter.__main__ import LEAVE_SECONDS
from monitoring.kubernetes.pod_labels import TOKEN
from monitoring.kubernetes.prometheus_operator import ADDED
from monitoring.kubernetes.scrape_config import TOKEN_FILE
from monitoring.metrics import FAMILIES
from monitoring.multiprocess.storage.location import VARIABLE
from monitoring.prometheus import Configuration
from tests.k8s.manifests import Manifests, containers, environment, named, pod, quantity, title

if TYPE_CHECKING:
    from collections.abc import Iterator

MARGIN_SECONDS = 5
PAUSE_SECONDS = 10
"""What it takes until every proxy has heard that a pod ends, at least."""
INGRESS_SECONDS = 60
"""How long an ingress keeps an idle connection, as a rule."""
MASTER_BYTES = 64 << 20
SAMPLES = 20_000
"""So many samples one worker may have before the base's metrics volume has to grow."""

#: What is read by others than our settings: docs/configuration.md names them.
_OTHERS = {VARIABLE, "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_REGION", "AWS_ENDPOINT", "OTEL_RESOURCE_ATTRIBUTES"}
_EXPORTERS = {"METRICS_BIND", "METRICS_LINGER", "METRICS_TOKEN", VARIABLE}
#: What a Secret might say.
_PLAUSIBLE = {"DATABASE_URL": "postgresql+asyncpg://user:password@database/neurectomy"}


def metrics_bytes(workers: int, samples: int) -> int:
    """Give the size of the metrics volume, as docs/kubernetes.md has it: a fifth of it is to stay free."""
    return math.ceil(1.25 * (2 * workers + 1) * (2.5 * (1 << 20) + 256 * samples))


def settings(manifests: Manifests, container: str = "api") -> Settings:
    """Read the settings of a container. SettingsError for one that the service would not start with."""
    given = environment(manifests, named(manifests.service, container))
    text = {name: _PLAUSIBLE.get(name, "secret") if value is None else value for name, value in given.items()}
    with mock.patch.dict(os.environ, text, clear=True):
        return Settings.load()


def _variables(manifests: Manifests) -> Iterator[str]:
    known = {name.upper() for name in Settings.model_fields} | _OTHERS
    for sort, container in containers(manifests.service):
        allowed = _EXPORTERS if sort == "sidecar" else known
        for name in environment(manifests, container).keys() - allowed:
            yield f"{title(manifests.service)}, {container['name']}: nothing reads the variable {name}"
        for name, value in environment(manifests, container).items():
            if value is not None and any(word in name for word in ("TOKEN", "SECRET", "ADMIN_KEY", "API_KEY")) and value not in {"0", "1"}:
                yield f"{title(manifests.service)}, {container['name']}: {name} is no secret here"
        if sort != "sidecar":
            try:
                settings(manifests, container["name"])
            except SettingsError as error:
                yield f"{title(manifests.service)}, {container['name']}: {error}"


def _serving(manifests: Manifests) -> Iterator[str]:
    """The public port serves no metrics, and another container does."""
    made = _loaded(manifests)
    if made is None:
        return
    where = title(manifests.service)
    if made.metrics_bind or made.metrics_path:
        yield f"{where}, api: it serves metrics itself, at METRICS_BIND={made.metrics_bind!r} or METRICS_PATH={made.metrics_path!r}"
    ports = {port["name"]: port["containerPort"] for _, one in containers(manifests.service) for port in one.get("ports", [])}
    for name, variable, text in (
        ("http", "BIND", made.bind),
        ("metrics", "METRICS_BIND", environment(manifests, named(manifests.service, "exporter")).get("METRICS_BIND") or ""),
    ):
        host, _, port = text.rpartition(":")
        if host not in {"0.0.0.0", "[::]"} or int(port) != ports.get(name):
            yield f"{where}: {variable}={text} is not where the port {name} is"
    if made.require_api_key == (manifests.find("PersistentVolumeClaim", "neurectomy-data") is not None):
        yield f"{where}: REQUIRE_API_KEY={made.require_api_key:d} is not for this overlay"


def _shared(manifests: Manifests) -> Iterator[str]:
    """Both containers have the one directory, which is the mount itself and in memory; the exporter is there first."""
    where, spec = title(manifests.service), pod(manifests.service)
    for name in ("api", "exporter"):
        container = named(manifests.service, name)
        path = environment(manifests, container).get(VARIABLE)
        if _writable(container).get(path or "") != "metrics":
            yield f"{where}, {name}: {VARIABLE}={path} is not the volume `metrics`"
    volume = next((each for each in spec["volumes"] if each["name"] == "metrics"), {})
    if volume.get("emptyDir", {}).get("medium") != "Memory":
        yield f"{where}: the volume `metrics` is not in memory"
    order = [each["name"] for each in spec["initContainers"]]
    if order[0] != "exporter" or order[-1] != "migrate":
        yield f"{where}: the exporter does not start before the migration"


def _kept(manifests: Manifests) -> Iterator[str]:
    """What is written can be written, and what has to last is not in a volume that ends with the pod."""
    where = title(manifests.service)
    lasting = manifests.find("PersistentVolumeClaim", "neurectomy-data") is not None
    for name in ("api", "migrate"):
        container = named(manifests.service, name)
        given = environment(manifests, container)
        if not {"/tmp", given.get("DATA_DIR")} <= set(_writable(container)):
            yield f"{where}, {name}: it cannot write to /tmp or DATA_DIR"
        if not lasting and "DATABASE_URL" not in given:
            yield f"{where}, {name}: without DATABASE_URL its database is gone with the pod"
    api = named(manifests.service, "api")
    key_file = environment(manifests, api).get("VAULT_KEY_FILE") or ""
    if key_file.rpartition("/")[0] not in {mount["mountPath"] for mount in api["volumeMounts"]}:
        yield f"{where}, api: VAULT_KEY_FILE={key_file} is in no volume"
    if not lasting and not (environment(manifests, api).get("VAULT_URL") or "").startswith("s3://"):
        yield f"{where}, api: without VAULT_URL its objects are gone with the pod"


def _writable(container: dict[str, Any]) -> dict[str, str]:
    return {mount["mountPath"]: mount["name"] for mount in container["volumeMounts"] if not mount.get("readOnly")}


def _sizes(manifests: Manifests) -> Iterator[str]:
    """As many workers as the CPU limit says fit into memory, beside the metrics volume; the longest bodies fit into /tmp."""
    made = _loaded(manifests)
    if made is None:
        return
    where, spec = title(manifests.service), pod(manifests.service)
    limits = named(manifests.service, "api")["resources"].get("limits", {})
    if not {"cpu", "memory"} <= set(limits):
        return
    sizes = {each["name"]: quantity(each["emptyDir"].get("sizeLimit", "0")) for each in spec["volumes"] if "emptyDir" in each}
    memory = quantity(limits["memory"])
    workers = made.web_concurrency or math.ceil(quantity(limits["cpu"]))
    if made.web_concurrency is None and int(memory) // (made.worker_memory_mb << 20) != workers:
        yield f"{where}: {limits['memory']} has not room for {workers} workers of {made.worker_memory_mb} MiB"
    if memory < workers * (made.worker_memory_mb << 20) + sizes["metrics"] + MASTER_BYTES:
        yield f"{where}: {limits['memory']} has not room for the metrics volume beside {workers} workers"
    if sizes["metrics"] < metrics_bytes(workers, SAMPLES):
        yield f"{where}: the metrics volume is less than {metrics_bytes(workers, SAMPLES)} bytes"
    bodies = workers * made.sigmalang_max_long_bodies * made.sigmalang_max_document_bytes
    if sizes["tmp"] < 1.25 * bodies:
        yield f"{where}: /tmp has not room for {bodies} bytes of long bodies"
    if quantity(limits.get("ephemeral-storage", "0")) < sizes["tmp"] + sizes.get("data", 0):
        yield f"{where}: ephemeral-storage is less than its volumes"


def _times(manifests: Manifests) -> Iterator[str]:
    """A stopping pod has time for all that it does, and no probe is faster than what it is there for."""
    made = _loaded(manifests)
    if made is None:
        return
    where, spec, api = title(manifests.service), pod(manifests.service), named(manifests.service, "api")
    pause = api.get("lifecycle", {}).get("preStop", {}).get("sleep", {}).get("seconds", 0)
    if pause < PAUSE_SECONDS:
        yield f"{where}: it stops before every proxy has taken it off its list"
    linger = float(environment(manifests, named(manifests.service, "exporter")).get("METRICS_LINGER") or 0)
    if linger <= Configuration().times.scrape:
        yield f"{where}: its exporter ends before every Prometheus has come by once more"
    needed = pause + made.graceful_timeout + linger + LEAVE_SECONDS + MARGIN_SECONDS
    if spec.get("terminationGracePeriodSeconds", 30) < needed:
        yield f"{where}: terminationGracePeriodSeconds is less than the {needed:g} s that a stop may take"
    live, ready = api.get("livenessProbe"), api.get("readinessProbe")
    if live and live["periodSeconds"] * live.get("failureThreshold", 3) <= made.timeout:
        yield f"{where}: it is restarted before gunicorn has replaced a worker that hangs for {made.timeout} s"
    if ready and ready.get("timeoutSeconds", 1) <= _PATIENCE_SECONDS:
        yield f"{where}: the readiness probe does not wait for the answer that the database does not answer"
    if made.keep_alive <= INGRESS_SECONDS:
        yield f"{where}: KEEP_ALIVE={made.keep_alive} is not longer than an ingress keeps a connection"
    rolling = manifests.service["spec"]["strategy"].get("rollingUpdate", {"maxUnavailable": 0})
    devices = "nvidia.com/gpu" in api["resources"].get("limits", {})
    if rolling["maxUnavailable"] != int(devices):
        yield f"{where}: a rollout takes {rolling['maxUnavailable']} pods away"


def _watched(manifests: Manifests) -> Iterator[str]:
    """Whoever scrapes has the token where there is one, and hides no label of a family."""
    token = environment(manifests, named(manifests.service, "exporter")).get("METRICS_TOKEN", "") is None
    hidden = ADDED & {label for family in FAMILIES for label in family.labels}
    for monitor in manifests.of("PodMonitor"):
        for endpoint in monitor["spec"]["podMetricsEndpoints"]:
            if not token or endpoint.get("authorization") != {"credentials": TOKEN}:
                yield f"{title(monitor)}: its token is not the exporter's"
            gone = {each.get("regex") for each in endpoint.get("relabelings", []) if each.get("action") == "labeldrop"}
            if hidden - gone:
                yield f"{title(monitor)}: the operator's label {', '.join(sorted(hidden - gone))} hides a family's"
    prometheus = manifests.find("Deployment", "prometheus")
    if prometheus is not None:
        (container,) = pod(prometheus)["containers"]
        volumes = {volume["name"]: volume.get("secret", {}).get("secretName") for volume in pod(prometheus)["volumes"]}
        mounted = {f"{mount['mountPath']}/{TOKEN['key']}": volumes[mount["name"]] for mount in container["volumeMounts"]}
        if not token or mounted.get(TOKEN_FILE) != TOKEN["name"]:
            yield f"{title(prometheus)}: its token is not the exporter's"


def _loaded(manifests: Manifests) -> Settings | None:
    """Give the settings; None where another rule says what is wrong with them."""
    try:
        return settings(manifests)
    except SettingsError:
        return None


RULES = (_variables, _serving, _shared, _kept, _sizes, _times, _watched)
