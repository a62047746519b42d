"""The image, built once a run, and pods of k8s/overlays/local that podman runs."""

from __future__ import annotations

import contextlib
import os
import uuid
from typing import TYPE_CHECKING, Any

import pytest

import app
from tests.conftest import ROOT, unused_port
from tests.tools.podman.served import Served
from tools.podman import image as building
from tools.podman import manifests
from tools.podman.engine import EngineError, find, require_root
from tools.podman.pod import running

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager

    from tools.podman.plan import Document

    Serving = Callable[..., AbstractContextManager[Served]]

OVERLAY = ROOT / "k8s" / "overlays" / "local"
NAMES = f"neurectomy-test-{os.getpid()}-"
"""What the names of this run's pods begin with."""
REPEATS = int(os.environ.get("PROOF_REPEATS", "0"))


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run what asks for `repeat` once, and in the long run as often as that says."""
    if "repeat" in metafunc.fixturenames:
        metafunc.parametrize("repeat", range(max(1, REPEATS)))


@pytest.fixture(scope="session")
def image() -> str:
    """Build the image on a base of this machine's own making; skip where the programs for that are not here."""
    try:
        for program in ("podman", "runc", "mmdebstrap", "kubectl"):
            find(program)
        require_root()
    except EngineError as error:
        if os.environ.get("CI") == "true":
            raise
        pytest.skip(str(error))
    return building.build(app.__version__, local=True)


@pytest.fixture(scope="session")
def serving(image: str, tmp_path_factory: pytest.TempPathFactory) -> Serving:
    """Give a context that runs the overlay's pod, with other settings, and with a change of what is planned."""

    @contextlib.contextmanager
    def served(change: Callable[[Document], None] = lambda _: None, /, **settings: str) -> Iterator[Served]:
        documents = manifests.render(OVERLAY)
        for document in documents:
            if document["kind"] == "Deployment":
                change(document["spec"]["template"]["spec"])
            if document["kind"] == "ConfigMap" and document["metadata"]["name"].startswith("neurectomy-settings"):
                document["data"] |= settings
        folder = tmp_path_factory.mktemp("pod")
        ports = {"http": unused_port(), "metrics": unused_port()}
        plan = manifests.plan(documents, name=f"{NAMES}{uuid.uuid4().hex[:8]}", image=image, folder=folder, ports=ports)
        with running(plan, folder) as pod:
            try:
                yield Served(pod, ("127.0.0.1", ports["http"]), ("127.0.0.1", ports["metrics"]))
            finally:
                for container in plan.containers:
                    print(f"--- {container.name}\n{pod.log(container.name)[-20_000:]}")

    return served


def container_of(spec: dict[str, Any], name: str) -> dict[str, Any]:
    """Find a container in the spec of a pod."""
    found: dict[str, Any] = next(each for each in [*spec["containers"], *spec["initContainers"]] if each["name"] == name)
    return found
