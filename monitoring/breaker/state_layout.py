"""The 64-bit words in the file of a breaker, which all workers have mapped.

`CURRENT` has the state and its generation in one word, so that no death can leave one without the other. Generations count from 1 and
never repeat. A change is prepared, committed by that word, and then counted. A process that finds it committed and not counted counts
it: to set `COUNTS` to the prepared number again adds nothing. Behind the header each process has a region of its own, in which only it
counts: for each tenth of the window the calls and failures of one generation. The failures of a dead worker stay there.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    Words = memoryview[int]

CLOSED, OPEN, HALF_OPEN = range(3)
STATES = ("closed", "open", "half_open")
#: The kinds of changes: from which state to which. A kind is the index of its count in `COUNTS`.
CHANGES = ((CLOSED, OPEN), (OPEN, HALF_OPEN), (HALF_OPEN, OPEN), (HALF_OPEN, CLOSED))

NAME = b"breaker1"
MAGIC = int.from_bytes(NAME, "little")
#: RETRY_AT is in nanoseconds of the breaker's clock. COUNTS: changes of each kind. COUNTED: those of them that the metric has. ADDER: the
#: slot of the process that adds to the metric now, and the kind; 0 for none. Its counter was ADDED_FROM, and COUNTED will be ADDED_TO.
MAGIC_AT, CURRENT, RETRY_AT, PREPARED, KIND, AFTER, REGIONS_USED = range(7)
COUNTS, COUNTED = 8, 12
ADDER, ADDED_FROM, ADDED_TO = 16, 17, 18
HEADER_WORDS = 64
REGION_WORDS = 32
#: The word behind a region's buckets, which is MAGIC.
REGION_MARK = 31
#: Region 0 belongs to all processes that found no other one free.
REGIONS = 128
BUCKETS = 10
SIZE = 8 * (HEADER_WORDS + REGIONS * REGION_WORDS)
_EPOCHS = 1 << 32
_MOST = 1 << 62


def fresh(generation: int) -> list[int]:
    """Return the header of a closed breaker."""
    words = [0] * HEADER_WORDS
    words[MAGIC_AT], words[CURRENT] = MAGIC, word(generation, CLOSED)
    return words


def valid(words: Sequence[int]) -> bool:
    """Return whether a header can have been written by a breaker."""
    if (
        words[MAGIC_AT] != MAGIC
        or not word(1, CLOSED) <= words[CURRENT] < _MOST
        or state_of(words[CURRENT]) not in {CLOSED, OPEN, HALF_OPEN}
    ):
        return False
    if not (0 <= words[KIND] < len(CHANGES) and 0 <= words[REGIONS_USED] < REGIONS and words[RETRY_AT] >= 0):
        return False
    kinds = range(len(CHANGES))
    return 0 <= words[ADDER] < _EPOCHS and all(0 <= words[COUNTED + kind] <= words[COUNTS + kind] + 1 < _MOST for kind in kinds)


def word(generation: int, state: int) -> int:
    """Return the word of a state."""
    return generation << 2 | state


def state_of(current: int) -> int:
    """Return the state in a word."""
    return current & 3


def generation_of(current: int) -> int:
    """Return the generation in a word."""
    return current >> 2


def adder(slot: int, kind: int) -> int:
    """Return the word of the process that adds to the metric."""
    return (slot + 1) << 2 | kind


def added_by(word: int) -> tuple[int, int]:
    """Return the slot and the kind in that word."""
    return (word >> 2) - 1, word & 3


def region_at(number: int) -> int:
    """Return the index of a region's first word."""
    return HEADER_WORDS + number * REGION_WORDS


def settle(words: Words) -> None:
    """Count a change that a process committed and did not live to count."""
    if words[PREPARED] == generation_of(words[CURRENT]):
        words[COUNTS + words[KIND]] = words[AFTER]


def change(words: Words, state: int, retry_at: int) -> None:
    """Change to another state; the caller has locked and settled the words."""
    current = words[CURRENT]
    kind, generation = CHANGES.index((state_of(current), state)), generation_of(current) + 1
    words[PREPARED] = 0
    words[KIND], words[AFTER] = kind, words[COUNTS + kind] + 1
    words[PREPARED] = generation
    words[RETRY_AT] = retry_at
    words[CURRENT] = word(generation, state)
    settle(words)


def key_of(generation: int, now: int, width: int) -> int:
    """Return the key of a tenth of the window, `width` nanoseconds long, in one generation."""
    return generation * _EPOCHS + now // width % _EPOCHS


def record(words: Words, region: int, key: int, failures: int) -> None:
    """Count a call in the bucket of this key, while no other process writes to the region."""
    at = region + key % BUCKETS * 3
    if words[at] != key:
        words[at] = 0  # a reader leaves out a bucket that is half made
        words[at + 1] = words[at + 2] = 0
        words[at] = key
    words[at + 1] += 1
    words[at + 2] += failures


def recorded(words: Words, newest: int) -> tuple[int, int]:
    """Return the calls and failures of all processes in the window that ends with the bucket of this key."""
    oldest = newest - BUCKETS + 1
    calls = failures = 0
    for number in range(words[REGIONS_USED] + 1):
        start = region_at(number)
        for at in range(start, start + 3 * BUCKETS, 3):
            if oldest <= words[at] <= newest:
                calls += words[at + 1]
                failures += words[at + 2]
    return calls, failures
