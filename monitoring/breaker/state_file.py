"""The file of a breaker, mapped by each worker.

All that a worker holds there hangs on locks of open files, and is free again when it dies: the right to change the state, its region,
the right to probe.
"""

from __future__ import annotations

import hashlib
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

from monitoring.multiprocess import SharedState

from . import state_layout as layout

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

#: Bytes of the file that are locked: for the probe, and one for each region.
_PROBE, _REGION = 0, 15


class StateFile(SharedState):
    """The state of one service's breaker, opened at its first use by each process."""

    def __init__(self, service: str, rebuilt: Callable[[], None]) -> None:
        self._rebuilt = rebuilt
        #: Held by a thread that counts in the region. A signal handler may call through the breaker while its own thread is in there.
        self.counting = threading.RLock()
        #: The last generation that this process saw. A damaged state goes on with one that was never there before.
        self._generation = 0
        name = f"breaker-{hashlib.blake2b(service.encode(), digest_size=8).hexdigest()}"
        super().__init__(name, layout.SIZE // 8, magic=layout.NAME, subject=f"the breaker of {service!r}", header=layout.HEADER_WORDS)

    def record(self, key: int, failures: int) -> None:
        """Count a call in the bucket of this key."""
        with self.counting:
            if self.own_region:
                layout.record(self.words, self.region, key, failures)
                return
        with self.editing():
            self.record_here(key, failures)

    def record_here(self, key: int, failures: int) -> None:
        """Count as `record`, while no other process edits."""
        with self.counting:
            layout.record(self.words, self.region, key, failures)

    @contextmanager
    def editing(self) -> Iterator[layout.Words]:
        """Yield the words, settled, to this process alone; TimeoutError as `SharedState.editing`."""
        with super().editing() as words:
            layout.settle(words)
            yield words
            self._generation = layout.generation_of(self.words[layout.CURRENT])

    def try_probe(self) -> int | None:
        """Take the right to probe, which one call of all processes has at a time; return what `drop` needs, None where another has it."""
        return self.hold(_PROBE)

    def fresh(self) -> list[int]:
        return layout.fresh(self._generation + 1)

    def valid(self, words: layout.Words) -> bool:
        return layout.valid(words)

    def intact(self) -> bool:
        """Return whether the state is good, and what this process counts is in the file: pages that were lost once are its own zeros."""
        return super().intact() and self.words[self.region + layout.REGION_MARK] == layout.MAGIC

    def attached(self, claim: Callable[[int], bool]) -> None:
        number = next((number for number in range(1, layout.REGIONS) if claim(_REGION + number)), 0)
        self.words[layout.region_at(number) + layout.REGION_MARK] = layout.MAGIC
        self.words[layout.REGIONS_USED] = max(self.words[layout.REGIONS_USED], number)
        self.region, self.own_region = layout.region_at(number), number > 0

    def detached(self) -> None:
        #: The first word of the region, and whether no other process counts in it.
        self.region, self.own_region = layout.region_at(0), False

    def damaged(self, path: str) -> None:
        super().damaged(path)
        self._rebuilt()

    def close(self) -> None:
        """Let go of the file once no thread counts in it."""
        with self.counting:
            super().close()

    def forget(self) -> None:
        """Forget the file in a forked child, and with it a thread of the parent that was counting."""
        self.counting = threading.RLock()
        super().forget()
