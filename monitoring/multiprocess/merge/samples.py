"""The samples of one file as they were read last, and where they can be read again."""

from __future__ import annotations

from array import array
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from monitoring.multiprocess.linux import readonly_mapping

    from .vectors import PlainVectors


class Samples(NamedTuple):
    """One file's samples, in the order of its records. Vectors of `PlainVectors`; `keys` may be shared with other files."""

    #: The number of each sample's key.
    keys: list[int]
    #: The file, mapped; or a copy of the samples, where the file cannot be read.
    memory: readonly_mapping.ReadOnlyMapping | Copy
    #: The first word of the memory: how many bytes of the file were in use, and its lineage.
    head: int
    #: Where each record stands in the memory.
    places: Any
    #: The word there that ends each record's key.
    keywords: Any
    values: Any
    #: The timestamps of most recent gauges, otherwise nothing.
    moments: Any
    #: The lines of the first `placed` samples in the layout; the others are to be written.
    lines: Any
    placed: int = 0
    #: The file's inode in the directory's listing, as it was before the file was read.
    inode: int | None = None

    def copied(self, vectors: PlainVectors) -> Samples:
        """Return the same samples, to be read from now on from a copy: they stay as they are, whatever becomes of the file."""
        copy = Copy(self)
        return self._replace(memory=copy, places=vectors.places(range(32, 32 + 24 * len(self.keys), 24)))


class Copy:
    """Memory of this process that holds samples in place of a mapped file: the head, then three words for each."""

    def __init__(self, samples: Samples) -> None:
        count = len(samples.keys)
        self._words = array("q", bytes(8 + 24 * count))
        self.address, self.size = self._words.buffer_info()[0], 8 + 24 * count
        #: Of the bytes, as those of a mapping.
        self.memory: memoryview[int] = memoryview(self._words).cast("B")
        doubles = self.memory.cast("d")
        self._words[0] = samples.head
        for number in range(count):
            self._words[1 + 3 * number] = int(samples.keywords[number])
            doubles[2 + 3 * number] = samples.values[number]
            if len(samples.moments):
                doubles[3 + 3 * number] = samples.moments[number]
