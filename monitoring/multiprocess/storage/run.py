"""A run: the time during which at least one process of the service is alive.

Counters last for one run. A process that joins while none holds a byte below `lock_file.START` clears the directory. A
generation number in `run.json` lets a view see that as one step: while its state is `clearing`, the files belong to no run.
"""

from __future__ import annotations

import contextlib
import json
import logging
import multiprocessing
import os
import stat
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

from monitoring.multiprocess.linux import file_lock, file_owner, fork, regular_file

from . import lock_file, paths, series_log

_READY, _CLEARING = "ready", "clearing"
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Supervisor:
    """A process that outlives its workers without holding a lock: `uvicorn --workers`, or the parent of multiprocessing children."""

    pid: int
    start_time: int
    pid_namespace: int


@dataclass(frozen=True)
class Run:
    """The content of `run.json`: the generation (counts cold starts), its state, and the supervisor that it belongs to, if any."""

    generation: int = 0
    state: str = _READY
    supervisor: Supervisor | None = None

    @property
    def clearing(self) -> bool:
        return self.state == _CLEARING


def read(directory: Path) -> Run:
    """The current run; a missing or damaged file reads as generation 0. OSError where this process lacks descriptors or memory."""
    content = regular_file.read(f"{directory}/{paths.RUN}")
    return Run() if isinstance(content, str) else _parse(content[0])


@lru_cache(maxsize=4)
def _parse(content: bytes) -> Run:
    """Kept, since every scrape asks twice."""
    try:
        data: Any = json.loads(content.rstrip(b"\0 \n"))
        supervisor = data["supervisor"]
        return Run(
            int(data["generation"]),
            str(data["state"]),
            Supervisor(**supervisor) if supervisor else None,
        )
    except (ValueError, KeyError, TypeError, OverflowError, RecursionError):
        return Run()


def join(directory: Path) -> int:
    """Join the run of `directory`, or start a new one if no process is alive. Returns the address that holds the run byte.

    Raises OSError (TimeoutError among them) where the directory cannot be used.
    """
    with fork.mutex:
        fd = lock_file.open_lock_file(directory)
        try:
            file_lock.lock(fd, lock_file.START)
            record = read(directory)
            ours = supervisor()
            alone = file_lock.try_lock(fd, 0, lock_file.START)
            if record.clearing or (alone and not (ours and ours == record.supervisor)):
                record = clear(directory, record)
            if ours != record.supervisor and (alone or (ours and not _lives(record.supervisor))):
                _write(directory, replace(record, supervisor=ours))
            if alone:
                file_lock.unlock(fd, 0, lock_file.START)
            return _hold_run_byte(directory)
        finally:
            os.close(fd)


def clear(directory: Path, record: Run) -> Run:
    """Remove every value file of the last run, seen by views as one step. The caller holds `START` exclusively."""
    clearing = Run(record.generation + (not record.clearing), _CLEARING)
    _write(directory, clearing)
    for entry in list(os.scandir(directory)):
        if paths.ends_with_run(entry.name):
            if entry.is_dir(follow_symlinks=False):
                _log.warning(
                    "left %s in the metrics directory: it is a directory, not a value file; remove it by hand",
                    entry.path,
                )
                continue
            with contextlib.suppress(FileNotFoundError):
                os.unlink(entry.path)
    series_log.clear(directory)
    ready = replace(clearing, state=_READY)
    _write(directory, ready)
    return ready


def finish_clearing(directory: Path) -> None:
    """Complete a clearing whose process was killed half way; nothing to do otherwise."""
    if not read(directory).clearing:
        return
    fd = lock_file.open_lock_file(directory)
    try:
        file_lock.lock(fd, lock_file.START)
        record = read(directory)
        if record.clearing:
            clear(directory, record)
    finally:
        os.close(fd)


def supervisor() -> Supervisor | None:
    """The parent that spawned this process through multiprocessing, while it lives; None for every other process."""
    parent = multiprocessing.parent_process()
    if parent is None or parent.pid is None or parent.pid != os.getppid():
        return None
    try:
        start_time = _start_time(parent.pid)
        namespace = os.stat("/proc/self/ns/pid").st_ino
    except OSError:
        return None
    return Supervisor(parent.pid, start_time, namespace)


def _lives(recorded: Supervisor | None) -> bool:
    """Whether the recorded supervisor lives, so that a worker's own child may not take its place."""
    if recorded is None:
        return False
    try:
        if recorded.pid_namespace != os.stat("/proc/self/ns/pid").st_ino:
            return True  # not visible from this namespace: assume that it lives
        return _start_time(recorded.pid) == recorded.start_time
    except OSError:
        return False


def _start_time(pid: int) -> int:
    """When a process started, in clock ticks since boot (proc(5), field 22 of stat)."""
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19])


def _hold_run_byte(directory: Path) -> int:
    fd = lock_file.open_lock_file(directory, write=False)
    try:
        file_lock.lock(fd, lock_file.RUN, shared=True)
        return file_lock.hold(fd)
    finally:
        os.close(fd)


def _write(directory: Path, record: Run) -> None:
    data = json.dumps(asdict(record)).encode().ljust(512) + b"\n"
    path = directory / paths.RUN
    try:
        file_owner.replace(path, paths.temporary(path), data)
    except OSError:
        # A full file system: the old file's block is there to be written over. Without an old file there is nothing to protect.
        if path.exists() and stat.S_ISREG(path.lstat().st_mode):
            with open(os.open(path, os.O_WRONLY | os.O_CLOEXEC | os.O_NOFOLLOW), "wb") as file:
                file.write(data)
