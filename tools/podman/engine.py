"""podman and what it needs, as they run on this machine."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

CONFIGURATION = Path(__file__).with_name("containers.conf")
BUILD = Path(__file__).resolve().parents[2] / "build"
"""What is fetched and made, and not kept."""
_INSTALL = {
    "podman": "apt-get install --no-install-recommends podman runc netavark",
    "runc": "apt-get install --no-install-recommends runc",
    "mmdebstrap": "apt-get install --no-install-recommends mmdebstrap",
    "kubectl": "install 1.27 or newer, as kubernetes.io says (Debian's is too old)",
}


class EngineError(Exception):
    """A program is missing, or failed; the text says which, how, and what to do."""


def find(name: str) -> str:
    """Give the path of a program. EngineError where it is not on PATH."""
    found = shutil.which(name)
    if found is None:
        raise EngineError(f"{name} is not here: {_INSTALL[name]}")
    return found


def environment() -> dict[str, str]:
    """Give the environment that podman is run with: the configuration beside this file where there is no systemd."""
    environ = dict(os.environ)
    if not Path("/run/systemd/system").is_dir():
        environ.setdefault("CONTAINERS_CONF", str(CONFIGURATION))
    return environ


def require_root() -> None:
    """Raise EngineError for anybody else."""
    if os.geteuid() != 0:
        raise EngineError("run it as root: the volumes of a pod are mounted, with their limits and owners")


def podman(*arguments: str) -> str:
    """Run podman to its end and give what it prints. EngineError with its own words where it fails."""
    done = attempt(*arguments)
    if done.returncode != 0:
        raise EngineError(f"podman {' '.join(arguments)} failed with {done.returncode}: {done.stderr.strip()}")
    return done.stdout.strip()


def attempt(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run podman to its end, however it ends."""
    BUILD.mkdir(exist_ok=True)  # the monitor of a container that runs out of memory leaves a file where podman was started
    return subprocess.run([find("podman"), *arguments], cwd=BUILD, env=environment(), capture_output=True, text=True, check=False)
