"""Builds the image of the Dockerfile, also without access to a registry of images."""

from __future__ import annotations

import fcntl
import hashlib
import platform
import re
import subprocess
import sys
import tempfile
from pathlib import Path

from packaging.markers import Marker, default_environment

from .engine import BUILD, EngineError, attempt, find, podman

ROOT = Path(__file__).resolve().parents[2]
LOCK = ROOT / "requirements-runtime.lock"
LOCAL_BASE = "localhost/neurectomy-base"
#: The packages that the image needs from its base, beyond Debian's essential packages: greenlet is C++.
_PACKAGES = ("python3", "python3-venv", "ca-certificates", "libstdc++6")
_GLIBC = (17, 24, 27, 28, 34)
_DISTRIBUTED = re.compile(r"^ARG BASE=(?P<image>\S+:(?P<python>\d+\.\d+)-slim-(?P<suite>\w+))$", re.MULTILINE)


def distributed_base() -> tuple[str, str, str]:
    """Return the Dockerfile's base: its name, the minor version of its Python, and Debian's release."""
    found = _DISTRIBUTED.search((ROOT / "Dockerfile").read_text())
    if found is None:
        raise EngineError(f"{ROOT / 'Dockerfile'}: it has no line ARG BASE=<image>:<python>-slim-<suite>")
    return found["image"], found["python"], found["suite"]


def name(version: str) -> str:
    """Return the name of this checkout's image. A build replaces only the image of the same checkout."""
    return f"localhost/neurectomy-api:{version}-{hashlib.sha256(str(ROOT).encode()).hexdigest()[:8]}"


def build(version: str, *, local: bool = False) -> str:
    """Build the changed layers of the image, and return its id.

    The base comes from its registry. If that cannot be reached, or with `local`, it is made from Debian's packages. This machine's pip
    downloads the Python packages, with its configuration; the build itself uses no network.
    """
    BUILD.mkdir(exist_ok=True)
    with (BUILD / "lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)  # one build at a time: both would fetch the same packages
        return _build(version, local=local)


def _build(version: str, *, local: bool) -> str:
    base, python, suite = distributed_base()
    if local or (attempt("image", "exists", base).returncode != 0 and attempt("pull", "--quiet", base).returncode != 0):
        base = _local_base(suite)
    wheels = _wheels(python)
    former = attempt("image", "inspect", "--format", "{{.Id}}", name(version)).stdout.strip()
    arguments = {"BASE": base, "PIP_NO_INDEX": "1", "PIP_FIND_LINKS": "/wheels", "VERSION": version}
    with tempfile.TemporaryDirectory() as folder:
        podman(
            "build",
            *("--pull=never", "--network=none", "--layers", "--format=docker", f"--tag={name(version)}", f"--iidfile={folder}/id"),
            *(f"--build-arg={key}={value}" for key, value in arguments.items()),
            f"--volume={wheels}:/wheels:ro",
            str(ROOT),
        )
        made = (Path(folder) / "id").read_text().removeprefix("sha256:")
    if former not in ("", made):
        attempt("image", "rm", former)  # it stays if a container still uses it
    # The layers of former builds, except those that this build uses.
    attempt("image", "prune", "--force", "--filter=label=neurectomy.stage=builder", "--filter=until=24h")
    return made


def _local_base(suite: str) -> str:
    """Make Debian with its own Python, once; return the name of the image."""
    base = f"{LOCAL_BASE}:{suite}-{hashlib.sha256(' '.join(_PACKAGES).encode()).hexdigest()[:8]}"
    if attempt("image", "exists", base).returncode == 0:
        return base
    left_out = (f"--dpkgopt=path-exclude=/usr/share/{part}/*" for part in ("doc", "locale", "man"))
    command = [find("mmdebstrap"), "--quiet", "--variant=essential", f"--include={','.join(_PACKAGES)}", *left_out, suite]
    with tempfile.TemporaryDirectory() as folder:
        archive = f"{folder}/base.tar"
        made = subprocess.run([*command, archive], capture_output=True, text=True, check=False)
        if made.returncode != 0:
            raise EngineError(f"{' '.join(command)} failed with {made.returncode}: {made.stderr.strip()}")
        podman("import", "--quiet", archive, base)
    return base


def _wheels(python: str) -> Path:
    """Download the locked packages for the image's Python, once for each lock; return their folder."""
    wanted = _for_python(LOCK.read_text(), python)
    folder = BUILD / f"wheels-{hashlib.sha256(f'{python}{wanted}'.encode()).hexdigest()[:16]}"
    if folder.is_dir():
        return folder
    machine = platform.machine()
    platforms = [f"manylinux2014_{machine}", *(f"manylinux_2_{minor}_{machine}" for minor in _GLIBC)]
    with tempfile.TemporaryDirectory(dir=folder.parent) as made:
        requirements = Path(made) / "requirements.txt"
        requirements.write_text(wanted)
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps", "--require-hashes"]
        command += [
            "--only-binary=:all:",
            "--implementation=cp",
            f"--python-version={python}",
            *(f"--platform={each}" for each in platforms),
        ]
        done = subprocess.run(
            [*command, f"--dest={made}/wheels", f"--requirement={requirements}"], capture_output=True, text=True, check=False
        )
        if done.returncode != 0:
            raise EngineError(f"pip download failed with {done.returncode}: {done.stderr.strip()}")
        (Path(made) / "wheels").rename(folder)
    return folder


def _for_python(lock: str, python: str) -> str:
    """Leave out packages that the image's Python does not need: pip evaluates markers for its own Python, despite --python-version."""
    target = {
        **{key: str(value) for key, value in default_environment().items()},
        "python_version": python,
        "python_full_version": f"{python}.0",
    }
    kept = []
    for line in lock.replace("\\\n", "").splitlines():
        requirement, _, hashes = line.partition(" --hash=")
        pinned, _, marker = requirement.partition(";")
        if not marker or Marker(marker.strip()).evaluate(target):
            kept.append(f"{pinned.strip()} --hash={hashes}")
    return "\n".join(kept) + "\n"
