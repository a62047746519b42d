from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
import zstandard

from app.integrations import sigmalang
from tests.app.conftest import MAX_DOCUMENT_BYTES
from tests.app.problems import RAW, refuse
from tests.app.scraped import moved, samples

if TYPE_CHECKING:
    from tests.server_process import Served

DOCUMENT = b"".join(json.dumps({"number": n * 7919 % 1000, "square": n * n}).encode() for n in range(2000))


@pytest.mark.parametrize("document", [DOCUMENT[:2000], DOCUMENT])
def test_a_level_is_what_zstandard_calls_it(served: Served, document: bytes) -> None:
    sizes = {}
    for level in (1, 3, 19):
        frame = served.ask("POST", f"/v1/compress?level={level}", document, RAW).body
        assert zstandard.decompress(frame) == document
        sizes[level] = len(frame)
    assert sizes[19] < sizes[1]
    assert len(served.ask("POST", "/v1/compress", document, RAW).body) == sizes[3]
    plain = zstandard.ZstdCompressor(level=3, write_checksum=True).compress(document)
    assert sizes[3] == len(plain), "the default is what it was"


@pytest.mark.parametrize("level", ["0", "20", "-1", "x", "", "3.5", "1e1", "%C2%B2", "99999999999"])
def test_nonsense_is_refused_with_a_reason_and_counted(served: Served, level: str) -> None:
    before = samples(served)
    refuse(served.ask("POST", f"/v1/compress?level={level}", b"x", RAW), 422, "bad_level")
    assert moved(served, before) == {'compression_requests_total{status="error"}': 1}


def test_no_level_needs_more_memory_than_is_promised() -> None:
    for level in sigmalang.LEVELS:
        parameters = zstandard.ZstdCompressionParameters.from_level(level, source_size=sigmalang._TABLES_FOR_BYTES)
        assert parameters.estimated_compression_context_size() < 40 * 1024 * 1024


def test_a_long_document_is_the_same_at_once_and_in_pieces(served: Served) -> None:
    document = (DOCUMENT * (MAX_DOCUMENT_BYTES // len(DOCUMENT) + 1))[:MAX_DOCUMENT_BYTES]
    frame = served.ask("POST", "/v1/compress?level=9", document, RAW)
    assert frame.headers["content-length"] == str(len(frame.body))
    assert zstandard.frame_content_size(frame.body) == len(document)
    pieces = (document[place : place + 70_000] for place in range(0, len(document), 70_000))
    chunked = served.ask("POST", "/v1/compress?level=9", pieces, RAW).body
    assert zstandard.ZstdDecompressor().decompressobj().decompress(chunked) == document
    restored = served.ask("POST", "/v1/decompress", chunked, RAW)
    assert restored.body == document
    assert restored.headers["content-length"] == str(len(document))
