"""Removal of series for all workers: `remove()`, `remove_by_labels()`, `clear()` and `reset()` of prometheus_client's classes.

A removal writes -0.0 into the samples of every slot, dead ones included, and views hide such samples. The other workers need no
message: the next increment of a child that they still hold starts from 0.
"""

from __future__ import annotations

import contextlib
import json
import logging
import math
import os
import stat
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from prometheus_client import metrics

from monitoring.multiprocess.linux.writable_mapping import WritableMapping
from monitoring.multiprocess.storage import lock_file, paths
from monitoring.multiprocess.storage.record_format import CUMULATIVE, REMOVED, removed
from monitoring.multiprocess.worker.slot_store import store

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from contextlib import AbstractContextManager
    from pathlib import Path

    from .series_limit import Cap

#: Number of checks for a worker that read a value just before its removal and wrote the sum just after: such writes are undone.
_LOOKS = 3
_log = logging.getLogger(__name__)


Found = set[frozenset[tuple[str, str]]]


def overwrite(
    directory: Path,
    family: str,
    labels: Mapping[str, str],
    value: float = REMOVED,
    noting: Callable[[Found], AbstractContextManager[None]] = lambda _: contextlib.nullcontext(),
) -> None:
    """Write `value` into every sample of `family` whose labels include `labels`, in the files of all slots.

    It is done within `noting`, which gets the label sets that were found. Raises OSError (TimeoutError among them) where the directory
    cannot be used; a single bad file is skipped.
    """
    with lock_file.alone(directory, lock_file.EDIT), contextlib.ExitStack() as stack:
        places: list[tuple[WritableMapping, str, list[int]]] = []
        found: Found = set()
        for name in os.listdir(directory):
            file = paths.parse_value_file(name)
            if file is None or file.slot is None:
                continue
            try:
                opened = _open(directory / name)
            except OSError as error:
                _log.warning("series of %s could not be removed from %s: %s", family, directory / name, error)
                continue
            if opened:
                mapping, size = opened
                stack.callback(mapping.unmap)
                samples = list(_samples(mapping.content(size), family, labels))
                own = "le" if file.type == "histogram" else ""
                found.update(frozenset(pair for pair in each.items() if pair[0] != own) for _, each in samples)
                places.append((mapping, file.prefix, [position for position, _ in samples]))
        with noting(found):
            edited = [sample for mapping, prefix, positions in places for sample in _edit(mapping, prefix, positions, value)]
            for _ in range(_LOOKS):
                for sample in edited:
                    sample.look_again()


def patch(forget: Callable[[Any], None], cap: Cap | None) -> None:
    """Make the methods apply to all workers. `forget` is called with each removed child, and `cap` frees its place."""

    def remove(self: Any, *labelvalues: Any) -> None:
        """Remove the given label set, for all workers."""
        _check_labelled(self)
        if len(labelvalues) != len(self._labelnames):
            message = f"Incorrect label count (expected {len(self._labelnames)}, got {labelvalues})"
            raise ValueError(message)
        _take_out(self, dict(zip(self._labelnames, map(str, labelvalues), strict=True)), forget, cap)

    def remove_by_labels(self: Any, labels: dict[str, str]) -> None:
        """Remove all series whose labels include the given ones, for all workers."""
        _check_labelled(self)
        if not isinstance(labels, dict):
            message = "labels must be a dict of {label_name: label_value}"
            raise TypeError(message)
        if invalid := [name for name in labels if name not in self._labelnames]:
            message = f"Unknown label names: {invalid}; expected {self._labelnames}"
            raise ValueError(message)
        if labels:
            _take_out(self, {name: str(value) for name, value in labels.items()}, forget, cap)

    def clear(self: Any) -> None:
        """Remove all label sets, for all workers; nothing where the metric has no labels, as upstream."""
        if self._labelnames:
            _take_out(self, {}, forget, cap)

    def reset(self: Any) -> None:
        """Set this counter to 0 for all workers."""
        self._raise_if_not_observable()
        _overwrite(self, dict(zip(self._labelnames, self._labelvalues, strict=True)), 0.0)
        self._created = time.time()

    base: Any = metrics.MetricWrapperBase
    base.remove, base.remove_by_labels, base.clear = remove, remove_by_labels, clear
    metrics.Counter.reset = reset  # type: ignore[method-assign]


