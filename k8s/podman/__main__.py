"""`python -m k8s.podman [OVERLAY]` builds the image, and runs the overlay's pod on this machine until Ctrl-C. Needs root and podman."""

from __future__ import annotations

import argparse
import shutil
import signal
import sys
import tempfile
import time
import uuid
from pathlib import Path

from app import __version__
from monitoring.prometheus.observing import free_address

from . import image, manifests
from .engine import EngineError, require_root
from .manifests import ManifestError
from .pod import running

_OVERLAYS = Path(__file__).resolve().parents[1] / "overlays"


def main(arguments: list[str] | None = None) -> int:
    """Run it; give the exit code, with one line on stderr where it is not 0."""
    parser = argparse.ArgumentParser(prog="python -m k8s.podman", description=__doc__.splitlines()[0])
    parser.add_argument(
        "overlay", type=Path, nargs="?", default=_OVERLAYS / "local", help="a folder with a kustomization (k8s/overlays/local)"
    )
    parser.add_argument("--local-base", action="store_true", help="make the base of Debian's packages, and ask no registry for it")
    asked = parser.parse_args(arguments)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.default_int_handler)
    folder = Path(tempfile.mkdtemp(prefix="neurectomy-pod-"))
    try:
        _serve(asked.overlay, folder, local_base=asked.local_base)
    except KeyboardInterrupt:
        print("\nended")
        return 0
    except (EngineError, ManifestError) as error:
        print(f"k8s.podman: {error}", file=sys.stderr)
        return 1
    finally:
        shutil.rmtree(folder)
    return 0


def _serve(overlay: Path, folder: Path, *, local_base: bool) -> None:
    require_root()
    documents = manifests.render(overlay)
    print("builds the image", flush=True)
    made = image.build(__version__, local=local_base)
    ports = {name: int(free_address().rpartition(":")[2]) for name in ("http", "metrics")}
    plan = manifests.plan(documents, name=f"neurectomy-{uuid.uuid4().hex[:8]}", image=made, folder=folder, ports=ports)
    print(f"starts the pod {plan.name}", flush=True)
    with running(plan, folder) as pod:
        print(f"service        http://127.0.0.1:{ports['http']}")
        print(f"metrics        http://127.0.0.1:{ports['metrics']}/metrics")
        print(f"volumes        {folder}")
        print(f"inside         podman exec {pod.called('api')} ...")
        print("Ctrl-C stops it as a cluster does; once more, at once", flush=True)
        try:
            while True:
                time.sleep(3600)
        except KeyboardInterrupt:
            pod.stop()
            raise


if __name__ == "__main__":
    sys.exit(main())
