"""Processes of one test, found through /proc by a marker in their environment.

Orphans leave the process tree and children may leave the session, but the environment that a
process started with stays readable: nothing that a test started can hide from its end.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import time
import uuid
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

MARKER = "NEURECTOMY_TEST_MARKER"
PATIENCE_SECONDS = 60.0


def wait_until(condition: Callable[[], object], what: str, seconds: float = PATIENCE_SECONDS) -> None:
    """Return as soon as condition holds; fail with what was awaited when it does not."""
    started = time.monotonic()
    while not condition():
        waited = time.monotonic() - started
        if waited > seconds:
            message = f"not within {seconds:.0f} s: {what}"
            raise AssertionError(message)
        time.sleep(min(0.02 + waited / 20, 0.2))  # asking costs CPU, of which the awaited one has need


def _read(pid: int, name: str) -> bytes:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/{name}").read_bytes()
    return b""


def command_line(pid: int) -> list[str]:
    """Give the arguments that a process was started with, none where it is gone."""
    return [part.decode(errors="replace") for part in _read(pid, "cmdline").split(b"\0")[:-1]]


def _status(pid: int) -> tuple[str, int]:
    fields = _read(pid, "stat").rpartition(b")")[2].split()
    return (fields[0].decode(), int(fields[1])) if len(fields) > 1 else ("X", 0)


def is_alive(pid: int) -> bool:
    """Tell whether the process runs; a zombie does not."""
    return _status(pid)[0] not in "ZX"


def parent(pid: int) -> int:
    """Give the parent's pid, 0 where the process is gone."""
    return _status(pid)[1]


def marked(marker: str) -> list[int]:
    """Give the living processes that carry the marker, oldest pid first."""
    needle = f"{MARKER}={marker}".encode()
    pids = sorted(int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit())
    return [pid for pid in pids if needle in _read(pid, "environ").split(b"\0") and is_alive(pid)]


def any_dead(pids: Iterable[int]) -> bool:
    """Tell whether one of them ended."""
    return not all(map(is_alive, pids))


def wait_dead(*pids: int) -> None:
    """Wait until all of them ended."""
    wait_until(lambda: not any(map(is_alive, pids)), f"{pids} ended")


def send(pid: int, signum: signal.Signals) -> None:
    """Signal a process of ours that may have ended by itself."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signum)


def end_marked(marker: str) -> None:
    """Kill every process that carries the marker, also those that are born meanwhile."""
    killed: set[int] = set()

    def nobody_left() -> bool:
        alive = marked(marker)
        for pid in alive:
            send(pid, signal.SIGKILL)
        killed.update(alive)
        # One that is dying loses its environment, and with it the marker, before it has closed its files.
        return not alive and not any(map(is_alive, killed))

    wait_until(nobody_left, f"every process marked {marker} ended")


def take_away(directory: Path) -> None:
    """Remove a directory in one step: a service that writes a file meanwhile would keep one that is emptied file by file."""
    aside = directory.with_name(f"{directory.name}-{uuid.uuid4().hex}")
    directory.rename(aside)
    shutil.rmtree(aside)
