"""What the image costs: its size, and seconds until its service is ready, as a container and as the pod of k8s/overlays/local.

Needs root and podman. Each round starts both anew; a line shows medians. The pod's init containers (key, migration) run before, one after
the other, and are part of its time.
"""

from __future__ import annotations

import argparse
import http.client
import json
import statistics
import sys
import tempfile
import time
import uuid
from contextlib import closing
from pathlib import Path

from _fleet import ROOT

sys.path.insert(0, str(ROOT))

from app import __version__
from monitoring.observe.stack import free_address
from tools.podman import image, manifests
from tools.podman.engine import EngineError, podman, require_root
from tools.podman.pod import running

_MB = 1_000_000
_PATIENCE_SECONDS = 60


def main() -> None:
    """Measure and print."""
    options = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    options.add_argument("--rounds", type=int, default=5)
    options.add_argument("--local-base", action="store_true", help="make the base of Debian's packages, and ask no registry for it")
    chosen = options.parse_args()
    try:
        require_root()
        made = image.build(__version__, local=chosen.local_base)
    except EngineError as error:
        print(f"left out: {error}")
        return
    size, base = (int(podman("image", "inspect", "--format", "{{.Size}}", each)) for each in (made, _base(made)))
    print(f"image          {size / _MB:6.0f} MB, of which its base {base / _MB:.0f}\n")
    found = [(_container(made), _pod(made)) for _ in range(chosen.rounds)]
    print(f"medians of {chosen.rounds} starts until /health/ready is 200")
    for name, values in zip(("container", "pod"), zip(*found, strict=True), strict=True):
        print(f"{name:<14} {statistics.median(values):6.2f} s   {min(values):.2f} to {max(values):.2f}")


def _base(made: str) -> str:
    """Give the image whose layers the image begins with: the largest of its own."""
    layers = _layers(made)
    names = podman("images", "--quiet", "--no-trunc", "--filter", "dangling=false").split()
    below = [name for name in set(names) if (own := _layers(name)) != layers and own == layers[: len(own)]]
    return max(below, key=lambda name: len(_layers(name)))


def _layers(name: str) -> list[str]:
    found: list[str] = json.loads(podman("image", "inspect", "--format", "{{json .RootFS.Layers}}", name))
    return found


def _container(made: str) -> float:
    """Start the service alone, as strictly as the pod; its database is made at the start."""
    name, address = f"neurectomy-bench-{uuid.uuid4().hex[:8]}", free_address()
    strict = ("--read-only", "--cap-drop=ALL", "--security-opt=no-new-privileges", "--volume=/data", "--cpus=2", "--memory=1g")
    began = time.perf_counter()
    try:
        podman("run", "--detach", "--pull=never", "--no-healthcheck", f"--name={name}", f"--publish={address}:8000", *strict, made)
        while not _ready(address):
            if time.perf_counter() - began > _PATIENCE_SECONDS:
                raise EngineError(f"the service does not get ready: {podman('logs', name)}")
            time.sleep(0.01)
        return time.perf_counter() - began
    finally:
        podman("rm", "--force", "--volumes", "--time=0", name)


def _ready(address: str) -> bool:
    with closing(http.client.HTTPConnection(address, timeout=10)) as connection:
        try:
            connection.request("GET", "/health/ready")
            return connection.getresponse().status == 200
        except (OSError, http.client.HTTPException):
            return False


def _pod(made: str) -> float:
    documents = manifests.render(ROOT / "k8s" / "overlays" / "local")
    ports = {name: int(free_address().rpartition(":")[2]) for name in ("http", "metrics")}
    with tempfile.TemporaryDirectory(prefix="bench-pod-") as folder:
        plan = manifests.plan(documents, name=f"neurectomy-bench-{uuid.uuid4().hex[:8]}", image=made, folder=Path(folder), ports=ports)
        began = time.perf_counter()
        with running(plan, Path(folder)):
            return time.perf_counter() - began


if __name__ == "__main__":
    main()
