"""ΣLANG: compresses and restores documents, within fixed bounds.

Every function here is plain and synchronous; it promises to hold at most one document in and one document out, whatever
the bytes say, and to raise :class:`CodecError` with a reason instead of anything else.
"""

import zstandard

MAX_DOCUMENT_BYTES = 16 * 1024 * 1024
"""The largest document: the most that is compressed, and the most that a compressed one may unfold to."""

MAX_COMPRESSED_BYTES = MAX_DOCUMENT_BYTES + MAX_DOCUMENT_BYTES // 256 + 64
"""The largest compressed document: what the largest incompressible one may grow to, so that all that we give out comes back."""

LEVEL = 3


class CodecError(ValueError):
    """A document that is refused. ``reason`` is one fixed word, for programs; the text is for people."""

    reason = "malformed"

    def __init__(self, detail: str, reason: str | None = None) -> None:
        """Keep the reason; the class's own where none is given."""
        super().__init__(detail)
        if reason is not None:
            self.reason = reason


class TooLargeError(CodecError):
    """A document that is larger than the bounds allow, in or out."""

    reason = "too_large"


def compress(document: bytes) -> bytes:
    """Give one zstandard frame that records the document's size and its checksum."""
    if len(document) > MAX_DOCUMENT_BYTES:
        detail = f"the document has {len(document)} bytes; at most {MAX_DOCUMENT_BYTES} are compressed"
        raise TooLargeError(detail)
    return zstandard.ZstdCompressor(level=LEVEL, write_checksum=True, write_content_size=True).compress(document)


def decompress(frame: bytes) -> bytes:
    """Give the document in exactly one zstandard frame, and never more than the bound, whatever the frame announces."""
    if not frame:
        detail = "the body is empty: a zstandard frame has at least 9 bytes"
        raise CodecError(detail, "empty")
    if len(frame) > MAX_COMPRESSED_BYTES:
        detail = f"the frame has {len(frame)} bytes; at most {MAX_COMPRESSED_BYTES} are decompressed"
        raise TooLargeError(detail)
    try:
        announced = zstandard.frame_content_size(frame)
        if announced > MAX_DOCUMENT_BYTES:
            raise TooLargeError(_unfolds_to(announced), "unfolds_too_large")
        document = _unfold(frame)
    except zstandard.ZstdError as error:
        detail = f"the body is no complete zstandard frame: {error}"
        raise CodecError(detail) from error
    if document is None:
        raise TooLargeError(_unfolds_to(None), "unfolds_too_large")
    return document


def _unfold(frame: bytes) -> bytes | None:
    """Decompress piece by piece; None where more comes out than is allowed."""
    unfolding = zstandard.ZstdDecompressor(max_window_size=MAX_DOCUMENT_BYTES).decompressobj()
    pieces: list[bytes] = []
    size = 0
    with memoryview(frame) as view:
        for start in range(0, len(view), _PIECE_BYTES):
            piece = unfolding.decompress(view[start : start + _PIECE_BYTES])
            size += len(piece)
            if size > MAX_DOCUMENT_BYTES:
                return None
            pieces.append(piece)
            if unfolding.eof:
                trailing = len(unfolding.unused_data) + max(0, len(view) - start - _PIECE_BYTES)
                if trailing:
                    detail = f"{trailing} bytes follow the end of the zstandard frame; send one frame"
                    raise CodecError(detail, "trailing_bytes")
                return b"".join(pieces)
    detail = f"the zstandard frame is cut off after {len(frame)} bytes"
    raise CodecError(detail, "truncated")


_PIECE_BYTES = 512
"""A repeated block of 128 KiB takes four bytes, so one piece unfolds to 16 MiB at the very most before its size is checked."""


def _unfolds_to(size: int | None) -> str:
    much = "more" if size is None else f"{size} bytes"
    return f"the frame unfolds to {much}; at most {MAX_DOCUMENT_BYTES} bytes are allowed"
