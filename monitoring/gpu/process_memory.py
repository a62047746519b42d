"""The memory that each process uses on each device: a small file of the run, from the process that reads the devices to the workers.

Labels are text, so it is a JSON file replaced by rename rather than a SharedState.
"""

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
"""The inode of the kernel's first namespace of process ids, whose ids the driver uses."""


def pids_match() -> bool:
    """Return whether this process has the id by which the driver knows it."""
    try:
        return os.stat("/proc/self/ns/pid").st_ino == _FIRST_NAMESPACE
    except OSError:
        return False


def write(directory: Path, devices: Collection[Device]) -> None:
    """Write which process uses how many bytes of which device, unless there never was a device. OSError on a full disk."""
    if not devices and not (directory / NAME).exists():
        return
    rows = [[device.gpu, device.uuid, pid, size] for device in devices for pid, size in device.processes.items()]
    temporary = paths.temporary(directory / paths.state_file(f"gpu-{os.getpid()}"))
    temporary.write_text(json.dumps({"moment": time.monotonic(), "processes": rows}))
    temporary.replace(directory / NAME)


def own(directory: Path, newest_seconds: float) -> dict[tuple[str, str], int]:
    """Return the bytes that this process uses, by gpu and uuid; nothing where the file is older than `newest_seconds`."""
    try:
        said = json.loads((directory / NAME).read_text())
        if not 0 <= time.monotonic() - said["moment"] <= newest_seconds:
            return {}
        return {(str(gpu), str(uuid)): int(size) for gpu, uuid, pid, size in said["processes"] if pid == os.getpid()}
    except (OSError, ValueError, KeyError, TypeError):
        return {}
