"""What `kubectl apply -k` would apply: overlays as they are, and with every choice of components on top."""

from __future__ import annotations

import copy
import os
import shutil
import subprocess
import tempfile
from functools import cache
from itertools import product
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.conftest import ROOT

Document = dict[str, Any]

K8S = ROOT / "k8s"
OVERLAYS = tuple(sorted(path.name for path in (K8S / "overlays").iterdir()))
COMPONENTS = tuple(sorted(path.name for path in (K8S / "components").iterdir()))
#: One of these looks at the pods; the others go together.
_WATCHERS = ((), ("prometheus-operator",), ("stack",))
_OTHERS = tuple(product(*(((), (name,)) for name in ("custom-metrics", "gpu"))))
#: Every overlay, and the components that an overlay of an operator's own may put on top of it.
RENDERED: tuple[tuple[str, tuple[str, ...]], ...] = tuple(
    (overlay, (*watcher, *(name for other in others for name in other)))
    for overlay, watcher, others in product(OVERLAYS, _WATCHERS, _OTHERS)
    if not (overlay == "gpu" and ("gpu",) in others)
)


def name(rendered: tuple[str, tuple[str, ...]]) -> str:
    """Say which one it is."""
    return "+".join((rendered[0], *rendered[1]))


def kustomized(folder: Path) -> subprocess.CompletedProcess[str]:
    """Run `kubectl kustomize`; skip the test where there is no kubectl that knows components."""
    kubectl = shutil.which("kubectl")
    if kubectl is None:
        assert os.environ.get("CI") != "true", "CI has to render the manifests: install kubectl 1.27 or newer"
        pytest.skip("no kubectl here: install kubectl 1.27 or newer, as kubernetes.io says (Debian's is too old)")
    return subprocess.run([kubectl, "kustomize", str(folder)], capture_output=True, text=True, check=False)


def _rendered(overlay: str, components: tuple[str, ...]) -> str:
    if not components:
        done = kustomized(K8S / "overlays" / overlay)
    else:
        with tempfile.TemporaryDirectory(prefix="neurectomy-k8s-") as folder:
            done = kustomized(_on_top(Path(folder), overlay, components))
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return done.stdout


def _on_top(folder: Path, overlay: str, components: tuple[str, ...]) -> Path:
    """Write what docs/kubernetes.md tells an operator to write."""
    here = os.path.relpath(K8S, folder.resolve())
    content = {
        "apiVersion": "kustomize.config.k8s.io/v1beta1",
        "kind": "Kustomization",
        "namespace": "neurectomy",
        "resources": [f"{here}/overlays/{overlay}"],
        "components": [f"{here}/components/{each}" for each in components],
    }
    (folder / "kustomization.yaml").write_text(yaml.safe_dump(content))
    return folder


def documents(overlay: str, *components: str) -> list[Document]:
    """Render, and give every document: a copy of it, for whoever changes it."""
    return copy.deepcopy(_parsed(overlay, components))


@cache
def _parsed(overlay: str, components: tuple[str, ...]) -> list[Document]:
    return [_read(text) for text in _rendered(overlay, components).split("\n---\n")]


@cache
def _read(text: str) -> Document:
    """Most documents are the same in most renderings, and dashboards are long."""
    found: Document = yaml.load(text, Loader=_Loader)
    return found


_Loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
