"""Runs podman and the programs that it needs on this machine."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

CONFIGURATION = Path(__file__).with_name("containers.conf")
BUILD = Path(__file__).resolve().parents[2] / "build"
"""Downloads and build results; not in the repository."""
_INSTALL = {
    "podman": "apt-get install --no-install-recommends podman runc netavark",
    "runc": "apt-get install --no-install-recommends runc",
    "mmdebstrap": "apt-get install --no-install-recommends mmdebstrap",
    "kubectl": "install 1.27 or newer, as kubernetes.io says (Debian's is too old)",
}


class EngineError(Exception):
    """A program is missing, or failed; the text names the program, the failure, and the cure."""


def find(name: str) -> str:
    """Return the path of a program. EngineError if it is not on PATH."""
    found = shutil.which(name)
    if found is None:
        raise EngineError(f"{name} is not here: {_INSTALL[name]}")
    return found


def environment() -> dict[str, str]:
    """Return the environment of podman. Without systemd, it names the configuration beside this file."""
    environ = dict(os.environ)
    if not Path("/run/systemd/system").is_dir():
        environ.setdefault("CONTAINERS_CONF", str(CONFIGURATION))
    return environ


def require_root() -> None:
    """Raise EngineError unless this process is root."""
    if os.geteuid() != 0:
        raise EngineError("run it as root: the volumes of a pod are mounted, with their limits and owners")


def podman(*arguments: str) -> str:
    """Run podman to its end and return its output. EngineError with its error message if it fails."""
    done = attempt(*arguments)
    if done.returncode != 0:
        raise EngineError(f"podman {' '.join(arguments)} failed with {done.returncode}: {done.stderr.strip()}")
    return done.stdout.strip()


def attempt(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run podman to its end, and return its exit code and output."""
    BUILD.mkdir(exist_ok=True)  # if a container runs out of memory, its monitor leaves a file in the working directory
    return subprocess.run([find("podman"), *arguments], cwd=BUILD, env=environment(), capture_output=True, text=True, check=False)
