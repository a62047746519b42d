"""The samples of one family as they are in the workers' files, for a process that must know what another one has counted."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, NamedTuple

from .linux import regular_file
from .storage import paths
from .storage.record_format import removed, scan
from .worker.slot_store import store

if TYPE_CHECKING:
    from collections.abc import Iterator


class WrittenSample(NamedTuple):
    """One value of a slot's file. `name` is the sample's: `_total`, `_sum` and `_bucket` are part of it."""

    slot: int
    name: str
    labels: dict[str, str]
    value: float


def read_samples(family: str, slot: int | None = None) -> Iterator[WrittenSample]:
    """Yield what each slot (or just one) has written of a family, dead workers' too; of a damaged file what precedes the damage.

    `family` is the name as it was declared, without `_total`. Not on an event loop without `slot`: all files are read.
    """
    if store.directory is None:
        return
    start = json.dumps([family])[:-1].encode()
    for name in os.listdir(store.directory):
        found = paths.slot_of(name)
        if found is None or slot not in (None, found):
            continue
        content = regular_file.read(store.directory / name)
        for record in scan(content[0]).records if not isinstance(content, str) else ():
            if record.key.startswith(start) and not removed(record.value):
                try:
                    _, sample, labels, _ = json.loads(record.key)
                except ValueError:  # damaged, though the record's ends are good
                    continue
                yield WrittenSample(found, sample, labels, record.value)
