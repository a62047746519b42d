"""How changes of a breaker's state come to be in the metric, each once, also where the process that writes them is killed half way.

Before a process adds to its counter it leaves in the breaker's file whose counter that is and what it shows. Whoever finds that left
looks there: nobody adds to that counter before it is cleared up, so it shows more exactly where the dead one had come that far.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from monitoring.catalogue import breaker as families
from monitoring.multiprocess import paths
from monitoring.multiprocess.linux import regular_file
from monitoring.multiprocess.storage.value_file import scan
from monitoring.multiprocess.worker.slot_store import store
from monitoring.tracking.children import child

from . import state_layout as layout

if TYPE_CHECKING:
    from collections.abc import Iterator


def tell(words: layout.Words, service: str) -> None:
    """Count in the metric what is not counted there yet; the caller has locked and settled the words."""
    if words[layout.TELLER]:
        _clear_up(words, service)
    for kind in range(len(layout.CHANGES)):
        to = words[layout.COUNTS + kind]
        missing = to - words[layout.COUNTED + kind]
        if missing > 0:
            cell = _cell(service, kind)
            slot = store.slot
            if slot is not None and cell.attached:
                words[layout.TELL_FROM], words[layout.TELL_TO] = int(cell.get()), to
                words[layout.TELLER] = layout.teller(slot, kind)
            cell.inc(float(missing))
            words[layout.COUNTED + kind] = to
            words[layout.TELLER] = 0


def _clear_up(words: layout.Words, service: str) -> None:
    """Somebody died while telling: note what had come to be in the metric."""
    slot, kind = layout.told_by(words[layout.TELLER])
    if words[layout.COUNTED + kind] < words[layout.TELL_TO] and any(
        value > words[layout.TELL_FROM] for value in _shown(slot, _cell(service, kind).key)
    ):
        words[layout.COUNTED + kind] = words[layout.TELL_TO]
    words[layout.TELLER] = 0  # what is left next belongs to another


def _shown(slot: int, key: str) -> Iterator[float]:
    """What a slot's counter shows, if it has one."""
    content = None if store.directory is None else regular_file.read(store.directory / paths.value_file("counter", slot))
    if content is not None and not isinstance(content, str):
        yield from (record.value for record in scan(content[0]).records if record.key.decode() == key)


def _cell(service: str, kind: int) -> Any:
    old, new = layout.CHANGES[kind]
    return child(families.circuit_breaker_transitions, service, layout.STATES[old], layout.STATES[new])._value
