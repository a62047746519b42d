"""ΣLANG: compresses and restores documents with zstandard, within bounds, piece by piece.

Everything here is synchronous. It holds a bounded part of a document in memory, for any length and any input, and raises only
:class:`CodecError`, with a reason.
"""

from __future__ import annotations

import io
from collections import deque
from dataclasses import dataclass
from typing import NoReturn, Protocol

import zstandard

from app.errors import ReasonError

LEVEL = 3
LEVELS = range(1, 20)
"""Above 19 zstandard needs hundreds of MiB for one document."""

_TABLES_FOR_BYTES = 2 * 1024 * 1024
"""The tables of a level are sized for documents of at most this size: 33 MiB at level 19, and the default at level 3."""

_WINDOW_BYTES = 16 * 1024 * 1024
"""The largest window that a frame may require for decompression."""

_LEAST_PIECE_BYTES = 64
_MOST_PIECE_BYTES = 512
_MUCH_BYTES = 512 * 1024
"""A repeated block of 128 KiB takes four bytes, so one piece may decompress to 2 MiB, or 16 MiB, before its size is checked. After a piece
with a large output the next one is smaller; otherwise it is larger, which is faster."""

_HEADER_BYTES = 18


class CodecError(ReasonError, ValueError, reason="malformed"):
    """A refused document."""


class TooLargeError(CodecError, reason="too_large"):
    """A document that is larger than the bounds allow, in or out."""


@dataclass(frozen=True)
class Bounds:
    """The most bytes of a document, in compression and in decompression."""

    document: int = 1024**3
    unfolded: int = 1024**3

    @property
    def compressed(self) -> int:
        """The most bytes of a frame: the size of the largest incompressible document, so that every frame that we make is accepted."""
        return self.unfolded + self.unfolded // 256 + 64


class Readable(Protocol):
    """The source of a frame."""

    def read(self, size: int, /) -> bytes:
        """Return the next bytes, none at the end."""


class Compressing:
    """Compresses one document to one zstandard frame, which records its checksum and, if `size` is known, its size."""

    def __init__(self, level: int = LEVEL, dictionary: zstandard.ZstdCompressionDict | None = None, size: int | None = None) -> None:
        """Prepare for a document of exactly `size` bytes; None if unknown."""
        parameters = zstandard.ZstdCompressionParameters.from_level(
            level,
            source_size=_TABLES_FOR_BYTES if size is None else min(size, _TABLES_FOR_BYTES),
            dict_size=0 if dictionary is None else len(dictionary),
            write_checksum=1,
            write_content_size=1,
            write_dict_id=1,
        )
        self._compressor = zstandard.ZstdCompressor(dict_data=dictionary, compression_params=parameters)
        self._pieces = self._compressor.compressobj(size=-1 if size is None else size)

    def add(self, piece: bytes) -> bytes:
        """Add the next bytes of the document; return the bytes of the frame that are ready, often none."""
        try:
            return self._pieces.compress(piece)
        except zstandard.ZstdError as error:
            self._refuse(error)

    def finish(self) -> bytes:
        """Return the rest of the frame."""
        try:
            return self._pieces.flush()
        except zstandard.ZstdError as error:
            self._refuse(error)

    @staticmethod
    def _refuse(error: zstandard.ZstdError) -> NoReturn:
        raise CodecError(f"the document does not have the announced size: {error}", "wrong_size") from error


