"""ΣLANG: compression. The ratio over time is the rate of the sum of original sizes over that of compressed sizes."""

from .buckets import BYTES, WORK_SECONDS
from .declaration import counter, histogram

sigmalang_compression_requests = counter(
    "sigmalang_compression_requests", "Compressions by outcome: success, error, timeout, cancelled.", ("status",)
)
sigmalang_decompression_requests = counter(
    "sigmalang_decompression_requests", "Decompressions by outcome: success, error, timeout, cancelled.", ("status",)
)
sigmalang_compression_ratio = histogram(
    "sigmalang_compression_ratio", "Original size over compressed size.", (1, 2, 5, 10, 15, 20, 25, 30, 40, 50)
)
sigmalang_compression_duration_seconds = histogram(
    "sigmalang_compression_duration_seconds", "Duration of a successful compression.", WORK_SECONDS
)
sigmalang_decompression_duration_seconds = histogram(
    "sigmalang_decompression_duration_seconds", "Duration of a successful decompression.", WORK_SECONDS
)
sigmalang_original_size_bytes = histogram("sigmalang_original_size_bytes", "Size of documents before compression.", BYTES)
sigmalang_compressed_size_bytes = histogram("sigmalang_compressed_size_bytes", "Size of documents after compression.", BYTES)
