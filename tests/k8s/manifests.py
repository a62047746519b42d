"""Ways through rendered documents that several rules need."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.k8s.rendering import Document

_UNITS = {"": 1, "m": 1e-3, "Ki": 1 << 10, "Mi": 1 << 20, "Gi": 1 << 30, "k": 1e3, "M": 1e6, "G": 1e9}


class Manifests:
    """The documents of one rendering, by kind and name."""

    def __init__(self, documents: list[Document]) -> None:
        self.documents = documents

    def of(self, kind: str) -> list[Document]:
        return [each for each in self.documents if each["kind"] == kind]

    def find(self, kind: str, name: str) -> Document | None:
        return next((each for each in self.of(kind) if each["metadata"]["name"] == name), None)

    @property
    def workloads(self) -> list[Document]:
        """Everything that makes pods."""
        return [each for each in self.documents if "template" in each.get("spec", {})]

    @property
    def service(self) -> Document:
        found = self.find("Deployment", "neurectomy-api")
        assert found is not None
        return found


def title(document: Document) -> str:
    return f"{document['kind']}/{document['metadata']['name']}"


def pod(workload: Document) -> dict[str, Any]:
    found: dict[str, Any] = workload["spec"]["template"]["spec"]
    return found


def labels(workload: Document) -> dict[str, str]:
    found: dict[str, str] = workload["spec"]["template"]["metadata"]["labels"]
    return found


def containers(workload: Document) -> Iterator[tuple[str, dict[str, Any]]]:
    """Give every container with its sort: `container`, `sidecar`, or `init` for one that ends before the others begin."""
    for each in pod(workload).get("initContainers", []):
        yield ("sidecar" if each.get("restartPolicy") == "Always" else "init"), each
    for each in pod(workload)["containers"]:
        yield "container", each


def named(workload: Document, name: str) -> dict[str, Any]:
    return next(each for _, each in containers(workload) if each["name"] == name)


def quantity(text: str | float) -> float:
    """Read `500m`, `64Mi` or `2`."""
    found = re.fullmatch(r"([0-9.]+)([A-Za-z]*)", str(text))
    assert found is not None, text
    return float(found[1]) * _UNITS[found[2]]


def matches(selector: dict[str, Any], given: dict[str, str]) -> bool:
    """Whether a label selector chooses these labels."""
    assert set(selector) == {"matchLabels"}, selector
    return bool(selector["matchLabels"].items() <= given.items())


def environment(manifests: Manifests, container: dict[str, Any]) -> dict[str, str | None]:
    """Give the variables of a container; None is the value of one that comes from a Secret."""
    found: dict[str, str | None] = {}
    for source in container.get("envFrom", []):
        given = manifests.find("ConfigMap", source.get("configMapRef", {}).get("name", ""))
        found |= given["data"] if given else {}
    return found | {each["name"]: each.get("value") for each in container.get("env", [])}
