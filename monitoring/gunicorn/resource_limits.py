"""Chooses the number of workers from the limits of this process: CPU quota, affinity and memory.

The limits of the control groups decide (v1 or v2, this group and all above it), not the cores of the host.
"""

import math
import os
from collections.abc import Iterator
from pathlib import Path

_MEBIBYTE = 1 << 20
#: For cgroup v1 the greatest page-aligned number means "no limit". No real limit comes near this.
_UNLIMITED_BYTES = 1 << 60


def default_workers(worker_memory_mb: int, root: Path = Path("/")) -> int:
    """Return the number of workers that CPU and memory allow, at least 1."""
    workers = math.ceil(cpu_limit(root))
    memory = memory_limit(root)
    if memory is not None:
        workers = min(workers, memory // (worker_memory_mb * _MEBIBYTE))
    return max(1, workers)


def cpu_limit(root: Path = Path("/")) -> float:
    """Return the usable CPUs: the minimum of affinity and all quotas."""
    affinity = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min([float(affinity), *_quotas(root)])


def memory_limit(root: Path = Path("/")) -> int | None:
    """Return the lowest memory limit in bytes, or None."""
    limits = []
    for directory in _groups(root, "memory"):
        for name in ("memory.max", "memory.limit_in_bytes"):
            number = _number(_read(directory / name))
            if number is not None and 0 < number < _UNLIMITED_BYTES:
                limits.append(number)
    return min(limits, default=None)


def _quotas(root: Path) -> Iterator[float]:
    for directory in _groups(root, "cpu"):
        quota, _, period = _read(directory / "cpu.max").partition(" ")
        if not quota:
            quota, period = _read(directory / "cpu.cfs_quota_us"), _read(directory / "cpu.cfs_period_us")
        allowed, every = _number(quota), _number(period)
        if allowed is not None and every and allowed > 0 and every > 0:
            yield allowed / every


def _groups(root: Path, controller: str) -> Iterator[Path]:
    """Yield the directories of the control group and of all above it, for v2 and for the v1 hierarchy of the controller."""
    paths = dict(_own_paths(root, controller))
    for version, top, mounted in _mounts(root, controller):
        path = paths.get(version)
        if path is None:
            continue
        # Without a cgroup namespace the path is that of the host, and a container has mounted only its part of the tree.
        relative = path.removeprefix(mounted.rstrip("/")).strip("/")
        directory = top if ".." in relative.split("/") else top / relative
        if not directory.is_dir():
            directory = top
        yield directory
        while directory != top:
            directory = directory.parent
            yield directory


def _own_paths(root: Path, controller: str) -> Iterator[tuple[int, str]]:
    for line in _read(root / "proc/self/cgroup").splitlines():
        number, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if number == "0" and not controllers:
            yield 2, path
        elif controller in controllers.split(","):
            yield 1, path


def _mounts(root: Path, controller: str) -> Iterator[tuple[int, Path, str]]:
    """Yield version, mount point and mounted part of each control group file system with the controller."""
    for line in _read(root / "proc/self/mountinfo").splitlines():
        fields, _, rest = line.partition(" - ")
        kind, _, tail = rest.partition(" ")
        words = fields.split()
        if len(words) < 5:
            continue
        mounted, top = words[3], root / words[4].lstrip("/")
        if kind == "cgroup2":
            yield 2, top, mounted
        elif kind == "cgroup" and controller in tail.split()[-1].split(","):
            yield 1, top, mounted


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii", errors="replace").strip()
    except OSError:
        return ""


def _number(text: str) -> int | None:
    try:
        return int(text)
    except ValueError:
        return None
