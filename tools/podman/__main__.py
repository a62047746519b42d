"""`python -m tools.podman [OVERLAY]` builds the image, and runs the overlay's pod on this machine until Ctrl-C. Needs root and podman."""

from __future__ import annotations

import argparse
import shutil
import signal
import sys
import tempfile
import time
import uuid
from pathlib import Path
from typing import TYPE_CHECKING

from app import __version__
from monitoring.observe.stack import free_address

from . import image, manifests
from .engine import EngineError, require_root
from .manifests import ManifestError
from .pod import running

if TYPE_CHECKING:
    from types import FrameType

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_interrupted = False
_OVERLAYS = Path(__file__).resolve().parents[2] / "k8s" / "overlays"


def main(arguments: list[str] | None = None) -> int:
    """Run the command; return the exit code. If it is not 0, stderr has one line."""
    parser = argparse.ArgumentParser(prog="python -m tools.podman", description=__doc__.splitlines()[0])
    parser.add_argument(
        "overlay", type=Path, nargs="?", default=_OVERLAYS / "local", help="a folder with a kustomization (k8s/overlays/local)"
    )
    parser.add_argument("--local-base", action="store_true", help="make the base of Debian's packages, and ask no registry for it")
    asked = parser.parse_args(arguments)
    for number in _SIGNALS:
        signal.signal(number, _interrupt)
    folder = Path(tempfile.mkdtemp(prefix="neurectomy-pod-"))
    try:
        _serve(asked.overlay, folder, local_base=asked.local_base)
    except KeyboardInterrupt:
        print("\nended")
        return 0
    except (EngineError, ManifestError) as error:
        print(f"tools.podman: {error}", file=sys.stderr)
        return 1
    finally:
        shutil.rmtree(folder)
    return 0


def _serve(overlay: Path, folder: Path, *, local_base: bool) -> None:
    require_root()
    ports = {name: int(free_address().rpartition(":")[2]) for name in ("http", "metrics")}
    named = {"name": f"neurectomy-{uuid.uuid4().hex[:8]}", "image": image.name(__version__)}
    plan = manifests.plan(manifests.render(overlay), folder=folder, ports=ports, **named)
    print("builds the image", flush=True)
    image.build(__version__, local=local_base)
    print(f"starts the pod {plan.name}", flush=True)
    with running(plan, folder) as pod:
        print(f"service        http://127.0.0.1:{ports['http']}")
        print(f"metrics        http://127.0.0.1:{ports['metrics']}/metrics")
        print(f"volumes        {folder}")
        print(f"inside         podman exec {pod.called('api')} ...")
        print("Ctrl-C stops it", flush=True)
        try:
            while True:
                time.sleep(3600)
        except KeyboardInterrupt:
            print(f"\nstops as in a cluster, {plan.grace_seconds:.0f} s at most; Ctrl-C again ends it at once", flush=True)
            pod.stop()
            raise


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    """Stop the pod. The second time, only remove it, which no signal interrupts."""
    global _interrupted
    if _interrupted:
        for number in _SIGNALS:
            signal.signal(number, signal.SIG_IGN)
    _interrupted = True
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main())
