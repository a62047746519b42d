from __future__ import annotations

import tracemalloc

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from app.integrations import sigmalang

MOST = 16 * 1024 * 1024
BOUNDS = sigmalang.Bounds(MOST, MOST)


def streamed(document: bytes, **parameters: int) -> bytes:
    """A frame that does not announce its size, as a pipe through the zstd tool gives."""
    settings = zstandard.ZstdCompressionParameters(write_content_size=False, **parameters)  # type: ignore[arg-type]
    pieces = zstandard.ZstdCompressor(compression_params=settings).compressobj()
    return pieces.compress(document) + pieces.flush()


@given(st.binary(max_size=4096))
def test_what_is_compressed_comes_back(document: bytes) -> None:
    assert sigmalang.decompress(sigmalang.compress(document)) == document
    assert sigmalang.decompress(streamed(document)) == document


@given(st.binary(max_size=600))
def test_any_bytes_are_decompressed_or_refused(frame: bytes) -> None:
    for body in (frame, zstandard.FRAME_HEADER + frame):
        try:
            sigmalang.decompress(body)
        except sigmalang.CodecError as error:
            assert error.reason  # noqa: PT017 - any other exception fails the test


@pytest.mark.parametrize("size", [0, 1, 511, 512, 513, MOST])
def test_sizes_at_the_bounds(size: int) -> None:
    document = (b"0123456789abcdef" * (size // 16 + 1))[:size]
    assert sigmalang.decompress(sigmalang.compress(document)) == document


def test_the_largest_incompressible_document_comes_back() -> None:
    import random

    document = random.Random(1).randbytes(MOST)
    frame = sigmalang.compress(document)
    assert len(document) < len(frame) <= BOUNDS.compressed
    assert sigmalang.decompress(frame, MOST) == document


def test_one_byte_too_many_is_refused() -> None:
    document = bytes(MOST + 1)
    for frame in (zstandard.compress(document), streamed(document)):
        with pytest.raises(sigmalang.TooLargeError) as unfolded:
            sigmalang.decompress(frame, MOST)
        assert unfolded.value.reason == "unfolds_too_large"


def test_a_bomb_costs_no_more_memory_than_a_document() -> None:
    bomb = streamed(bytes(512 * 1024 * 1024))
    assert len(bomb) < 64 * 1024
    tracemalloc.start()
    try:
        with pytest.raises(sigmalang.TooLargeError):
            sigmalang.decompress(bomb, MOST)
        assert tracemalloc.get_traced_memory()[1] < 4 * MOST
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    ("frame", "reason"),
    [
        (b"", "empty"),
        (b"plain text", "malformed"),
        (zstandard.FRAME_HEADER, "malformed"),
        (sigmalang.compress(b"document" * 100)[:-1], "truncated"),
        (streamed(b"document" * 100)[:-3], "truncated"),
        (sigmalang.compress(b"document") + b"\0", "trailing_bytes"),
        (sigmalang.compress(b"a") * 2, "trailing_bytes"),
        (sigmalang.compress(bytes(1000)) + bytes(2000), "trailing_bytes"),
        (streamed(b"document", window_log=27), "malformed"),
    ],
)
def test_each_refusal_has_a_reason(frame: bytes, reason: str) -> None:
    with pytest.raises(sigmalang.CodecError) as refused:
        sigmalang.decompress(frame)
    assert refused.value.reason == reason
    assert str(refused.value)


def test_a_damaged_document_is_noticed_by_its_checksum() -> None:
    frame = bytearray(sigmalang.compress(b"0123456789"))
    frame[-6] ^= 1
    with pytest.raises(sigmalang.CodecError):
        sigmalang.decompress(bytes(frame))
