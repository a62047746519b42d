"""How many workers fit into what this process may use: CPU quota or affinity, and the memory limit.

The limits of the control group (v1 or v2, of this group or of any above it) decide, never the cores of the host.
"""

import math
import os
from collections.abc import Iterator
from pathlib import Path

_MEBIBYTE = 1 << 20
#: cgroup v1 says "no limit" with the greatest page-aligned number; nothing real comes near this.
_UNLIMITED_BYTES = 1 << 60


def default_workers(worker_memory_mb: int, root: Path = Path("/")) -> int:
    """Give the number of workers that the processors and the memory allow, at least 1."""
    workers = math.ceil(cpu_limit(root))
    memory = memory_limit(root)
    if memory is not None:
        workers = min(workers, memory // (worker_memory_mb * _MEBIBYTE))
    return max(1, workers)


def cpu_limit(root: Path = Path("/")) -> float:
    """Give the processors that may be used at once: the least of affinity and every quota."""
    affinity = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min([float(affinity), *_quotas(root)])


def memory_limit(root: Path = Path("/")) -> int | None:
    """Give the least memory limit in bytes, or None where there is none."""
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
    """Give the directories of our control group and of all above it, for v2 and for the v1 hierarchy of this controller."""
    paths = dict(_own_paths(root, controller))
    for version, top, mounted in _mounts(root, controller):
        path = paths.get(version)
        if path is None:
            continue
        # Without a cgroup namespace the path is the host's, and a container has only its own part of the tree mounted.
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
    """Give version, mount point and mounted part of every control group file system that has this controller."""
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
