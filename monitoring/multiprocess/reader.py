"""What a view knows of each value file: the samples read last, kept where the file turns bad or vanishes.

One file is one `Source`. Its contribution to a counter never falls within a run, however the file is damaged, lost or salvaged.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from . import files

_GAUGE_MODES = frozenset(
    {
        "all",
        "min",
        "max",
        "sum",
        "mostrecent",
        "liveall",
        "livemin",
        "livemax",
        "livesum",
        "livemostrecent",
    }
)
_CUMULATIVE = frozenset({"counter", "histogram", "summary"})


class Key(NamedTuple):
    """A parsed key: family, sample name, labels as sorted pairs, help."""

    family: str
    name: str
    labels: tuple[tuple[str, str], ...]
    help: str


@dataclass
class Source:
    """A file's place in the directory and its last good samples: key -> (value, timestamp)."""

    path: str
    type: str
    mode: str
    identifier: str
    samples: dict[Key, tuple[float, float]] = field(default_factory=dict)
    trouble: str = ""
    _carried: dict[Key, float] = field(default_factory=dict)
    _survivors: frozenset[Key] = frozenset()
    _inode: int = 0
    _known: bool = False

    @property
    def slot(self) -> int | None:
        """The slot that the file belongs to; None for files that are not ours."""
        number = self.identifier[1:]
        return int(number) if self.identifier[:1] == "s" and number.isdecimal() else None

    @property
    def live(self) -> bool:
        """Whether its values end with their writer."""
        return self.mode.startswith("live")

    def refresh(self, parsed: dict[bytes, Key | None]) -> None:
        """Read the file again; on trouble keep the last good samples and say in `trouble` what it is."""
        content = files.read_regular(self.path)
        if isinstance(content, str):
            self.lost(content)
            return
        data, inode = content
        result = files.scan(data)
        fresh: dict[Key, tuple[float, float]] = {}
        for record in result.records:
            if record.key not in parsed:
                parsed[record.key] = _parse(record.key)
            key = parsed[record.key]
            if key is None:
                self.lost("corrupt")
                return
            fresh[key] = (record.value, record.timestamp)
        if result.damage:
            self.lost(result.damage)
            self._survivors = frozenset(fresh)
            return
        if self._known and self.type in _CUMULATIVE and (self.trouble or inode != self._inode):
            self._carry(fresh, inode)
        self.trouble, self._inode, self._known, self._survivors = "", inode, True, frozenset()
        carried = self._carried
        if carried:
            for key, extra in carried.items():
                value, timestamp = fresh.get(key, (0.0, 0.0))
                fresh[key] = (value + extra, timestamp)
        self.samples = fresh

    def lost(self, reason: str) -> None:
        """The file cannot be read: what it said last stays, except for gauges of a file that is gone."""
        self.trouble = reason
        if reason == "missing" and self.type not in _CUMULATIVE:
            self.samples = {}

    def _carry(self, fresh: dict[Key, tuple[float, float]], inode: int) -> None:
        """Another file stands here, or the same one repaired: what it lacks of the last good samples is added from now on."""
        for key, (last, _) in self.samples.items():
            carried = self._carried.get(key, 0.0)
            missing = last - carried - fresh.get(key, (0.0, 0.0))[0]
            if missing <= 0.0:
                continue  # nothing was lost, or the file was put back as it had been
            began_at_zero = self.trouble and inode != self._inode and key not in self._survivors
            self._carried[key] = last if began_at_zero else carried + missing


def source(path: str) -> Source | None:
    """The source of a file named as upstream names them, or None for any other name."""
    parts = Path(path).name.removesuffix(".db").split("_")
    if parts[0] == "gauge" and len(parts) == 3 and parts[1] in _GAUGE_MODES:  # noqa: PLR2004 - type, mode, identifier
        return Source(path, "gauge", parts[1], parts[2])
    if parts[0] in _CUMULATIVE and len(parts) >= 2:  # noqa: PLR2004 - type, identifier
        return Source(path, parts[0], "", "_".join(parts[1:]))
    return None


def _parse(raw: bytes) -> Key | None:
    try:
        content: Any = json.loads(raw)
        family, name, labels, text = content
        pairs = tuple(sorted(labels.items()))
    except (ValueError, TypeError, AttributeError, RecursionError):
        return None
    if not family or not name or not all(isinstance(item, str) for item in (family, name, text, *(v for pair in pairs for v in pair))):
        return None
    return Key(family, name, pairs, text)
