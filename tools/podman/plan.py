"""The plan of a pod: the documents for podman, and the work of a kubelet."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

Document = dict[str, Any]


@dataclass(frozen=True)
class Volume:
    """A volume of the pod, as a kubelet makes it."""

    name: str
    #: The size of a file system in memory; None for a folder on disk, whose limit a kubelet enforces by eviction, and this tool does not.
    memory_bytes: int | None
    #: Its group (fsGroup).
    group: int | None


@dataclass(frozen=True)
class Probe:
    """An HTTP probe: its path, and the failures that it allows."""

    port: int
    path: str
    period_seconds: float
    timeout_seconds: float
    failures: int


@dataclass(frozen=True)
class Container:
    """The work of a kubelet for a running container."""

    name: str
    sidecar: bool
    ports: Mapping[str, int]
    probes: Mapping[str, Probe]
    #: Seconds that it goes on serving when it is stopped (preStop).
    pause_seconds: float


@dataclass(frozen=True)
class Plan:
    """A Pod for `podman play kube`, and the work of a kubelet."""

    name: str
    #: The pod, after the ConfigMaps that it takes variables from.
    documents: list[Document]
    #: In the order of their start: sidecars first.
    containers: list[Container]
    #: Each init container, as a separate pod.
    before: list[Plan] = field(default_factory=list)
    volumes: list[Volume] = field(default_factory=list)
    grace_seconds: float = 0
    #: Port of the pod -> port of 127.0.0.1.
    published: Mapping[int, int] = field(default_factory=dict)