class Unfolding:
    """Decompresses exactly one zstandard frame, and never beyond the bound, whatever size the frame announces."""

    def __init__(self, frame: Readable, most: int, dictionary: zstandard.ZstdCompressionDict | None = None) -> None:
        """Read the frame's header; CodecError if the header is enough to refuse it."""
        self._frame = frame
        self._most = most
        self._out: deque[memoryview] = deque()
        self._waiting = 0
        self._piece_bytes = _LEAST_PIECE_BYTES
        self._unread = memoryview(frame.read(_HEADER_BYTES))
        self._taken = len(self._unread)
        self.size = 0
        """The number of decompressed bytes so far."""
        if not self._unread:
            raise CodecError("the body is empty: a zstandard frame has at least 9 bytes", "empty")
        header = bytes(self._unread)
        try:
            announced = zstandard.frame_content_size(header)
            needed = zstandard.get_frame_parameters(header).dict_id if header.startswith(zstandard.FRAME_HEADER) else 0
            known: zstandard.ZstdDecompressor = (
                zstandard.ZstdDecompressor(max_window_size=_WINDOW_BYTES)
                if dictionary is None
                else zstandard.ZstdDecompressor(dict_data=dictionary, max_window_size=_WINDOW_BYTES)
            )
        except zstandard.ZstdError as error:
            self._malformed(error)
        if announced > most:
            self._too_large(f"{announced} bytes")
        if needed and dictionary is None:
            raise CodecError("the frame was made with a dictionary: name it with ?dictionary=<id>", "dictionary_needed")
        if needed and dictionary is not None and needed != dictionary.dict_id():
            raise CodecError("the frame was made with another dictionary", "wrong_dictionary")
        self._unfolding = known.decompressobj()

    def look_ahead(self, size: int) -> bool:
        """Decompress until `size` bytes are ready; return True if the document ended before that."""
        while self._waiting < size and not self._unfolding.eof:
            self._step()
        return self._unfolding.eof

    def read(self, size: int) -> bytes:
        """Return the next bytes of the document, at most `size`; none at its end, which only a complete frame has."""
        self.look_ahead(size)
        parts = []
        while self._out and size:
            part = self._out.popleft()
            if len(part) > size:
                self._out.appendleft(part[size:])
                part = part[:size]
            parts.append(part)
            size -= len(part)
        self._waiting -= sum(map(len, parts))
        return b"".join(parts)

    def _step(self) -> None:
        if not self._unread:
            self._unread = memoryview(self._frame.read(64 * 1024))
            self._taken += len(self._unread)
            if not self._unread:
                raise CodecError(f"the zstandard frame is cut off after {self._taken} bytes", "truncated")
        piece, self._unread = self._unread[: self._piece_bytes], self._unread[self._piece_bytes :]
        try:
            out = self._unfolding.decompress(piece)
        except zstandard.ZstdError as error:
            self._malformed(error)
        self.size += len(out)
        self._piece_bytes = _LEAST_PIECE_BYTES if len(out) > _MUCH_BYTES else min(self._piece_bytes * 2, _MOST_PIECE_BYTES)
        if self.size > self._most:
            self._too_large("more")
        if out:
            self._out.append(memoryview(out))  # never copied: it may be 16 MiB
            self._waiting += len(out)
        if self._unfolding.eof and (self._unfolding.unused_data or self._unread or self._frame.read(1)):
            raise CodecError("bytes follow the end of the zstandard frame; send one frame", "trailing_bytes")

    @staticmethod
    def _malformed(error: zstandard.ZstdError) -> NoReturn:
        raise CodecError(f"the body is not a complete zstandard frame: {error}") from error

    def _too_large(self, much: str) -> NoReturn:
        raise TooLargeError(f"the frame decompresses to {much}; at most {self._most} bytes are allowed", "unfolds_too_large")


def compress(document: bytes, level: int = LEVEL, dictionary: zstandard.ZstdCompressionDict | None = None) -> bytes:
    """Return one zstandard frame that records the document's size and its checksum."""
    compressing = Compressing(level, dictionary, len(document))
    return compressing.add(document) + compressing.finish()


def decompress(frame: bytes, most: int = Bounds.unfolded, dictionary: zstandard.ZstdCompressionDict | None = None) -> bytes:
    """Return the document of exactly one zstandard frame."""
    unfolding = Unfolding(io.BytesIO(frame), most, dictionary)
    unfolding.look_ahead(most + 1)
    return unfolding.read(most)
