"""What is planned for a pod: the documents that podman plays, and what is done around it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

Document = dict[str, Any]


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