def _check_labelled(metric: Any) -> None:
    if not metric._labelnames:
        message = f"No label names were set when constructing {metric}"
        raise ValueError(message)


def _take_out(metric: Any, labels: dict[str, str], forget: Callable[[Any], None], cap: Cap | None) -> None:
    wanted = [(metric._labelnames.index(name), value) for name, value in labels.items()]
    with store.undisturbed():
        for labelvalues in [each for each in metric._metrics if all(each[at] == value for at, value in wanted)]:
            forget(metric._metrics.pop(labelvalues))
        _overwrite(metric, labels, REMOVED, cap)


def _overwrite(metric: Any, labels: dict[str, str], value: float, cap: Cap | None = None) -> None:
    assert store.directory is not None
    try:
        with store.undisturbed():
            if cap is None:
                overwrite(store.directory, metric._name, labels, value)
            else:

                def noting(found: Found) -> AbstractContextManager[None]:
                    return cap.removing(metric, labels, _own(metric, found))

                overwrite(store.directory, metric._name, labels, value, noting)
    except OSError as error:
        _log.warning("series of %s could not be removed or reset in %s: %s", metric._name, store.directory, error)


def _own(metric: Any, found: Found) -> Found:
    """Return label sets without the additional labels of an Info or Enum."""
    return {frozenset(pair for pair in labels if pair[0] in metric._labelnames) for labels in found}


@dataclass(frozen=True)
class _Edited:
    """A sample of a type that only grows, with its values before and after the edit."""

    doubles: memoryview[float]
    index: int
    was: float
    value: float

    def look_again(self) -> None:
        """Undo an addition to the old value that was half done when it was overwritten."""
        now = self.doubles[self.index]
        if now >= self.was > 0.0 and not removed(now):
            self.doubles[self.index] = self.value


def _edit(mapping: WritableMapping, prefix: str, positions: list[int], value: float) -> list[_Edited]:
    doubles, base = mapping.doubles, math.nan if prefix in ("gauge_max", "gauge_min") else 0.0
    edited = []
    for position in positions:
        index = position // 8
        if prefix in CUMULATIVE:
            edited.append(_Edited(doubles, index, doubles[index], value))
        doubles[index] = value
        # After the value: a holder that notes its base looks at the value again.
        doubles[index + 1] = base
    return edited


def _open(path: Path) -> tuple[WritableMapping, int] | None:
    fd = os.open(path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    try:
        info = os.fstat(fd)
        size = info.st_size & ~7
        return (WritableMapping(fd, size, path), size) if stat.S_ISREG(info.st_mode) and size else None
    finally:
        os.close(fd)


def _samples(data: bytes, family: str, labels: Mapping[str, str]) -> Iterator[tuple[int, dict[str, str]]]:
    """Yield the positions and labels of matching samples. Candidates are found by a text that their keys contain, and then parsed."""
    begin = f"[{json.dumps(family)}, ".encode()
    pairs = [f"{json.dumps(name)}: {json.dumps(value)}".encode() for name, value in labels.items()]
    needle = max(pairs, key=len, default=begin)
    used = min(int.from_bytes(data[:4], "little", signed=True), len(data))
    found = data.find(needle, 0, used)
    while found >= 0:
        start, length = _key_around(data, found, used)
        if start:
            found = start + length
            if data.startswith(begin, start):
                each = _labels(data[start:found], family)
                if each is not None and labels.items() <= each.items():
                    yield found + 8 - (length + 4) % 8, each
        found = data.find(needle, found + 1, used)


def _key_around(data: bytes, found: int, used: int) -> tuple[int, int]:
    """Return the start and length of the key that contains byte `found`; (0, 0) if none does.

    Within a key, `["` comes after at least four bytes of text, which no length of a key looks like.
    """
    start = data.rfind(b'["', 0, found + 2)
    while start >= 12:
        length = int.from_bytes(data[start - 4 : start], "little", signed=True)
        end = start + length
        if start % 8 == 4 and found < end and end + 24 - (length + 4) % 8 <= used and data[end - 1] == ord("]"):
            return start, length
        start = data.rfind(b'["', 0, start + 1)
    return 0, 0


def _labels(key: bytes, family: str) -> dict[str, str] | None:
    try:
        content: Any = json.loads(key)
        return {**content[2]} if content[0] == family else None
    except (ValueError, LookupError, TypeError, RecursionError):
        return None
