"""Whether documents are what an API server takes: Kubernetes' kinds by its schemas, the operator's by its CRDs.

An unknown field is a fault, which a server would leave out in silence.
"""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jsonschema
import kubernetes_validate
from kubernetes_validate.utils import all_versions, major_minor

if TYPE_CHECKING:
    from tests.k8s.rendering import Document

#: What docs/kubernetes.md asks for at least.
OLDEST = "1.30"
#: The three newest minors that the validator knows, oldest first.
MINORS: tuple[str, ...] = tuple(dict.fromkeys(major_minor(version) for version in all_versions()))[-3:]
_FOLDER = Path(__file__).parent / "schemas"
_OPERATORS = "monitoring.coreos.com/v1"


def faults(document: Document, minor: str) -> list[str]:
    """Say what is wrong with a document on this Kubernetes minor."""
    if document["apiVersion"] == _OPERATORS:
        return _faults_of_operators(document)
    try:
        assert kubernetes_validate.validate(document, minor, strict=True) == minor
    except kubernetes_validate.ValidationError as error:
        return [f"{'.'.join(map(str, error.path))}: {error.message}"]
    except kubernetes_validate.SchemaNotFoundError as error:
        return [error.message]
    return []


def _faults_of_operators(document: Document) -> list[str]:
    found = [f"{'.'.join(map(str, each.path))}: {each.message}" for each in _validator(document["kind"]).iter_errors(document)]
    # A CRD says nothing about metadata: that is Kubernetes' own.
    unknown = set(document["metadata"]) - {"name", "namespace", "labels", "annotations"}
    return found + [f"metadata: unexpected {key}" for key in sorted(unknown)]


@cache
def _validator(kind: str) -> jsonschema.protocols.Validator:
    schema = json.loads((_FOLDER / f"{kind.lower()}.json").read_text())
    return jsonschema.Draft202012Validator(_closed(schema))


def _closed(node: Any) -> Any:
    """Refuse what the schema does not name."""
    if isinstance(node, list):
        return [_closed(each) for each in node]
    if not isinstance(node, dict):
        return node
    made = {key: _closed(value) for key, value in node.items()}
    if isinstance(node.get("properties"), dict) and node.get("type") == "object" and "additionalProperties" not in node:
        made["additionalProperties"] = False
    return made
