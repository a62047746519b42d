"""The form of a blob: whatever is not exactly what was sealed, under the same name, is refused."""

from __future__ import annotations

import os

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.integrations.vault.encryption import CHUNK_BYTES, Opener, Sealer, plain_size
from app.integrations.vault.errors import TamperedError

KEY = bytes(range(32))
SEALED_BYTES = CHUNK_BYTES + 28
HEAD_BYTES = 12
SIZES = (0, 1, 100, CHUNK_BYTES - 1, CHUNK_BYTES, CHUNK_BYTES + 1, 2 * CHUNK_BYTES, 3 * CHUNK_BYTES + 17)


def seal(content: bytes, about: bytes = b"name", piece: int = 100_000) -> bytes:
    sealer = Sealer(KEY, about)
    sealed = bytearray(sealer.head)
    for at in range(0, len(content), piece):
        for chunk in sealer.add(content[at : at + piece]):
            sealed += chunk
    sealed += sealer.finish()
    assert sealer.size == len(content)
    return bytes(sealed)


def unseal(sealed: bytes, about: bytes = b"name", piece: int = 100_000, stored: int | None = None) -> bytes:
    opener = Opener(KEY, about, len(sealed) if stored is None else stored)
    plain = bytearray()
    for at in range(0, len(sealed), piece):
        for chunk in opener.add(sealed[at : at + piece]):
            plain += chunk
    opener.finish()
    return bytes(plain)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("piece", [1000, 100_000, 1 << 20])
def test_there_and_back(size: int, piece: int) -> None:
    content = os.urandom(size)
    sealed = seal(content, piece=piece)
    assert plain_size(len(sealed)) == size
    assert content[:64] not in sealed or size < 64
    for other in (777, 1 << 20):
        assert unseal(sealed, piece=other) == content


def test_the_same_bytes_are_never_sealed_alike() -> None:
    assert seal(b"x" * 100) != seal(b"x" * 100)


@settings(deadline=None, max_examples=60)
@given(data=st.data(), size=st.sampled_from(SIZES))
def test_a_flipped_bit_is_refused_and_nothing_behind_it_is_given(data: st.DataObject, size: int) -> None:
    content = os.urandom(size)
    sealed = bytearray(seal(content))
    at = data.draw(st.integers(0, len(sealed) * 8 - 1))
    sealed[at // 8] ^= 1 << at % 8
    chunks = Opener(KEY, b"name", len(sealed)).add(bytes(sealed))
    plain = bytearray()
    with pytest.raises(TamperedError):
        plain.extend(byte for chunk in chunks for byte in chunk)
    assert content.startswith(bytes(plain))
    assert len(plain) <= max(0, at // 8 - HEAD_BYTES)


@pytest.mark.parametrize("size", SIZES)
def test_a_cut_tail_is_refused(size: int) -> None:
    sealed = seal(os.urandom(size))
    cuts = {0, 1, HEAD_BYTES, len(sealed) // 2, len(sealed) - 1, len(sealed) - SEALED_BYTES, HEAD_BYTES + SEALED_BYTES}
    for cut in sorted(each for each in cuts if 0 <= each < len(sealed)):
        # Both where the store says the shorter length, and where the bytes end before what it said.
        for stored in (cut, len(sealed)):
            with pytest.raises(TamperedError):
                unseal(sealed[:cut], stored=stored)


def test_more_bytes_are_refused() -> None:
    sealed = seal(b"x" * 1000)
    for stored in (len(sealed), len(sealed) + 28):
        with pytest.raises(TamperedError):
            unseal(sealed + bytes(28), stored=stored)


def test_swapped_and_repeated_chunks_are_refused() -> None:
    sealed = seal(os.urandom(3 * CHUNK_BYTES + 5))
    head, body = sealed[:HEAD_BYTES], sealed[HEAD_BYTES:]
    chunks = [body[at : at + SEALED_BYTES] for at in range(0, len(body), SEALED_BYTES)]
    for order in ([1, 0, 2, 3], [0, 0, 2, 3], [0, 2, 3], [0, 1, 2], [0, 1, 2, 3, 3], [3, 0, 1, 2]):
        with pytest.raises(TamperedError):
            unseal(head + b"".join(chunks[index] for index in order))


def test_another_name_or_key_is_refused() -> None:
    sealed = seal(b"content")
    with pytest.raises(TamperedError):
        unseal(sealed, b"eman")
    opener = Opener(KEY[::-1], b"name", len(sealed))
    with pytest.raises(TamperedError):
        list(opener.add(sealed))


@pytest.mark.parametrize("stored", [0, 11, 12, 39, HEAD_BYTES + SEALED_BYTES + 27])
def test_a_length_that_no_blob_has_is_refused(stored: int) -> None:
    with pytest.raises(TamperedError):
        plain_size(stored)
