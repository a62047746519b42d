"""Counts each change of a breaker's state once, also where the process that writes it is killed half way.

Before a process adds to its counter it notes in the breaker's file whose counter that is, and its value. The next process that finds
such a note compares: until then no process adds to that counter, so a greater value means that the addition was made.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from monitoring.catalogue.breaker import circuit_breaker_transitions
from monitoring.catalogue.prefix import PREFIX
from monitoring.multiprocess import current_slot, read_samples
from monitoring.tracking.children import child

from . import state_layout as layout

if TYPE_CHECKING:
    from collections.abc import Iterator

_FAMILY = f"{PREFIX}circuit_breaker_transitions"


def count_transitions(words: layout.Words, service: str) -> None:
    """Add to the metric the changes that it lacks; the caller has locked and settled the words."""
    if words[layout.ADDER]:
        _resolve(words, service)
    for kind in range(len(layout.CHANGES)):
        to = words[layout.COUNTS + kind]
        missing = to - words[layout.COUNTED + kind]
        if missing > 0:
            cell = child(circuit_breaker_transitions, *_labels(service, kind).values())._value
            slot = current_slot()
            if slot is not None and cell.attached:
                words[layout.ADDED_FROM], words[layout.ADDED_TO] = int(cell.get()), to
                words[layout.ADDER] = layout.adder(slot, kind)
            cell.inc(float(missing))
            words[layout.COUNTED + kind] = to
            words[layout.ADDER] = 0


def _resolve(words: layout.Words, service: str) -> None:
    """Complete the note of a process that died: whether its addition was made."""
    slot, kind = layout.added_by(words[layout.ADDER])
    if words[layout.COUNTED + kind] < words[layout.ADDED_TO] and any(
        value > words[layout.ADDED_FROM] for value in _written(slot, _labels(service, kind))
    ):
        words[layout.COUNTED + kind] = words[layout.ADDED_TO]
    words[layout.ADDER] = 0  # the changes that are still missing are added by this process


def _written(slot: int, labels: dict[str, str]) -> Iterator[float]:
    """Yield the value of a slot's counter, if it has one."""
    yield from (sample.value for sample in read_samples(_FAMILY, slot) if sample.labels == labels)


def _labels(service: str, kind: int) -> dict[str, str]:
    old, new = layout.CHANGES[kind]
    return {"service": service, "from_state": layout.STATES[old], "to_state": layout.STATES[new]}
