"""The format of a blob: a head, then chunks, each encrypted with AES-256-GCM under the blob's own data key and a fresh nonce.

Each chunk is authenticated with the head, the blob's id, the object's name, its own index, and whether it is the last. Bytes that were
changed, swapped, cut off, or moved to another name are refused, chunk by chunk.
"""

from __future__ import annotations

import os
import struct
from typing import TYPE_CHECKING

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from app.integrations.vault.errors import TamperedError
from app.integrations.vault.keyring import NONCE_BYTES, TAG_BYTES

if TYPE_CHECKING:
    from collections.abc import Iterator

CHUNK_BYTES = 256 * 1024
"""Plain bytes of every chunk but the last, which has at most this many."""

_HEAD = struct.Struct(">8sI")
_ABOUT = struct.Struct(">Q?")
_MAGIC = b"NVBLOB1\n"
_EXTRA_BYTES = NONCE_BYTES + TAG_BYTES
_SEALED_BYTES = CHUNK_BYTES + _EXTRA_BYTES


class Sealer:
    """Encrypts one object: the blob is `head`, then the results of all `add`, then that of `finish`."""

    def __init__(self, data_key: bytes, about: bytes) -> None:
        """`about` identifies the object; decryption needs the same value."""
        self.head = _HEAD.pack(_MAGIC, CHUNK_BYTES)
        #: Plain bytes so far.
        self.size = 0
        self._cipher = AESGCM(data_key)
        self._about = self.head + about
        self._kept = bytearray()
        self._index = 0

    def add(self, piece: bytes) -> Iterator[bytes]:
        """Return the full chunks, except one that may be the last."""
        self.size += len(piece)
        self._kept += piece
        while len(self._kept) > CHUNK_BYTES:
            chunk = bytes(self._kept[:CHUNK_BYTES])
            del self._kept[:CHUNK_BYTES]
            yield self._seal(chunk, last=False)

    def finish(self) -> bytes:
        """Return the last chunk."""
        return self._seal(bytes(self._kept), last=True)

    def _seal(self, chunk: bytes, *, last: bool) -> bytes:
        nonce = os.urandom(NONCE_BYTES)
        sealed = self._cipher.encrypt(nonce, chunk, self._about + _ABOUT.pack(self._index, last))
        self._index += 1
        return nonce + sealed


class Opener:
    """Decrypts a blob of `stored` bytes, in pieces of any size; TamperedError at the first chunk that is not genuine."""

    def __init__(self, data_key: bytes, about: bytes, stored: int) -> None:
        self._cipher = AESGCM(data_key)
        self._about = about
        self._left = stored
        self._kept = bytearray()
        self._index = 0
        self._begun = False
        self._done = False

    def add(self, piece: bytes) -> Iterator[bytes]:
        """Return the plain bytes of the chunks that are complete now."""
        self._left -= len(piece)
        if self._left < 0:
            raise TamperedError("the blob has bytes after its end")
        self._kept += piece
        if not self._begun:
            if len(self._kept) < _HEAD.size:
                return
            self._begin()
        while len(self._kept) > _SEALED_BYTES or (self._left == 0 and self._kept):
            sealed = bytes(self._kept[:_SEALED_BYTES])
            del self._kept[:_SEALED_BYTES]
            yield self._open(sealed, last=self._left == 0 and not self._kept)

    def finish(self) -> None:
        """End the blob; TamperedError if a part is missing."""
        if not self._done:
            raise TamperedError("the object's end is missing")

    def _begin(self) -> None:
        magic, chunk = _HEAD.unpack_from(self._kept)
        if (magic, chunk) != (_MAGIC, CHUNK_BYTES):
            raise TamperedError("the blob has no valid head")
        self._about = bytes(self._kept[: _HEAD.size]) + self._about
        self._begun = True
        del self._kept[: _HEAD.size]

    def _open(self, sealed: bytes, *, last: bool) -> bytes:
        try:
            plain = self._cipher.decrypt(sealed[:NONCE_BYTES], sealed[NONCE_BYTES:], self._about + _ABOUT.pack(self._index, last))
        except (InvalidTag, ValueError):
            raise TamperedError(f"chunk {self._index} was changed") from None
        self._index += 1
        self._done = last
        return plain


def plain_size(stored: int) -> int:
    """Return the size of an object from that of its blob; TamperedError if no blob has this size."""
    body = stored - _HEAD.size
    chunks = -(-body // _SEALED_BYTES)
    if body < _EXTRA_BYTES or body - (chunks - 1) * _SEALED_BYTES < _EXTRA_BYTES:
        raise TamperedError("the object's end is missing")
    return body - chunks * _EXTRA_BYTES
