"""Declarations of metric families, shared by all processes in `families.json`, replaced by rename under a lock byte.

The newest declaration wins after a deploy. It also gives HELP and TYPE to families that have no series yet.
"""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass, field, replace
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from monitoring.multiprocess.linux import file_lock, file_owner, regular_file

from . import lock_file, paths

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

#: The bytes that were parsed last, and their declarations. One assignment, so threads and forks see a whole pair.
_parsed: tuple[bytes, Mapping[str, Family]] = (b"", {})


@dataclass(frozen=True)
class Family:
    """One metric family: `type` is prometheus-client's, `mode` a gauge's multiprocess mode, `buckets` a histogram's upper bounds.

    `generation` counts how often the declaration of this name has changed within the run.
    """

    name: str
    type: str
    help: str
    mode: str = ""
    labels: tuple[str, ...] = ()
    buckets: tuple[str, ...] = ()
    generation: int = field(default=1, compare=False)

    @property
    def stored_as(self) -> tuple[str, str]:
        """The (type, mode) of the file that its samples stand in: Info and Enum are kept as most recent gauges."""
        return ("gauge", "mostrecent") if self.type in ("info", "stateset") else (self.type, self.mode)


def read(directory: Path) -> Mapping[str, Family]:
    """The declarations of the directory by family name; none where the file is missing or damaged.

    OSError where this process lacks descriptors or memory.
    """
    content = regular_file.read(directory / paths.FAMILIES)
    return {} if isinstance(content, str) else parse(content[0]) or {}


def parse(content: bytes) -> Mapping[str, Family] | None:
    """The declarations in a file's bytes, or None where they are damaged."""
    global _parsed
    if _parsed[0] == content:
        return _parsed[1]
    try:
        entries: Any = json.loads(content)
        found = {name: _parse(name, entry) for name, entry in entries.items()}
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError):
        return None
    _parsed = (content, found)
    return found


def publish(directory: Path, declared: dict[str, Family]) -> None:
    """Make these declarations the current ones; others stay. OSError (ENOSPC, TimeoutError) where they cannot be written."""
    fd = lock_file.open_lock_file(directory)
    try:
        file_lock.lock(fd, lock_file.FAMILIES, patience=lock_file.WRITER_PATIENCE)
        current = read(directory)
        changed: dict[str, Family] = {}
        for name, family in declared.items():
            former = current.get(name)
            if former != family:
                changed[name] = replace(family, generation=former.generation + 1 if former else 1)
        if changed:
            _replace(directory, {**current, **changed})
    finally:
        os.close(fd)


def _replace(directory: Path, merged: dict[str, Family]) -> None:
    global _parsed
    entries = ",\n".join(f"{json.dumps(name)}: {_entry(family)}" for name, family in sorted(merged.items()))
    content = f"{{{entries}}}\n".encode()
    path = directory / paths.FAMILIES
    file_owner.replace(path, paths.temporary(path), content)
    _parsed = (content, merged)


@lru_cache(maxsize=1 << 14)
def _entry(family: Family) -> str:
    """Kept, since a process that declares families one by one writes all of them each time."""
    return json.dumps(asdict(family))


def _parse(name: str, entry: dict[str, Any]) -> Family:
    return Family(
        name=str(name),
        type=str(entry["type"]),
        help=str(entry["help"]),
        mode=str(entry["mode"]),
        labels=tuple(map(str, entry["labels"])),
        buckets=tuple(map(str, entry["buckets"])),
        generation=int(entry["generation"]),
    )
