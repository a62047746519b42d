"""What the process that reads the devices found out about others on them, for workers to find themselves in: one small file of the run."""

from __future__ import annotations

import json
import os
import time
from typing import TYPE_CHECKING

from monitoring.multiprocess import paths

if TYPE_CHECKING:
    from collections.abc import Collection
    from pathlib import Path

    from .devices import Device

NAME = paths.state_file("gpu")
_FIRST_NAMESPACE = 0xEFFFFFFC
"""The number of the kernel's first namespace of process ids, which the driver counts in."""


def pids_match() -> bool:
    """Whether this process has the id by which the driver knows it."""
    try:
        return os.stat("/proc/self/ns/pid").st_ino == _FIRST_NAMESPACE
    except OSError:
        return False


def write(directory: Path, devices: Collection[Device]) -> None:
    """Say which process uses how much of which device; nothing where there is no device and never was. OSError where there is no room."""
    if not devices and not (directory / NAME).exists():
        return
    rows = [[device.gpu, device.uuid, pid, size] for device in devices for pid, size in device.processes.items()]
    temporary = paths.temporary(directory / paths.state_file(f"gpu-{os.getpid()}"))
    temporary.write_text(json.dumps({"moment": time.monotonic(), "processes": rows}))
    temporary.replace(directory / NAME)


def own(directory: Path, newest_seconds: float) -> dict[tuple[str, str], int]:
    """Give the bytes that this process uses, by gpu and uuid; nothing where nobody has said so for so many seconds."""
    try:
        said = json.loads((directory / NAME).read_text())
        if not 0 <= time.monotonic() - said["moment"] <= newest_seconds:
            return {}
        return {(str(gpu), str(uuid)): int(size) for gpu, uuid, pid, size in said["processes"] if pid == os.getpid()}
    except (OSError, ValueError, KeyError, TypeError):
        return {}
